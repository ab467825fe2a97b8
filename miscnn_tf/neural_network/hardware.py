"""Which devices, which precision, XLA or not: decided from what is there, and said in one line of the log."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf

from miscnn_tf.cluster import Cluster, read_cluster
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.cpu_precision import bfloat16_speedup, cpu_computes_bfloat16
from miscnn_tf.neural_network.workers import Workers, cluster_strategy
from miscnn_tf.nvidia import NVIDIA_TRACES
from miscnn_tf.onednn import VARIABLE, comes_too_late
from miscnn_tf.processing.batches import Share

__all__ = [
    "PRECISIONS",
    "Hardware",
    "choose_hardware",
    "cpu_computes_bfloat16",
    "precision_scope",
]

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

# Half precision is faster from the first GPUs with tensor cores on.
_TENSOR_CORES = (7, 0)
# A smaller gain is not worth the fewer digits.
_PAYS = 1.1


@dataclass(frozen=True)
class Hardware:
    """What a model is built, compiled and run with.

    Attributes:
        strategy: TensorFlow's distribution strategy; the default one (a single device), a MirroredStrategy (several
            devices) or a MultiWorkerMirroredStrategy (several machines).
        precision: Keras' dtype policy of the model: "float32", "mixed_bfloat16" or "mixed_float16".
        jit_compile: What ``model.compile(jit_compile=...)`` is to be given.
        description: One line for people: what was chosen, and why.
        cluster: The machines that train together, or None.

    Example:
        >>> hardware = choose_hardware()
        >>> with hardware.scope():
        ...     model = architecture.create_model((32, 32, 1))  # doctest: +SKIP
    """

    strategy: tf.distribute.Strategy
    precision: str
    jit_compile: bool
    description: str
    cluster: Cluster | None = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Build and compile models inside this: on these devices, in this precision."""
        with self.strategy.scope(), precision_scope(self.precision):
            yield

    @property
    def replicas(self) -> int:
        """How many devices share each batch, on all machines together."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def share(self) -> Share:
        """The part of each batch that this machine's devices work on."""
        if self.cluster is None:
            return Share(self.replicas, 0, self.replicas)
        own = self.replicas // len(self.cluster.addresses)
        return Share(self.replicas, self.cluster.index * own, own)

    @property
    def workers(self) -> Workers:
        """The machines that train together, to agree on something; alone, this one agrees with itself."""
        return Workers(self.strategy, self.cluster)


@contextmanager
def precision_scope(precision: str) -> Iterator[None]:
    """Layers and models made inside have this dtype policy; Keras' own setting is as before afterwards.

    Args:
        precision: "float32", "mixed_bfloat16", "mixed_float16", or another of Keras' policies.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def choose_hardware(
    multi_gpu: bool = False,
    precision: str = "auto",
    deterministic: bool = False,
    jit_compile: bool | Literal["auto"] = "auto",
    many_sizes: bool = False,
) -> Hardware:
    """Decide how to use this machine, and log it with the reasons.

    ============================== ================ ======================================
    device                         precision "auto" XLA "auto"
    ============================== ================ ======================================
    CPU that bfloat16 makes faster mixed_bfloat16   off: it has no fast 3D convolution
    other CPU                      float32          off
    GPU with tensor cores          mixed_float16    on; off where several share each batch
    older GPU                      float32          the same
    ============================== ================ ======================================

    XLA compiles for one size of input, so that whole images, which come in many, are never compiled.

    Whether bfloat16 makes a CPU faster is measured, in 0.2 s, where it has the instructions. With `deterministic` a CPU
    computes in float32: a measurement may come out differently on the next day.

    Where ``TF_CONFIG`` is set in the environment, all machines that it names train one network together (a
    MultiWorkerMirroredStrategy, with all their GPUs), in the precision of the first of them.

    A GPU that is hidden (``CUDA_VISIBLE_DEVICES``, ``tf.config.set_visible_devices``) is not there. Memory of a GPU is
    taken as it is needed, not all at once. Call it before the first TensorFlow operation.

    Args:
        multi_gpu: Train on all visible GPUs (a MirroredStrategy). Without a GPU, on all logical CPU devices.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        deterministic: Make the same seed give the same numbers on the same machine, to the last bit, for the rest of
            the program. Training was 15 % slower with it on two cores. Another kind of device, number of cores or
            precision still gives other numbers.
        jit_compile: Whether the training step and prediction are compiled by XLA.
        many_sizes: Whether the network's input is whole images instead of patches.

    Raises:
        ConfigurationError: If `precision`, `jit_compile` or ``TF_CONFIG`` cannot be used.

    Example:
        >>> choose_hardware(precision="float32").precision
        'float32'
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
    if jit_compile not in ("auto", True, False):
        raise ConfigurationError(f"jit_compile={jit_compile!r} must be 'auto', True or False")
    cluster = read_cluster()
    gpus = tf.config.get_visible_devices("GPU")
    if deterministic:
        _be_deterministic(gpus)
    if gpus:
        _grow_memory(gpus)
    else:
        _warn_of_unused_gpu()
        _warn_of_slow_kernels()
    # Before anything is computed: TensorFlow cannot set up communication afterwards.
    strategy = _strategy(multi_gpu, gpus) if cluster is None else cluster_strategy(cluster)
    replicas = strategy.num_replicas_in_sync

    if precision != "auto":
        chosen, why = precision, "as asked for"
    else:
        chosen, why = _gpu_precision(gpus) if gpus else _cpu_precision(deterministic)
    if cluster is not None:
        first = PRECISIONS[int(Workers(strategy, cluster).from_chief(PRECISIONS.index(chosen)))]
        chosen, why = first, why if first == chosen else "as the first worker chose"
    xla, said_of_xla = _xla(jit_compile, bool(gpus), replicas, many_sizes)
    description = (
        f"{_devices(gpus, replicas, cluster)}; {chosen} ({why}); XLA {said_of_xla}"
        f"{'; deterministic' if deterministic else ''}"
    )
    logger.info("hardware: %s", description)
    return Hardware(strategy, chosen, xla, description, cluster)


def _be_deterministic(gpus: Sequence[Any]) -> None:
    """Make the same seed give the same numbers.

    TensorFlow runs operations that do not depend on each other in whatever order threads happen to be free, and adds up
    gradients in that order: rounding then differs from run to run, and after some hundred steps so does the Dice. Here
    they run one after the other, each still on all cores. TensorFlow's graph optimizer (Grappler) is switched off too:
    a step that it rewrote gave one of two gradients for the same weights and batch, depending on which memory was free.
    On a CPU ``enable_op_determinism`` changes neither; on a GPU it chooses kernels that add up in one order.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if gpus:
        tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        logger.warning(
            "deterministic=True comes too late: TensorFlow is in use already, and figures may differ a little from run "
            "to run. Make the first Neural_Network of the program with it, before anything else uses TensorFlow"
        )


def _cpu_precision(deterministic: bool) -> tuple[str, str]:
    """The fastest precision, and the reason."""
    if not cpu_computes_bfloat16():
        return "float32", "no bfloat16 instructions"
    if deterministic:
        return "float32", "the same every day"
    speedup = bfloat16_speedup()
    return (
        "mixed_bfloat16" if speedup >= _PAYS else "float32",
        f"bfloat16 is {speedup:.1f} times as fast, measured",
    )


def _gpu_precision(gpus: Sequence[Any]) -> tuple[str, str]:
    """The fastest precision, and the reason."""
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    # A GPU that does not say its capability is no NVIDIA one; all that TensorFlow runs on today do half precision.
    if all(capability is None or tuple(capability) >= _TENSOR_CORES for capability in capabilities):
        return "mixed_float16", "tensor cores"
    return "float32", "no tensor cores"


def _xla(asked: bool | Literal["auto"], on_gpu: bool, replicas: int, many_sizes: bool) -> tuple[bool, str]:
    """Whether to compile the training step, and what is said about that and prediction, with the reason."""
    if asked is True and replicas > 1:
        raise ConfigurationError(
            f"jit_compile=True, but {replicas} devices share each batch, and TensorFlow cannot compile that; leave it "
            "out, or train on one device"
        )
    if asked is False:
        return False, "off (as asked for)"
    if many_sizes:
        return False, "off (whole images, in many sizes)"
    if asked is True:
        return True, "on (as asked for)"
    if replicas > 1:
        return False, f"{'in prediction alone' if on_gpu else 'off'} (several devices)"
    return on_gpu, "on (a GPU)" if on_gpu else "off (slow on a CPU)"


def _grow_memory(gpus: Sequence[Any]) -> None:
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError) as reason:
            # TensorFlow is in use already, or the user has divided the GPU: it works, with the memory as they set it.
            logger.debug("memory growth of %s was not set: %s", gpu.name, reason)


def _strategy(multi_gpu: bool, gpus: Sequence[Any]) -> tf.distribute.Strategy:
    if not multi_gpu:
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
    if len(devices) > 1:
        return _mirrored(tuple(device.name for device in devices))
    logger.warning(
        "multi_gpu=True, but TensorFlow sees %s; training runs on one device", "one GPU" if gpus else "no GPU"
    )
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for all networks: a second one would number its sums like the first, of which TensorFlow knows the shapes."""
    return tf.distribute.MirroredStrategy(list(devices))


def _warn_of_unused_gpu() -> None:
    if tf.config.list_physical_devices("GPU"):
        logger.info("the GPU is hidden by tf.config.set_visible_devices; running on the CPU")
        return
    traces = [path for path in NVIDIA_TRACES if path.exists()]
    if not traces:
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        logger.info("the GPU is hidden by CUDA_VISIBLE_DEVICES; running on the CPU")
        return
    logger.warning(
        "RUNNING ON THE CPU although this machine has an NVIDIA driver (%s): TensorFlow sees no GPU, and training will "
        "be many times slower. Install TensorFlow's CUDA libraries (pip install 'miscnn_tf[gpu]') and check nvidia-smi",
        traces[0],
    )


def _warn_of_slow_kernels() -> None:
    if comes_too_late():
        logger.warning(
            "TensorFlow was imported before miscnn_tf, and computes without oneDNN, several times more slowly on this "
            "processor: import miscnn_tf first, or set %s=1 in the environment",
            VARIABLE,
        )


def _devices(gpus: Sequence[Any], replicas: int, cluster: Cluster | None) -> str:
    if cluster is not None:
        return f"{cluster} (TF_CONFIG), {replicas} {'GPUs' if gpus else 'CPUs'} in all"
    if not gpus:
        return "CPU" if replicas == 1 else f"{replicas} CPU devices"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    unused = f" (of {len(gpus)}; multi_gpu=True uses all)" if len(gpus) > replicas else ""
    return f"{replicas} GPU{'s' if replicas > 1 else ''} {name}{unused}"
