"""miscnn_tf in `nnunet_prediction.py`: the imported model."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import miscnn_tf  # before TensorFlow, because it enables its fast kernels

# isort: split
import numpy as np
import rivals
import tensorflow as tf


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    model = miscnn_tf.load_nnunet(settings["model"], precision=settings["precision"])
    volume = np.load(settings["volume"])[..., np.newaxis]

    def predict(output: str) -> dict[str, Any]:
        begin = time.perf_counter()
        labels = model.predict_array(volume, (1.0, 1.0, 1.0))
        seconds = time.perf_counter() - begin
        np.save(output, labels)
        return {"seconds": seconds}

    rivals.serve({"version": f"miscnn_tf {miscnn_tf.__version__}"}, predict=predict)


if __name__ == "__main__":
    main()
