"""ONNX Runtime and OpenVINO in `engines.py`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rivals


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    start = {"onnxruntime": start_onnxruntime, "openvino": start_openvino}[settings["engine"]]
    run, version = start(settings)
    image = np.load(settings["volume"])[np.newaxis]

    def predict(output: str | None = None) -> dict[str, Any]:
        begin = time.perf_counter()
        labels = run(image)[0].argmax(-1)
        seconds = time.perf_counter() - begin
        if output is not None:
            np.save(output, labels)
        return {"seconds": seconds}

    rivals.serve({"version": version}, predict=predict)


def start_onnxruntime(settings: dict[str, Any]) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Return a function that predicts a batch, and the version."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    session = onnxruntime.InferenceSession(settings["onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0], onnxruntime.__version__


def start_openvino(settings: dict[str, Any]) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Return a function that predicts a batch, and the version."""
    import openvino

    core = openvino.Core()
    model = core.read_model(settings["onnx"])
    model.reshape([1, *settings["patch"], 1])
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[settings["precision"]],
        "INFERENCE_NUM_THREADS": settings["threads"],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", hints)
    return lambda image: np.asarray(compiled([image])[0]), openvino.__version__


if __name__ == "__main__":
    main()
