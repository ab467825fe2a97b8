"""PyTorch in `step.py`: trains the same network on the same batches, in float32 or with autocast."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import rivals
import torch
import torch_unet


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    network = torch_unet.make(settings, settings["weights"]).train()
    fused = torch_unet.DEVICE.type == "cuda"
    optimizer = torch.optim.Adam(network.parameters(), settings["rate"], eps=torch_unet.ADAM_EPSILON, fused=fused)
    run = torch.compile(network) if settings["compile"] else network
    scaler = torch.amp.GradScaler(torch_unet.DEVICE.type, enabled=settings["precision"] == "float16")

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        if not settings["compile"]:  # a new number in each step would cause recompilation
            network.set_momentum()
        optimizer.zero_grad(set_to_none=True)
        with torch_unet.autocast(settings["precision"]):
            logits = run(images)
        scaler.scale(torch_unet.dice_crossentropy(logits, labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    def read(path: str) -> tuple[torch.Tensor, torch.Tensor]:
        with np.load(path) as file:
            labels = torch.from_numpy(file["labels"].astype(np.int64)).to(torch_unet.DEVICE)
            return torch_unet.tensor(file["images"], settings["layout"]), labels

    def steps(batch: str, count: int) -> list[float]:
        images, labels = read(batch)
        times = []
        for _ in range(count):
            torch_unet.wait()
            begin = time.perf_counter()
            step(images, labels)
            torch_unet.wait()
            times.append(time.perf_counter() - begin)
        return times

    def train(batches: list[str], rates: list[float]) -> None:
        for path, rate in zip(batches, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            step(*read(path))

    def predict(images: list[str], outputs: list[str]) -> None:
        network.eval()
        for source, target in zip(images, outputs, strict=True):
            with torch.no_grad(), torch_unet.autocast(settings["precision"]):
                logits = network(torch_unet.tensor(np.load(source)[np.newaxis], settings["layout"]))
            np.save(target, logits[0].argmax(0).cpu().numpy().astype(np.uint8))
        network.train()

    rivals.serve({"version": torch.__version__}, steps=steps, train=train, predict=predict)


if __name__ == "__main__":
    main()
