"""miscnn_tf in `prediction.py`: `Neural_Network.predict_array`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import rivals
import step_keras
import tensorflow as tf
from step import low_precisions


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    network = step_keras.network(settings)
    step_keras.load_weights(network.model, settings["weights"])
    volume = np.load(settings["volume"])

    def predict(output: str | None = None, mode: str = "gaussian") -> dict[str, Any]:
        network.preprocessor.patchwise_blending = "average" if mode == "constant" else mode
        begin = time.perf_counter()
        labels = network.predict_array(volume)
        seconds = time.perf_counter() - begin
        if output is not None:
            np.save(output, labels)
        return {"seconds": seconds}

    def peak() -> dict[str, Any]:
        """Measure the operations per second of large matrix products."""
        size, found = 4096, {}
        for dtype in ("float32", *low_precisions()):
            left = tf.cast(tf.random.normal((size, size)), dtype)
            product = tf.function(lambda one: one @ one)
            times = []
            for _ in range(6):
                begin = time.perf_counter()
                tf.reduce_max(product(left)[:1, :1]).numpy()
                times.append(time.perf_counter() - begin)
            found[dtype] = 2 * size**3 / min(times)
        return found

    rivals.serve({"version": tf.__version__}, predict=predict, peak=peak)


if __name__ == "__main__":
    main()
