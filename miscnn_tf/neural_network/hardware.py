"""Choice of devices, precision and XLA for a network, and what TensorFlow reports about its devices."""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from miscnn_tf._machine.onednn import VARIABLE, comes_too_late, computes, cpu_flags
from miscnn_tf._machine.processor import NVIDIA_TRACES
from miscnn_tf._machine.tensorflow_messages import without_known_messages
from miscnn_tf._machine.tf_config import TF_CONFIG, Cluster, read_cluster
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.cluster_nodes import Workers, cluster_strategy
from miscnn_tf.processing.batches import Share

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

# Compute capability of the first GPUs with tensor cores, from which on half precision is faster.
_TENSOR_CORES = (7, 0)
# A smaller speed-up does not make up for the lower precision.
_PAYS = 1.1
# The measurement of `bfloat16_speedup`: a 3x3x3 convolution of 32 to 32 features, forward and backward, which is most
# of a training step.
_SIZE, _FEATURES, _ROUNDS = 16, 32, 5
# XLA's compiler, its autotuner and the CUDA libraries report a lack of memory as an internal or unknown error.
_OUT_OF_MEMORY = ("resource_exhausted", "resource exhausted", "out of memory", "out_of_memory", "alloc_failed")
# TensorFlow raises the same error for a lack of disk space or files, with the message of the system.
_OUT_OF_FILES = tuple(os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


@dataclass(frozen=True)
class Hardware:
    """Devices, precision and compiler that a model is built, compiled and run with.

    Attributes:
        strategy: TensorFlow's distribution strategy; the default one (a single device), a MirroredStrategy (several
            devices) or a MultiWorkerMirroredStrategy (several machines).
        precision: Keras' dtype policy of the model: "float32", "mixed_bfloat16" or "mixed_float16".
        jit_compile: The argument for ``model.compile(jit_compile=...)``.
        description: The choice and its reasons in one line of text.
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
        """Build and compile models on these devices and in this precision."""
        with self.strategy.scope(), precision_scope(self.precision):
            yield

    @property
    def replicas(self) -> int:
        """Number of devices that share each batch, on all machines together."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def share(self) -> Share:
        """Part of each batch that this machine's devices process."""
        if self.cluster is None:
            return Share(self.replicas, 0, self.replicas)
        own = self.replicas // len(self.cluster.addresses)
        return Share(self.replicas, self.cluster.index * own, own)

    @property
    def workers(self) -> Workers:
        """Machines that train together; without a cluster, only this one."""
        return Workers(self.strategy, self.cluster)


@contextmanager
def precision_scope(precision: str) -> Iterator[None]:
    """Set the dtype policy of layers and models made in the block, and restore Keras' setting afterwards.

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
    """Choose devices, precision and XLA for this machine, and log the choice with its reasons.

    ============================== ================ ======================================
    device                         precision "auto" XLA "auto"
    ============================== ================ ======================================
    CPU that bfloat16 makes faster mixed_bfloat16   off: it has no fast 3D convolution
    other CPU                      float32          off
    GPU with tensor cores          mixed_float16    on; off where several share each batch
    older GPU                      float32          the same
    ============================== ================ ======================================

    XLA compiles for one input size, so networks for whole images of many sizes are never compiled.

    If a CPU has bfloat16 instructions, their speed is measured in 0.2 s. With `deterministic` a CPU always computes in
    float32, because the measurement varies.

    If the environment variable ``TF_CONFIG`` is set, all machines that it names train one network together (a
    MultiWorkerMirroredStrategy, with all their GPUs), in the precision of the first machine.

    Hidden GPUs (``CUDA_VISIBLE_DEVICES``, ``tf.config.set_visible_devices``) are not used. GPU memory is allocated as
    needed, not all at once. Call this function before the first TensorFlow operation.

    Args:
        multi_gpu: Train on all visible GPUs (a MirroredStrategy). Without a GPU, on all logical CPU devices.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        deterministic: Make the same seed give bit-identical numbers on the same machine for the rest of the program.
            Training was 15 % slower with it on two cores. Another kind of device, number of cores or precision still
            gives other numbers.
        jit_compile: True to compile the training step and prediction with XLA.
        many_sizes: True if the network's input is whole images instead of patches.

    Raises:
        ConfigurationError: If `precision`, `jit_compile` or ``TF_CONFIG`` is invalid.

    Example:
        >>> choose_hardware(precision="float32").precision
        'float32'
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
    if jit_compile not in ("auto", True, False):
        raise ConfigurationError(f"jit_compile={jit_compile!r} must be 'auto', True or False")
    cluster = read_cluster()
    _first_search_for_devices()
    gpus = tf.config.get_visible_devices("GPU")
    if deterministic:
        _be_deterministic(gpus)
    if gpus:
        _grow_memory(gpus)
    else:
        _warn_of_unused_gpu()
        _warn_of_slow_kernels()
    # TensorFlow can set up communication only before its first operation.
    strategy = _strategy(multi_gpu, gpus) if cluster is None else cluster_strategy(cluster)
    replicas = strategy.num_replicas_in_sync
    _first_use_of_onednn()

    if precision != "auto":
        chosen, why = precision, "as asked for"
    else:
        chosen, why = _gpu_precision(gpus) if gpus else _cpu_precision(deterministic)
    if cluster is not None:
        first = PRECISIONS[int(Workers(strategy, cluster).from_chief(PRECISIONS.index(chosen)))]
        chosen, why = first, why if first == chosen else "as the first worker chose"
    xla, xla_text = _xla(jit_compile, bool(gpus), replicas, many_sizes)
    description = (
        f"{_devices(gpus, replicas, cluster)}; {chosen} ({why}); XLA {xla_text}"
        f"{'; deterministic' if deterministic else ''}"
    )
    logger.info("hardware: %s", description)
    return Hardware(strategy, chosen, xla, description, cluster)


def cpu_computes_bfloat16(cpuinfo: Path | None = None) -> bool:
    """Return True if the processor has bfloat16 instructions (AVX512-BF16 or AMX); without them float32 is faster.

    Args:
        cpuinfo: Linux' description of the processor; False without one.
    """
    return bool(cpu_flags(cpuinfo) & {"avx512_bf16", "amx_bf16"})


@functools.cache
def bfloat16_speedup() -> float:
    """Measure the speed of bfloat16 relative to float32 on this processor, once per process, in 0.2 s.

    The instructions alone do not decide: of two processors with AVX512-BF16, one trained 1.7 times as fast with it and
    the other only 0.6 times as fast, because its bfloat16 multiplications take longer than those in float32.

    Returns:
        Seconds in float32 over seconds in bfloat16, each the fastest of several alternating rounds; 0 if oneDNN refuses
        to compute in bfloat16, because ``ONEDNN_MAX_CPU_ISA`` limits it to older instructions.
    """
    best: dict[tf.DType, float] = {}
    for number in range(1 + _ROUNDS):
        for dtype in (tf.float32, tf.bfloat16):
            begin = time.perf_counter()
            try:
                _convolve(dtype)
            except tf.errors.OpError as error:
                if dtype == tf.float32:
                    raise
                logger.info("convolutions in bfloat16 fail, so float32 is used: %s", error)
                return 0.0
            if number:  # the first round sets up the kernels
                best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - begin)
    return best[tf.float32] / best[tf.bfloat16]


def is_lack_of_device_memory(error: tf.errors.OpError) -> bool:
    """Return True if an error of TensorFlow means that something does not fit into the device's memory.

    Args:
        error: The error of an operation, a compilation or a step.

    Example:
        >>> is_lack_of_device_memory(tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory"))
        True
        >>> is_lack_of_device_memory(tf.errors.InternalError(None, None, "no kernel image is available"))
        False
    """
    message = str(error).lower()
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return not any(words in message for words in _OUT_OF_FILES)
    return any(words in message for words in _OUT_OF_MEMORY)


@functools.cache
def _first_search_for_devices() -> None:
    with without_known_messages():
        tf.config.list_physical_devices()


@functools.cache
def _first_use_of_onednn() -> None:
    """Have oneDNN's missing types reported here, not in the middle of the first epoch.

    TensorFlow logs an error, once per process, when a graph first has an operation for which oneDNN has no kernel on
    this processor: transposed whole numbers without AVX-512. Another kernel computes it.
    """
    if not computes():
        return
    with without_known_messages(), tf.device("CPU:0"):
        tf.function(tf.transpose)(tf.zeros((2, 2), tf.int32))


def _be_deterministic(gpus: Sequence[Any]) -> None:
    """Make the same seed give the same numbers.

    TensorFlow runs independent operations in the order in which threads become free, and sums gradients in that order.
    Rounding then differs from run to run, and after some hundred steps so does the Dice. With one inter-op thread the
    operations run one after the other, each still on all cores. TensorFlow's graph optimizer (Grappler) is disabled,
    too: a step that it rewrote gave one of two gradients for the same weights and batch, depending on which memory was
    free. On a CPU ``enable_op_determinism`` changes neither; on a GPU it selects kernels with a fixed order of sums.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if gpus:
        tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        logger.warning(
            "deterministic=True comes too late: TensorFlow is already in use, so numbers may differ slightly between "
            "runs. Pass it to the first Neural_Network of the program, before anything else uses TensorFlow"
        )


def _cpu_precision(deterministic: bool) -> tuple[str, str]:
    """Return the fastest precision and the reason."""
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
    """Return the fastest precision and the reason."""
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    # GPUs without a capability are not from NVIDIA; all that TensorFlow supports today have fast half precision.
    if all(capability is None or tuple(capability) >= _TENSOR_CORES for capability in capabilities):
        return "mixed_float16", "tensor cores"
    return "float32", "no tensor cores"


def _xla(asked: bool | Literal["auto"], on_gpu: bool, replicas: int, many_sizes: bool) -> tuple[bool, str]:
    """Return whether to compile the training step, and a text about it and prediction with the reason."""
    if asked is True and replicas > 1:
        raise ConfigurationError(
            f"jit_compile=True, but {replicas} devices share each batch, which TensorFlow cannot compile; omit it, or "
            "train on one device"
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
            # TensorFlow is already in use, or the user has partitioned the GPU, whose memory settings then hold.
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
    """Return one strategy for all networks; a second one would reuse the keys of the first one's all-reduces."""
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
            "TensorFlow was imported before miscnn_tf and computes without oneDNN, several times slower on this "
            "processor: import miscnn_tf first, or set %s=1 in the environment",
            VARIABLE,
        )


def _devices(gpus: Sequence[Any], replicas: int, cluster: Cluster | None) -> str:
    if cluster is not None:
        return f"{cluster} ({TF_CONFIG}), {replicas} {'GPUs' if gpus else 'CPUs'} in all"
    if not gpus:
        return "CPU" if replicas == 1 else f"{replicas} CPU devices"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    unused = f" (of {len(gpus)}; multi_gpu=True uses all)" if len(gpus) > replicas else ""
    return f"{replicas} GPU{'s' if replicas > 1 else ''} {name}{unused}"


def _convolve(dtype: tf.DType) -> None:
    with tf.device("CPU:0"):
        image = tf.ones((1, _SIZE, _SIZE, _SIZE, _FEATURES), dtype)
        kernel = tf.ones((3, 3, 3, _FEATURES, _FEATURES), dtype)
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            result = tf.nn.conv3d(image, kernel, [1] * 5, "SAME")
        for gradient in tape.gradient(result, [image, kernel]):
            gradient.numpy()  # waits for it
