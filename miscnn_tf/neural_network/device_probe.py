"""Test of TensorFlow on this machine: ``python -m miscnn_tf.neural_network.device_probe`` prints JSON.

It is a separate program, because a TensorFlow that does not fit the processor or the driver can crash the process.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf._machine.processor import NVIDIA_TRACES
from miscnn_tf._machine.tf_config import TF_CONFIG, read_cluster
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.hardware import Hardware, choose_hardware, cpu_computes_bfloat16


def probe() -> dict[str, Any]:
    """List the devices, choose among them as a network would, and compute on each; return JSON types.

    Example:
        >>> found = probe()
        >>> found["devices"][0]["kind"], found["devices"][0]["error"]
        ('CPU', None)
    """
    warnings = _Warnings()
    logger = logging.getLogger("miscnn_tf.neural_network.hardware")
    logger.addHandler(warnings)
    cluster = os.environ.pop(TF_CONFIG, None)  # otherwise TensorFlow waits for the other machines
    try:
        hardware = choose_hardware()
    finally:
        logger.removeHandler(warnings)
        if cluster is not None:
            os.environ[TF_CONFIG] = cluster
    build = tf.sysconfig.get_build_info()
    trace = next((path for path in NVIDIA_TRACES if path.exists()), None)
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_backend": keras.backend.backend(),
        "built_with": {
            "cuda": build.get("cuda_version") if build.get("is_cuda_build") else None,
            "cudnn": build.get("cudnn_version") if build.get("is_cuda_build") else None,
        },
        "driver": None if trace is None else str(trace),
        "devices": [_try(device, hardware) for device in tf.config.list_physical_devices()],
        "hardware": {
            "description": hardware.description,
            "strategy": type(hardware.strategy).__name__,
            "devices_used": hardware.strategy.num_replicas_in_sync,
            "precision": hardware.precision,
            "xla": hardware.jit_compile,
            "cluster": _cluster(),
        },
        "bfloat16_instructions": cpu_computes_bfloat16(),
        "warnings": warnings.messages,
    }


def _cluster() -> str | None:
    """Describe the machines in ``TF_CONFIG``, or the error in it."""
    try:
        cluster = read_cluster()
    except ConfigurationError as error:
        return str(error)
    return None if cluster is None else f"{cluster}: {', '.join(cluster.addresses)}"


def _try(device: Any, hardware: Hardware) -> dict[str, Any]:
    kind = device.device_type
    details = tf.config.experimental.get_device_details(device) if kind == "GPU" else {}
    capability = details.get("compute_capability")
    begin = time.perf_counter()
    try:
        _convolve(device, kind, hardware)
        error = None
    except Exception as failure:  # TensorFlow raises errors of many kinds for a device that does not work
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:500]}"
    return {
        "name": device.name.removeprefix("/physical_device:"),
        "kind": kind,
        "model": details.get("device_name"),
        "compute_capability": None if capability is None else ".".join(map(str, capability)),
        "seconds": round(time.perf_counter() - begin, 2),
        "error": error,
    }


def _convolve(device: Any, kind: str, hardware: Hardware) -> None:
    """Compute a 3D convolution of ones in the precision and with the compiler of a network, and check the result.

    Raises:
        ArithmeticError: If the result is wrong.
    """
    chosen = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}.get(hardware.precision, "float32")
    for dtype in dict.fromkeys(["float32", chosen]):
        # A GPU's precision and compiler do not apply to the CPU next to it.
        if kind == "CPU" and dtype == "float16":
            continue

        def convolve(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv3d(image, kernel, [1] * 5, "VALID")

        compiled = tf.function(convolve, jit_compile=kind == "GPU" and hardware.jit_compile is True)
        with tf.device(device.name.removeprefix("/physical_device:")):
            result = compiled(tf.ones((1, 5, 5, 5, 2), dtype), tf.ones((3, 3, 3, 2, 4), dtype))
        values = tf.cast(result, "float32").numpy()
        if not np.array_equal(values, np.full((1, 3, 3, 3, 4), 54, np.float32)):
            raise ArithmeticError(f"a convolution in {dtype} gave {values.min():g} to {values.max():g} instead of 54")


class _Warnings(logging.Handler):
    """Collects warnings of the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


if __name__ == "__main__":
    logging.getLogger("miscnn_tf").setLevel(logging.INFO)
    sys.stdout.write(json.dumps(probe()) + "\n")
