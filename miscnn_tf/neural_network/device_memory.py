"""Whether what TensorFlow raised means that the device has too little memory: it says so in many ways."""

from __future__ import annotations

import errno
import os

import tensorflow as tf

#: XLA's compiler, its autotuner and the CUDA libraries report it as an internal, unknown or missing something else.
_SAID_OF_THE_DEVICE = ("resource_exhausted", "resource exhausted", "out of memory", "out_of_memory", "alloc_failed")

#: TensorFlow has one error for memory and for files, of which it repeats what the system says.
_SAID_OF_FILES = tuple(os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


def is_lack_of_device_memory(error: tf.errors.OpError) -> bool:
    """Whether an error of TensorFlow says that something does not fit into the device's memory.

    Args:
        error: What an operation, a compilation or a step raised.

    Example:
        >>> is_lack_of_device_memory(tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory"))
        True
        >>> is_lack_of_device_memory(tf.errors.InternalError(None, None, "no kernel image is available"))
        False
    """
    message = str(error).lower()
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return not any(words in message for words in _SAID_OF_FILES)
    return any(words in message for words in _SAID_OF_THE_DEVICE)
