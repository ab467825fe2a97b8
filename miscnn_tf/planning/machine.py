"""What this machine offers to a training, found out without starting TensorFlow."""

from __future__ import annotations

from typing import Final

from miscnn_tf.nvidia import has_nvidia_driver
from miscnn_tf.planning.plan import Machine
from miscnn_tf.system_memory import system_memory

_GPU_GB: Final = 8.0
_CPU_GB: Final = 4.0


def this_machine(memory_gb: float | None = None) -> Machine:
    """Whether there is an NVIDIA GPU, and how much memory a step of training may take.

    Args:
        memory_gb: The memory, where it is known; None: 8 GB with a GPU, which most have, and 4 GB without, or half of
            the machine's memory where that is less.
    """
    gpu = has_nvidia_driver()
    if memory_gb is None:
        total = system_memory().total
        memory_gb = _GPU_GB if gpu else _CPU_GB if total is None else min(_CPU_GB, total / 2**30 / 2)
    return Machine(gpu, round(memory_gb, 1))
