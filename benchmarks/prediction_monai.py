"""MONAI in `prediction.py`: its sliding window with the same network in PyTorch, to labels."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import monai
import numpy as np
import rivals
import torch
import torch_unet
from monai.inferers import sliding_window_inference


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    network = torch_unet.make(settings, settings["weights"]).eval()
    run = torch.compile(network) if settings["compile"] else network
    image = torch_unet.tensor(np.load(settings["volume"])[np.newaxis], settings["layout"])

    def predict(output: str | None = None, mode: str = "gaussian") -> dict[str, Any]:
        begin = time.perf_counter()
        with torch.inference_mode(), torch_unet.autocast(settings["precision"]):
            probabilities = sliding_window_inference(
                image,
                settings["patch"],
                1,
                lambda window: run(window).float().softmax(1),
                overlap=0.5,
                mode=mode,
            )
            labels = probabilities.argmax(1)[0].cpu().numpy().astype(np.uint8)
        seconds = time.perf_counter() - begin
        if output is not None:
            np.save(output, labels)
        return {"seconds": seconds}

    rivals.serve({"version": monai.__version__}, predict=predict)


if __name__ == "__main__":
    main()
