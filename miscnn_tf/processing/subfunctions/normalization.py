"""Bring the intensities of all samples to one scale."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from miscnn_tf._base.arguments import flag, number
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec
from miscnn_tf.processing.subfunctions.cropping import nonzero_mask

logger = logging.getLogger(__name__)

MODES = ("z-score", "minmax", "grayscale", "ct", "rgb", "none")

_SLAB_BYTES = 16 * 2**20
#: nnU-Net's smallest standard deviation of a data set of CT.
_LEAST_DEVIATION = 1e-8


class Normalization(Abstract_Subfunction):
    """Normalize each channel of each sample, by its own statistics or by those of the data set.

    ========== ==========================================================
    mode       result
    ========== ==========================================================
    z-score    ``(x - mean) / (std + smooth)``
    minmax     ``(x - min) / (max - min)``, from 0 to 1
    grayscale  minmax times 255, rounded to whole numbers from 0 to 255
    ct         clipped to the data set's percentiles, then ``(x - mean) / std`` of the data set (`statistics`)
    rgb        ``x / 255``, for images of 0 to 255
    none       ``x``
    ========== ==========================================================

    Channels are treated one by one because MRI sequences have different units. The result is float32; the statistics
    are float64. A constant channel becomes zeros. Voxels that are NaN or infinite are left out of the statistics and
    become 0 (the mean with "ct"), because one NaN makes the whole output of a network NaN; the loader warns about them.
    Nothing is undone on predictions.

    Args:
        mode: One of the modes above, or one per channel.
        smooth: Added to the standard deviation, in the unit of the image, so that the noise of a nearly constant image
            is not amplified. Choose a smaller value where the intensities themselves are that small (a warning is
            logged).
        statistics: For "ct": ``(lowest, highest, mean, standard deviation)`` of the foreground of the data set, in the
            unit of the image, or one of these per channel; nnU-Net takes the percentiles 0.5 and 99.5 for the first
            two.
        nonzero: Take the statistics of "z-score" from the voxels that are not 0 in any channel and those that they
            enclose, and set all others to 0; for MRI with empty surroundings.

    Raises:
        ConfigurationError: If a mode is unknown, `smooth` is negative, or "ct" has no statistics.
        DataError: In `preprocessing`, if the number of modes is not that of the channels, or a channel with "rgb" has
            other values than 0 to 255.

    Example:
        >>> sample = Sample("a", np.array([[1, 2], [3, 4]]), channels=1, classes=2)
        >>> Normalization(mode="minmax").preprocessing(sample)
        >>> sample.img_data[..., 0].round(2).tolist()
        [[0.0, 0.33000001311302185], [0.6700000166893005, 1.0]]

    References:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021: "ct" and `nonzero`.
    """

    same_image_in_training = True

    def __init__(
        self,
        mode: str | Sequence[str] = "z-score",
        smooth: float = 1e-6,
        statistics: Sequence[float] | Sequence[Sequence[float]] | None = None,
        nonzero: bool = False,
    ) -> None:
        self.mode = mode if isinstance(mode, str) else tuple(mode)
        for one in self._modes(1 if isinstance(mode, str) else len(self.mode)):
            if one not in MODES:
                raise ConfigurationError(f"Normalization: mode={one!r} is unknown; choose one of {', '.join(MODES)}")
        self.smooth = number(smooth, "Normalization: smooth")
        if not 0 <= self.smooth < math.inf:
            raise ConfigurationError(f"Normalization: smooth must be 0 or a small positive number, got {smooth!r}")
        self.statistics = None if statistics is None else _checked_statistics(statistics)
        if self.statistics is None and "ct" in ((mode,) if isinstance(mode, str) else self.mode):
            raise ConfigurationError(
                "Normalization: the mode 'ct' needs statistics=(lowest, highest, mean, standard deviation) of the "
                "foreground of the data set; 'miscnn-tf init' measures them"
            )
        self.nonzero = flag(nonzero, "Normalization: nonzero")

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Normalize ``sample.img_data``; the label map is not changed."""
        image = sample.img_data
        modes = self._modes(image.shape[-1])
        if len(modes) != image.shape[-1]:
            raise DataError(
                f"sample {sample.index!r} has {image.shape[-1]} channels, but Normalization has {len(modes)} modes; "
                "pass one mode per channel, or one for all"
            )
        inside = nonzero_mask(image) if self.nonzero else None
        offset, scale, lowest, highest = self._numbers(sample, modes, inside)
        rounded = [number for number, mode in enumerate(modes) if mode == "grayscale"]
        result = np.empty(image.shape, np.float32)
        for where, values in _slabs(image):
            values = np.where(np.isfinite(values), values, offset)  # a copy: the slab may be a view of the image
            np.clip(values, lowest, highest, out=values)
            values -= offset
            values /= scale
            values[..., rounded] = np.rint(values[..., rounded])
            result[where] = values
        if inside is not None:
            masked = [number for number, mode in enumerate(modes) if mode == "z-score"]
            for channel in masked:
                result[..., channel][~inside] = 0
        sample.img_data = result

    def working_bytes(self, image: ImageSpec) -> int:
        """Return the memory of the slabs, and of the components of the zeros with `nonzero`."""
        voxels = image.nbytes // (image.dtype.itemsize * image.channels)
        return super().working_bytes(image) + (8 * voxels if self.nonzero else 0)

    def _modes(self, channels: int) -> tuple[str, ...]:
        return (self.mode,) * channels if isinstance(self.mode, str) else self.mode

    def _numbers(
        self, sample: Sample, modes: Sequence[str], inside: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return offset, scale, and limits of each channel."""
        image, channels = sample.img_data, len(modes)
        offset, scale = np.zeros(channels), np.ones(channels)
        lowest, highest = np.full(channels, -np.inf), np.full(channels, np.inf)
        if "z-score" in modes:
            mean, deviation = _mean_and_std(image, inside)
            self._warn_of_little_contrast(sample, [deviation[n] for n, mode in enumerate(modes) if mode == "z-score"])
        if {"minmax", "grayscale", "rgb"} & set(modes):
            least, greatest = _range(image)
            spread = np.where(greatest > least, greatest - least, np.inf)
        for channel, mode in enumerate(modes):
            if mode == "z-score":
                offset[channel] = mean[channel]
                scale[channel] = deviation[channel] + self.smooth if deviation[channel] > 0 else np.inf
            elif mode in ("minmax", "grayscale"):
                offset[channel] = least[channel]
                scale[channel] = spread[channel] / (255 if mode == "grayscale" else 1)
            elif mode == "ct":
                assert self.statistics is not None
                low, high, offset[channel], deviation_of_data = self.statistics[channel % len(self.statistics)]
                lowest[channel], highest[channel] = low, high
                scale[channel] = max(deviation_of_data, _LEAST_DEVIATION)
            elif mode == "rgb":
                if least[channel] < 0 or greatest[channel] > 255:
                    raise DataError(
                        f"sample {sample.index!r}: channel {channel} has values from {least[channel]:g} to "
                        f"{greatest[channel]:g}, but the mode 'rgb' of Normalization is for 0 to 255; use 'minmax' or "
                        "'z-score'"
                    )
                scale[channel] = 255
        return offset, scale, lowest, highest

    def _warn_of_little_contrast(self, sample: Sample, deviations: Sequence[float]) -> None:
        if any(0 < deviation < 100 * self.smooth for deviation in deviations):
            logger.warning(
                "sample %r: the standard deviation of its intensities, %s, is not much larger than smooth=%g, "
                "which lowers the contrast of the normalized image; pass a smaller smooth to Normalization",
                sample.index,
                [float(deviation) for deviation in deviations],
                self.smooth,
            )


def _checked_statistics(statistics: Any) -> tuple[tuple[float, float, float, float], ...]:
    several = len(statistics) > 0 and not isinstance(statistics[0], numbers.Real)
    checked = []
    for one in statistics if several else (statistics,):
        found = tuple(number(value, "Normalization: statistics") for value in one)
        if len(found) != 4 or not all(map(math.isfinite, found)) or found[0] >= found[1] or found[3] < 0:
            raise ConfigurationError(
                f"Normalization: statistics={one!r} must be (lowest, highest, mean, standard deviation), with lowest "
                "below highest"
            )
        checked.append(found)
    return tuple(checked)


def _slabs(image: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield a few rows at a time in float64: copies, or views of a float64 image."""
    rows = max(1, _SLAB_BYTES // max(1, 8 * math.prod(image.shape[1:])))
    for start in range(0, len(image), rows):
        yield slice(start, start + rows), np.asarray(image[start : start + rows], dtype=np.float64)


def _mean_and_std(image: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the finite voxels of each channel; zeros where there are none."""
    axes = tuple(range(image.ndim - 1))
    count, total, squares = (np.zeros(image.shape[-1]) for _ in range(3))

    def counted(rows: slice, values: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        return finite if inside is None else finite & inside[rows, ..., np.newaxis]

    for rows, values in _slabs(image):
        finite = counted(rows, values)
        count += finite.sum(axis=axes)
        total += np.sum(values, axis=axes, where=finite)
    mean = total / np.maximum(count, 1)
    # A second pass over differences: the sum of squares minus the square of the sum would cancel.
    for rows, values in _slabs(image):
        finite = counted(rows, values)
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
