"""MONAI in `memory.py`: sliding window, probabilities resampled to the image's grid, labels.

The network is one convolution and a softmax, so that the memory of its layers is negligible.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import monai
import nibabel
import numpy as np
import rivals
import torch
from monai.inferers import sliding_window_inference
from torch.nn.functional import interpolate


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    convolution = torch.nn.Conv3d(1, settings["classes"], 3, padding=1)

    def predict() -> dict[str, Any]:
        begin = time.perf_counter()
        with torch.inference_mode():
            image = torch.from_numpy(np.asarray(nibabel.load(settings["image"]).dataobj, np.float32))[None, None]
            shape, grid = tuple(image.shape[2:]), settings["grid"]
            if grid is not None:
                image = interpolate(image, tuple(grid), mode="trilinear")
            probabilities = sliding_window_inference(
                (image.clamp_(-100, 300) - 100) / 200,
                settings["patch"],
                1,
                lambda window: convolution(window).softmax(1),
                overlap=settings["overlap"],
                mode="gaussian",
            )
            if grid is not None:
                probabilities = interpolate(probabilities, shape, mode="trilinear")
            labels = probabilities.argmax(1)[0].numpy().astype(np.uint8)
        return {"seconds": time.perf_counter() - begin, "shape": list(labels.shape)}

    rivals.serve({"version": monai.__version__}, predict=predict)


if __name__ == "__main__":
    main()
