"""Which devices, which precision, XLA or not: decided from what is there, and said in one line of the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.nvidia import NVIDIA_TRACES

__all__ = [
    "PRECISIONS",
    "Hardware",
    "choose_hardware",
    "cpu_computes_bfloat16",
    "precision_scope",
]

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

_CPUINFO = Path("/proc/cpuinfo")
# Half precision is faster from the first GPUs with tensor cores on.
_TENSOR_CORES = (7, 0)


@dataclass(frozen=True)
class Hardware:
    """What a model is built, compiled and run with.

    Attributes:
        strategy: TensorFlow's distribution strategy; the default one (a single device) or a MirroredStrategy.
        precision: Keras' dtype policy of the model: "float32", "mixed_bfloat16" or "mixed_float16".
        jit_compile: What ``model.compile(jit_compile=...)`` is to be given.
        description: One line for people.

    Example:
        >>> hardware = choose_hardware()
        >>> with hardware.scope():
        ...     model = architecture.create_model((32, 32, 1))  # doctest: +SKIP
    """

    strategy: tf.distribute.Strategy
    precision: str
    jit_compile: bool | Literal["auto"]
    description: str

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Build and compile models inside this: on these devices, in this precision."""
        with self.strategy.scope(), precision_scope(self.precision):
            yield


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


def choose_hardware(multi_gpu: bool = False, precision: str = "auto", deterministic: bool = False) -> Hardware:
    """Decide how to use this machine, and log it.

    ============================== ================ =============================================
    device                         precision "auto" XLA
    ============================== ================ =============================================
    CPU with bfloat16 instructions mixed_bfloat16   off: it has no fast 3D convolution
    other CPU                      float32          off
    GPU with tensor cores          mixed_float16    on; several: left to Keras, which turns it off
    older GPU                      float32          the same
    ============================== ================ =============================================

    On a CPU with the instructions for it, bfloat16 is 1.4 to 1.7 times as fast as float32.

    Memory of a GPU is taken as it is needed, not all at once. Call it before the first TensorFlow operation.

    Args:
        multi_gpu: Train on all visible GPUs (a MirroredStrategy). Without a GPU, on all logical CPU devices.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        deterministic: Make the same seed give the same numbers on the same machine, to the last bit, for the rest of
            the program. Training was 15 % slower with it on two cores. Another kind of device, number of cores or
            precision still gives other numbers.

    Raises:
        ConfigurationError: If `precision` is something else.

    Example:
        >>> choose_hardware(precision="float32").precision
        'float32'
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
    gpus = tf.config.list_physical_devices("GPU")
    if deterministic:
        _be_deterministic(gpus)
    if gpus:
        _grow_memory(gpus)
        chosen = _gpu_precision(gpus) if precision == "auto" else precision
    else:
        _warn_of_unused_gpu()
        chosen = _cpu_precision() if precision == "auto" else precision

    strategy = _strategy(multi_gpu, gpus)
    replicas = strategy.num_replicas_in_sync
    # With an explicit True, training under a MirroredStrategy crashes; "auto" keeps XLA off there.
    jit_compile: bool | Literal["auto"] = "auto" if replicas > 1 else bool(gpus)
    description = f"{_devices(gpus, replicas)}, {chosen}, XLA {'on' if jit_compile is True else 'off'}"
    if deterministic:
        description += ", deterministic"
    logger.info("hardware: %s", description)
    return Hardware(strategy, chosen, jit_compile, description)


def cpu_computes_bfloat16(cpuinfo: Path | None = None) -> bool:
    """Whether the processor has bfloat16 instructions (AVX512-BF16 or AMX); without them it is slower than float32.

    Args:
        cpuinfo: Linux' description of the processor; where there is none, the answer is no.
    """
    try:
        text = (cpuinfo or _CPUINFO).read_text(errors="replace")
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return bool(flags & {"avx512_bf16", "amx_bf16"})


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


def _cpu_precision() -> str:
    return "mixed_bfloat16" if cpu_computes_bfloat16() else "float32"


def _gpu_precision(gpus: Sequence[Any]) -> str:
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    # A GPU that does not say its capability is no NVIDIA one; all that TensorFlow runs on today do half precision.
    if all(capability is None or tuple(capability) >= _TENSOR_CORES for capability in capabilities):
        return "mixed_float16"
    return "float32"


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
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    logger.warning(
        "multi_gpu=True, but TensorFlow sees %s; training runs on one device", "one GPU" if gpus else "no GPU"
    )
    return tf.distribute.get_strategy()


def _warn_of_unused_gpu() -> None:
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


def _devices(gpus: Sequence[Any], replicas: int) -> str:
    if not gpus:
        return "CPU" if replicas == 1 else f"{replicas} CPU devices"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    unused = f" (of {len(gpus)}; multi_gpu=True uses all)" if len(gpus) > replicas else ""
    return f"{replicas} GPU{'s' if replicas > 1 else ''} {name}{unused}"
