"""Intensity transforms of nnU-Net that batchgenerators' older list lacks: blur, low resolution, and another gamma.

The formulas are those of batchgeneratorsv2's ``GaussianBlurTransform``, ``SimulateLowResolutionTransform`` and
``GammaTransform``, which ``benchmarks/parity/augmentation.py`` compares. Like those of `intensity`, the records hold
drawn values and change a float32 image ``(x, y[, z], channels)`` in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: Smallest value range and deviation that the gamma transform divides by.
EPSILON = 1e-7


@dataclass(frozen=True)
class Blur:
    """Convolve channels with a Gaussian, axis by axis.

    Args:
        sigmas: Per channel, the standard deviation in voxels on each axis; None leaves the channel as it is.
    """

    sigmas: tuple[tuple[float, ...] | None, ...]

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        for channel, sigmas in enumerate(self.sigmas):
            if sigmas is None:
                continue
            values = np.ascontiguousarray(image[..., channel])
            for axis, sigma in enumerate(sigmas):
                # The values mirror at the outermost voxels, which are not repeated.
                values = ndimage.correlate1d(values, gaussian_kernel(sigma), axis, mode="mirror")
            image[..., channel] = values


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Return the weights of a Gaussian, whose odd number is about six times `sigma`, as in batchgeneratorsv2.

    Example:
        >>> gaussian_kernel(0.5).round(4).tolist()
        [0.1065, 0.787, 0.1065]
    """
    wanted = 6 * sigma + 0.5
    size = round(wanted)
    if size % 2 == 0:
        size += 1 if wanted >= size else -1
    weights = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class LowResolution:
    """Reduce the resolution of channels: take every nth voxel or so, and interpolate linearly between them.

    Args:
        scales: Per channel, the factor of the number of voxels on each axis; None leaves the channel as it is.
    """

    scales: tuple[tuple[float, ...] | None, ...]

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        for channel, scales in enumerate(self.scales):
            if scales is None:
                continue
            shape = image.shape[:-1]
            fewer = [max(1, round(size * scale)) for size, scale in zip(shape, scales, strict=True)]
            taken = [_nearest(size, count) for size, count in zip(shape, fewer, strict=True)]
            values = image[(*np.ix_(*taken), channel)]
            for axis, size in enumerate(shape):
                values = _stretched(values, axis, size)
            image[..., channel] = values


def _nearest(size: int, count: int) -> np.ndarray:
    """Return the `count` of `size` voxels that are nearest to the centres of as many equal parts."""
    places = np.floor((np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(size / count))
    return np.minimum(places.astype(np.intp), size - 1)


def _stretched(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Interpolate `values` linearly at the centres of `size` equal parts of an axis; beyond its ends, they repeat."""
    count = values.shape[axis]
    if count == size:
        return values
    places = np.maximum((np.arange(size) + 0.5) * (count / size) - 0.5, 0)
    below = np.minimum(places.astype(np.intp), count - 1)
    share = (places - below).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(values.ndim)])
    low = values.take(below, axis)
    result = values.take(np.minimum(below + 1, count - 1), axis)
    result -= low
    result *= share
    result += low
    return result


@dataclass(frozen=True)
class KeptGamma:
    """Gamma correction of each channel that keeps its mean and standard deviation.

    Args:
        exponents: An exponent per channel.
        invert: Apply it to the negative of the image, so that bright values are changed most.
    """

    exponents: tuple[float, ...]
    invert: bool = False

    def __call__(self, image: np.ndarray) -> None:
        """Change `image` in place."""
        for channel, exponent in enumerate(self.exponents):
            values = np.array(image[..., channel], np.float32, order="C")
            if self.invert:
                np.negative(values, out=values)
            mean, deviation = _statistics(values)
            least = values.min()
            span = values.max() - least
            values -= least
            values /= max(span, np.float32(EPSILON))
            np.power(values, np.float32(exponent), out=values)
            values *= span
            values += least
            changed_mean, changed_deviation = _statistics(values)
            values -= np.float32(changed_mean)
            values *= np.float32(deviation / max(changed_deviation, EPSILON))
            values += np.float32(mean)
            image[..., channel] = -values if self.invert else values


def _statistics(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation, whose sum of squares is divided by the number of voxels minus 1."""
    mean = float(values.mean(dtype=np.float64))
    centred = values.ravel() - np.float32(mean)
    squares = float(np.dot(centred, centred))
    return mean, math.sqrt(squares / max(values.size - 1, 1))
