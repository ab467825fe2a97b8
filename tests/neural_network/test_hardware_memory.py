from __future__ import annotations

import errno
import os

import pytest
import tensorflow as tf

from miscnn_tf.neural_network.hardware import is_lack_of_device_memory


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tf.errors.ResourceExhaustedError, "OOM when allocating tensor with shape[8,128,128,128,32] and type float"),
        (tf.errors.ResourceExhaustedError, "Out of memory while trying to allocate 4294967296 bytes."),
        (tf.errors.InternalError, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1073741824 bytes."),
        (tf.errors.InternalError, "Failed to allocate scratch memory: CUDA_ERROR_OUT_OF_MEMORY"),
        (tf.errors.InternalError, "CUDNN_STATUS_ALLOC_FAILED in external/local_xla/xla/stream_executor/cuda"),
        (tf.errors.UnknownError, "out of memory while trying to allocate 16.0GiB [Op:__inference_predict_12]"),
        (tf.errors.NotFoundError, "No algorithm worked! Profiling failure on CUDNN engine 1: RESOURCE_EXHAUSTED: ..."),
    ],
)
def test_what_tensorflow_says_of_too_little_memory(kind, message):
    assert is_lack_of_device_memory(kind(None, None, message))


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InternalError(None, None, "no kernel image is available for execution on the device"),
        tf.errors.UnknownError(None, None, "ValueError: the label map has other axes"),
        tf.errors.InvalidArgumentError(None, None, "Incompatible shapes: [2,4] vs. [2,5]"),
        tf.errors.ResourceExhaustedError(None, None, f"events.v2; {os.strerror(errno.ENOSPC)}"),
    ],
)
def test_what_is_something_else(error):
    assert not is_lack_of_device_memory(error)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_full_disk_is_no_full_device():
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught, tf.io.gfile.GFile("/dev/full", "w") as file:
        file.write("x" * 10**5)
    assert not is_lack_of_device_memory(caught.value)
