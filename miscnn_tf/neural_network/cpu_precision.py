"""Whether bfloat16 makes a processor faster: by its instructions, and by a quick measurement."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import tensorflow as tf

from miscnn_tf.onednn import cpu_flags

# A 3x3x3 convolution of 32 to 32 features, forward and backward: what most of a training step is spent on.
_SIZE, _FEATURES, _ROUNDS = 16, 32, 5


def cpu_computes_bfloat16(cpuinfo: Path | None = None) -> bool:
    """Whether the processor has bfloat16 instructions (AVX512-BF16 or AMX); without them it is slower than float32.

    Args:
        cpuinfo: Linux' description of the processor; where there is none, the answer is no.
    """
    return bool(cpu_flags(cpuinfo) & {"avx512_bf16", "amx_bf16"})


@functools.cache
def bfloat16_speedup() -> float:
    """How many times as fast as in float32 this processor is in bfloat16, measured once per process in 0.2 s.

    The instructions alone do not tell: of two processors with AVX512-BF16, one trained 1.7 times as fast with it, and
    one only 0.6 times as fast, whose multiplications of bfloat16 take longer than those of float32.

    Returns:
        Seconds in float32 over seconds in bfloat16, of the fastest of several rounds each, taken in turn.
    """
    best: dict[tf.DType, float] = {}
    for number in range(1 + _ROUNDS):
        for dtype in (tf.float32, tf.bfloat16):
            begin = time.perf_counter()
            _convolve(dtype)
            if number:  # the first one sets up the kernels
                best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - begin)
    return best[tf.float32] / best[tf.bfloat16]


def _convolve(dtype: tf.DType) -> None:
    with tf.device("CPU:0"):
        image = tf.ones((1, _SIZE, _SIZE, _SIZE, _FEATURES), dtype)
        kernel = tf.ones((3, 3, 3, _FEATURES, _FEATURES), dtype)
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            result = tf.nn.conv3d(image, kernel, [1] * 5, "SAME")
        for gradient in tape.gradient(result, [image, kernel]):
            gradient.numpy()  # waits for it
