"""Intensity transforms: frozen records of drawn values that change a float32 image in place.

The formulas are those of batchgenerators' ``augment_brightness_multiplicative``, ``augment_contrast``,
``augment_gamma`` and ``augment_gaussian_noise``. Those functions draw from numpy's global random state even with fixed
values, so that they can neither be repeated nor be used by several threads. The tests compare both.

All take images ``(x, y[, z], channels)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: Keeps the gamma transform of a constant image from dividing by zero, as in batchgenerators.
GAMMA_EPSILON = 1e-7


class Intensity(Protocol):
    """Protocol of transforms that change the values of an image in place, but not its geometry."""

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` ``(x, y[, z], channels)``, float32, in place."""


@dataclass(frozen=True)
class Brightness:
    """Multiply each channel by a factor.

    Args:
        factors: A factor per channel.
    """

    factors: tuple[float, ...]

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        for channel, factor in zip(_channels(image), self.factors, strict=True):
            channel *= factor


@dataclass(frozen=True)
class Contrast:
    """Multiply the difference between each channel and its mean by a factor.

    Args:
        factors: A factor per channel.
        preserve_range: Clip to the lowest and highest value that the channel had.
    """

    factors: tuple[float, ...]
    preserve_range: bool = True

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        for channel, factor in zip(_channels(image), self.factors, strict=True):
            least, greatest = channel.min(), channel.max()
            mean = float(channel.mean(dtype=np.float64))
            channel -= mean
            channel *= factor
            channel += mean
            if self.preserve_range:
                np.clip(channel, least, greatest, out=channel)


@dataclass(frozen=True)
class Gamma:
    """Gamma correction: values are scaled to 0..1, raised to a power, and scaled back.

    Args:
        exponents: An exponent per channel.
        per_channel: Use the value range of each channel rather than that of all channels together (one exponent).
    """

    exponents: tuple[float, ...]
    per_channel: bool = True

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        parts = _channels(image) if self.per_channel else [image]
        # With one exponent for all channels the tuple repeats it, and the first one is used.
        for part, exponent in zip(parts, self.exponents, strict=False):
            least = float(part.min())
            span = float(part.max()) - least
            part -= least
            part /= span + GAMMA_EPSILON
            np.power(part, exponent, out=part)
            # batchgenerators uses the epsilon in one of its two branches only.
            part *= span + GAMMA_EPSILON if self.per_channel else span
            part += least


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of one strength, drawn for each voxel and channel.

    Args:
        sigma: Standard deviation (batchgenerators calls it the variance).
        seed: Seed of the numbers.
    """

    sigma: float
    seed: int

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        numbers = np.random.default_rng(self.seed).standard_normal(image.shape, dtype=np.float32)
        numbers *= self.sigma
        image += numbers


def _channels(image: np.ndarray) -> Iterator[np.ndarray]:
    return (image[..., channel] for channel in range(image.shape[-1]))
