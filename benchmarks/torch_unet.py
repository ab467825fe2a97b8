"""The standard U-Net in PyTorch, with the same layers, for comparisons. Requires torch and numpy only."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn

#: Constants of miscnn_tf's layers, some of which differ from PyTorch's defaults.
BATCH_NORM_EPSILON = 1e-3
INSTANCE_NORM_EPSILON = 1e-5
ADAM_EPSILON = 1e-7


class UNet(nn.Module):
    """3D U-Net; ``(batch, channels, x, y, z)`` to logits of the same grid.

    Args:
        filters: Filters of the first level.
        depth: Number of times that the volume is halved.
        classes: Channels of the output.
        normalisation: "batch" or "instance".
        channels: Channels of the input.
    """

    def __init__(self, filters: int, depth: int, classes: int, normalisation: str, channels: int = 1) -> None:
        super().__init__()
        self.depth = depth
        self.normalisation = normalisation
        self.parts = nn.ModuleDict()
        before = channels
        for level in range(depth):
            self._block(f"down{level}", before, filters * 2**level)
            before = filters * 2**level
        self._block("bridge", before, filters * 2**depth)
        for level in reversed(range(depth)):
            width = filters * 2**level
            self.parts[f"up{level}_upsample"] = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
            self._block(f"up{level}", 2 * width, width)
        self.parts["output"] = nn.Conv3d(filters, classes, 1)
        self.pool = nn.MaxPool3d(2)
        self.updates = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        skips = []
        for level in range(self.depth):
            x = self._run(f"down{level}", x)
            skips.append(x)
            x = self.pool(x)
        x = self._run("bridge", x)
        for level in reversed(range(self.depth)):
            x = self.parts[f"up{level}_upsample"](x)
            x = self._run(f"up{level}", torch.cat([skips[level], x], 1))
        return self.parts["output"](x)

    def take(self, weights: dict[str, np.ndarray]) -> None:
        """Load the weights of the Keras model, ``{layer/variable: array}``."""
        for name, part in self.parts.items():
            found = {key.rpartition("/")[2]: torch.from_numpy(value) for key, value in weights.items()
                     if key.rpartition("/")[0] == name}  # fmt: skip
            with torch.no_grad():
                if isinstance(part, nn.BatchNorm3d | nn.InstanceNorm3d):
                    part.weight.copy_(found["gamma"])
                    part.bias.copy_(found["beta"])
                else:
                    part.weight.copy_(found["kernel"].permute(4, 3, 0, 1, 2))
                    part.bias.copy_(found["bias"])

    def set_momentum(self) -> None:
        """Set the momentum of miscnn_tf's batch normalisation for this update. Call it before each step."""
        keep = min(0.99, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for part in self.parts.values():
            if isinstance(part, nn.BatchNorm3d):
                part.momentum = 1 - keep

    def _block(self, name: str, channels: int, filters: int) -> None:
        for repeat in range(2):
            self.parts[f"{name}_conv{repeat}"] = nn.Conv3d(channels, filters, 3, padding=1)
            self.parts[f"{name}_conv{repeat}_norm"] = (
                nn.BatchNorm3d(filters, eps=BATCH_NORM_EPSILON)
                if self.normalisation == "batch"
                else nn.InstanceNorm3d(filters, eps=INSTANCE_NORM_EPSILON, affine=True)
            )
            channels = filters

    def _run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        for repeat in range(2):
            x = self.parts[f"{name}_conv{repeat}_norm"](torch.relu(self.parts[f"{name}_conv{repeat}"](x)))
        return x


def dice_crossentropy(logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1e-5) -> torch.Tensor:
    """Return miscnn_tf's loss of this name: soft Dice per sample and class, plus the mean cross-entropy."""
    logits = logits.float()
    truth = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    probabilities = torch.softmax(logits, 1)
    axes = (2, 3, 4)
    overlap, total = (truth * probabilities).sum(axes), truth.sum(axes) + probabilities.sum(axes)
    dice = (2 * overlap + smooth) / (total + smooth)
    return (1 - dice.mean(1)).mean() + nn.functional.cross_entropy(logits, labels)


#: The first GPU if there is one, as in miscnn_tf.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make(settings: dict[str, Any], weights: str) -> UNet:
    """Create the network with the weights of a file, channels last in memory, or first with ``layout="first"``."""
    torch.set_num_threads(int(settings["threads"]))
    torch.backends.cudnn.benchmark = True  # all batches have the same shape
    network = UNet(settings["filters"], settings["depth"], settings["classes"], settings["normalisation"])
    with np.load(weights) as file:
        network.take({key: file[key] for key in file.files})
    network = network.to(DEVICE)
    return network.to(memory_format=torch.channels_last_3d) if settings["layout"] == "last" else network


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return PyTorch's mixed precision, for "bfloat16" and "float16"."""
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return contextlib.nullcontext() if low is None else torch.autocast(DEVICE.type, low)


def wait() -> None:
    """Wait until the device has finished."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def tensor(images: np.ndarray, layout: str) -> torch.Tensor:
    """Convert images ``(batch, x, y, z, channels)`` to PyTorch, in the network's layout."""
    form = torch.channels_last_3d if layout == "last" else torch.contiguous_format
    return torch.from_numpy(images).to(DEVICE).permute(0, 4, 1, 2, 3).contiguous(memory_format=form)
