"""PyTorch's side of `step.py`: trains the same network on the same batches, in float32 or autocast to bfloat16."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import numpy as np
import rivals
import torch
import torch_unet


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    network = torch_unet.make(settings, settings["weights"]).train()
    optimizer = torch.optim.Adam(network.parameters(), settings["rate"], eps=torch_unet.ADAM_EPSILON)

    def autocast() -> Any:
        low = settings["precision"] == "bfloat16"
        return torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        network.set_momentum()
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = network(images)
        torch_unet.dice_crossentropy(logits, labels).backward()
        optimizer.step()

    def steps(batch: str, count: int) -> list[float]:
        with np.load(batch) as file:
            images, labels = (
                torch_unet.tensor(file["images"], settings["layout"]),
                torch.from_numpy(file["labels"].astype(np.int64)),
            )
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            step(images, labels)
            times.append(time.perf_counter() - begin)
        return times

    def train(batches: list[str], rates: list[float]) -> None:
        for path, rate in zip(batches, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            with np.load(path) as file:
                step(
                    torch_unet.tensor(file["images"], settings["layout"]),
                    torch.from_numpy(file["labels"].astype(np.int64)),
                )

    def predict(images: list[str], outputs: list[str]) -> None:
        network.eval()
        for source, target in zip(images, outputs, strict=True):
            with torch.no_grad(), autocast():
                logits = network(torch_unet.tensor(np.load(source)[np.newaxis], settings["layout"]))
            np.save(target, logits[0].argmax(0).numpy().astype(np.uint8))
        network.train()

    rivals.serve({"version": torch.__version__}, steps=steps, train=train, predict=predict)


if __name__ == "__main__":
    main()
