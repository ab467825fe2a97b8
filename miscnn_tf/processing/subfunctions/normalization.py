"""Bring the intensities of all samples to one scale."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import numpy as np

from miscnn_tf._base.arguments import number
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

MODES = ("z-score", "minmax", "grayscale")

_SLAB_BYTES = 16 * 2**20


class Normalization(Abstract_Subfunction):
    """Normalize each channel of each sample by its own statistics.

    ========== ==========================================================
    mode       result
    ========== ==========================================================
    z-score    ``(x - mean) / (std + smooth)``
    minmax     ``(x - min) / (max - min)``, from 0 to 1
    grayscale  minmax times 255, rounded to whole numbers from 0 to 255
    ========== ==========================================================

    Channels are treated one by one because MRI sequences have different units. The result is float32; the statistics
    are float64. A constant channel becomes zeros. Voxels that are NaN or infinite are left out of the statistics and
    become 0, because one NaN makes the whole output of a network NaN; the loader warns about them. Nothing is undone on
    predictions.

    Args:
        mode: "z-score", "minmax" or "grayscale".
        smooth: Added to the standard deviation, in the unit of the image, so that the noise of a nearly constant image
            is not amplified. Choose a smaller value where the intensities themselves are that small (a warning is
            logged).

    Raises:
        ConfigurationError: If the mode is unknown, or `smooth` is negative.

    Example:
        >>> sample = Sample("a", np.array([[1, 2], [3, 4]]), channels=1, classes=2)
        >>> Normalization(mode="minmax").preprocessing(sample)
        >>> sample.img_data[..., 0].round(2).tolist()
        [[0.0, 0.33000001311302185], [0.6700000166893005, 1.0]]
    """

    same_image_in_training = True

    def __init__(self, mode: str = "z-score", smooth: float = 1e-6) -> None:
        if mode not in MODES:
            raise ConfigurationError(f"Normalization: mode={mode!r} is unknown; choose one of {', '.join(MODES)}")
        self.mode = mode
        self.smooth = number(smooth, "Normalization: smooth")
        if not 0 <= self.smooth < math.inf:
            raise ConfigurationError(f"Normalization: smooth must be 0 or a small positive number, got {smooth!r}")

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Normalize ``sample.img_data``; the label map is not changed."""
        image = sample.img_data
        if self.mode == "z-score":
            offset, deviation = _mean_and_std(image)
            scale = np.where(deviation > 0, deviation + self.smooth, np.inf)
            if np.any((deviation > 0) & (deviation < 100 * self.smooth)):
                logger.warning(
                    "sample %r: the standard deviation of its intensities, %s, is not much larger than smooth=%g, "
                    "which lowers the contrast of the normalized image; pass a smaller smooth to Normalization",
                    sample.index,
                    deviation.tolist(),
                    self.smooth,
                )
        else:
            offset, highest = _range(image)
            spread = highest - offset
            scale = np.where(spread > 0, spread, np.inf)
            if self.mode == "grayscale":
                scale = scale / 255
        result = np.empty(image.shape, np.float32)
        for where, values in _slabs(image):
            values = (np.where(np.isfinite(values), values, offset) - offset) / scale
            result[where] = np.rint(values) if self.mode == "grayscale" else values
        sample.img_data = result


def _slabs(image: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield float64 copies of a few rows at a time."""
    rows = max(1, _SLAB_BYTES // max(1, 8 * math.prod(image.shape[1:])))
    for start in range(0, len(image), rows):
        yield slice(start, start + rows), np.asarray(image[start : start + rows], dtype=np.float64)


def _mean_and_std(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the finite voxels of each channel; zeros where there are none."""
    axes = tuple(range(image.ndim - 1))
    count, total, squares = (np.zeros(image.shape[-1]) for _ in range(3))
    for _, values in _slabs(image):
        finite = np.isfinite(values)
        count += finite.sum(axis=axes)
        total += np.sum(values, axis=axes, where=finite)
    mean = total / np.maximum(count, 1)
    # A second pass over differences: the sum of squares minus the square of the sum would cancel.
    for _, values in _slabs(image):
        finite = np.isfinite(values)
        squares += np.sum(np.square(values - mean, where=finite, out=np.zeros_like(values)), axis=axes)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    # The rounding of the mean leaves a small deviation in a constant image.
    deviation[deviation < 1e-12 * np.abs(mean)] = 0
    return mean, deviation


def _range(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest finite value of each channel; zeros where there are none."""
    axes = tuple(range(image.ndim - 1))
    lowest, highest = np.full(image.shape[-1], np.inf), np.full(image.shape[-1], -np.inf)
    for _, values in _slabs(image):
        finite = np.isfinite(values)
        np.minimum(lowest, np.min(values, axis=axes, where=finite, initial=np.inf), out=lowest)
        np.maximum(highest, np.max(values, axis=axes, where=finite, initial=-np.inf), out=highest)
    empty = lowest > highest
    return np.where(empty, 0, lowest), np.where(empty, 0, highest)
