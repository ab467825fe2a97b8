"""U-Net of Ronneberger et al. (2015) in PyTorch, in `accuracy.py`; volumes are trained and predicted slice by slice.

The architecture of the paper (arXiv 1505.04597) with 64 filters and four halvings, zero padding and batch
normalisation, Dice + cross-entropy, Adam with 1e-3 and polynomial decay, random flips, float32. Crops have at most
256 x 256 pixels, and batches about as many; half of the crops are around a pixel of the foreground.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from _rival_files import Run, normalised, read
from torch import nn

FILTERS = 64
HALVINGS = 4
LARGEST = 256


def convolutions(channels: int, filters: int) -> nn.Sequential:
    """Return two convolutions of 3 x 3, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (channels, filters):
        layers += [nn.Conv2d(before, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The U-Net; ``(batch, channels, x, y)`` to logits of the same grid, whose sizes are multiples of 16."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = [FILTERS * 2**level for level in range(HALVINGS + 1)]
        self.down = nn.ModuleList(
            convolutions(before, width) for before, width in zip([channels, *widths], widths, strict=False)
        )
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1])
        self.up = nn.ModuleList(convolutions(2 * width, width) for width in widths[:-1])
        self.output = nn.Conv2d(FILTERS, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(HALVINGS)):
            x = self.up[level](torch.cat([skips[level], self.enlarge[level](x)], 1))
        return self.output(x)


class Slices:
    """Training slices, and random batches of them.

    Args:
        samples: Images ``(slices, channels, x, y)`` and label maps ``(slices, x, y)``.
        seed: Random seed.
    """

    def __init__(self, samples: list[tuple[np.ndarray, np.ndarray]], seed: int) -> None:
        self.samples = samples
        self.rng = np.random.default_rng(seed)
        median = np.median([labels.shape[1:] for _, labels in samples], axis=0)
        self.patch = [min(LARGEST, 16 * int(np.ceil(size / 16))) for size in median]
        self.batch_size = max(1, LARGEST**2 // int(np.prod(self.patch)))
        self.foreground = [np.argwhere(labels) for _, labels in samples]

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and label maps."""
        crops = [self._crop() for _ in range(self.batch_size)]
        images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        return images, labels.long()

    def _crop(self) -> tuple[np.ndarray, np.ndarray]:
        number = self.rng.integers(len(self.samples))
        images, labels = self.samples[number]
        points = self.foreground[number]
        if len(points) and self.rng.random() < 0.5:
            which, *centre = points[self.rng.integers(len(points))]
        else:
            which, *centre = self.rng.integers(labels.shape)
        image, truth = images[which], labels[which]
        for axis, size in enumerate(self.patch):
            missing = max(0, size - truth.shape[axis])
            before = missing // 2
            pads = [(0, 0), (0, 0)]
            pads[axis] = (before, missing - before)
            image, truth = np.pad(image, [(0, 0), *pads]), np.pad(truth, pads)
            start = int(np.clip(centre[axis] + before - size // 2, 0, truth.shape[axis] - size))
            image = np.take(image, range(start, start + size), axis + 1)
            truth = np.take(truth, range(start, start + size), axis)
            if self.rng.random() < 0.5:
                image, truth = np.flip(image, axis + 1), np.flip(truth, axis)
        return np.ascontiguousarray(image), np.ascontiguousarray(truth)


def compute_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy plus the soft Dice of the batch, of all classes."""
    truth = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    probabilities = logits.softmax(1)
    overlap, total = (probabilities * truth).sum((0, 2, 3)), (probabilities + truth).sum((0, 2, 3))
    return nn.functional.cross_entropy(logits, labels) + 1 - ((2 * overlap + 1e-5) / (total + 1e-5)).mean()


def predict(network: UNet, image: np.ndarray) -> np.ndarray:
    """Return the label map of a slice, padded to multiples of 16 for the network."""
    rows, columns = image.shape[1:]
    padded = np.pad(image, [(0, 0), (0, -rows % 16), (0, -columns % 16)])
    with torch.inference_mode():
        labels = network(torch.from_numpy(padded)[None])[0].argmax(0).numpy()
    return np.asarray(labels[:rows, :columns])


def main() -> None:
    """Train and predict."""
    run = Run()
    settings = run.settings
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(settings["seed"])

    def load(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the image as slices ``(slices, channels, x, y)``, the affine, and the axis of the slices."""
        image, affine = read(sample["images"])
        image = normalised(image, settings["window"])
        if image.ndim == 3:
            return image[np.newaxis], affine, -1
        # Slices are across the axis with the largest voxels, which is the last one if all are alike.
        spacing = np.linalg.norm(affine[:3, :3], axis=0).round(2)
        axis = 2 - int(np.argmax(spacing[::-1]))
        return np.moveaxis(image, axis + 1, 0), affine, axis

    samples = []
    for sample in run.training_files():
        image, _, axis = load(sample)
        labels, _ = read([sample["labels"]])
        labels = labels if axis < 0 else np.moveaxis(labels[0], axis, 0)
        samples.append((image, labels.astype(np.uint8)))
    slices = Slices(samples, settings["seed"])
    network = UNet(settings["channels"], settings["classes"])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    run.ended("preparing")

    network.train()
    for share in run.steps_of_time():
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - share) ** 0.9
        images, truth = slices.batch()
        optimizer.zero_grad(set_to_none=True)
        compute_loss(network(images), truth).backward()
        optimizer.step()
    run.ended("training")

    network.eval()
    for sample in run.images():
        image, affine, axis = load(sample)
        predicted = np.stack([predict(network, one) for one in image])
        run.write(sample["name"], predicted[0] if axis < 0 else np.moveaxis(predicted, 0, axis), affine)
    run.ended("predicting")
    weights = sum(parameter.numel() for parameter in network.parameters())
    run.finish(f"PyTorch {torch.__version__}", patch=slices.patch, batch=slices.batch_size, weights=weights)


if __name__ == "__main__":
    main()
