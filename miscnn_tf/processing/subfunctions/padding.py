"""Pad small samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from miscnn_tf._base.arguments import number, per_axis, sizes, whole_number
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec

#: Modes that continue the image with its own voxels, so that their labels continue with them.
_COPYING_MODES = ("edge", "reflect", "symmetric", "wrap")
_MODES = ("constant", *_COPYING_MODES, "maximum", "mean", "median", "minimum", "linear_ramp")


class Padding(Abstract_Subfunction):
    """Pad the axes that are smaller than `min_size`, and crop the prediction back.

    The image stays in the middle; of an odd difference, the larger half is added at the end (as batchgenerators'
    ``pad_nd_image`` does). Labels and class probabilities are cropped in the same way. The image keeps its type if that
    type can hold `pad_value_img`, otherwise it becomes float32.

    Args:
        min_size: Minimum number of voxels per axis. Equal values work in 2D and 3D.
        pad_mode: How the image is continued, a mode of `numpy.pad`: "constant", "edge", "reflect", "symmetric", "wrap",
            "maximum", "mean", "median", "minimum" or "linear_ramp" (towards 0).
        pad_value_img: Value around the image with "constant", in the unit of the image (for a CT in Hounsfield units,
            -1024 is air; the default of 0 is water).
        pad_value_seg: Label around the label map. With "edge", "reflect", "symmetric" and "wrap" the label map is
            continued like the image instead, because the voxels there are copies whose labels are known.
        shape_must_be_divisible_by: Enlarge further to a multiple of this number, or of a number per axis (a U-Net of
            depth 4 needs 16).

    Raises:
        ConfigurationError: If an argument is out of range.

    Example:
        >>> sample = Sample("a", np.ones((3, 100)), channels=1, classes=2)
        >>> Padding((8, 8)).preprocessing(sample)
        >>> sample.img_data.shape
        (8, 100, 1)
    """

    streams = True
    same_image_in_training = True

    def __init__(
        self,
        min_size: Sequence[int],
        pad_mode: str = "constant",
        pad_value_img: float = 0,
        pad_value_seg: int = 0,
        shape_must_be_divisible_by: int | Sequence[int] | None = None,
    ) -> None:
        self.min_size = sizes(min_size, "Padding: min_size")
        if pad_mode not in _MODES:
            raise ConfigurationError(f"Padding: pad_mode={pad_mode!r} is unknown; choose one of {', '.join(_MODES)}")
        self.pad_mode = pad_mode
        self.pad_value_img = number(pad_value_img, "Padding: pad_value_img")
        self.pad_value_seg = whole_number(pad_value_seg, "Padding: pad_value_seg")
        divisor = shape_must_be_divisible_by
        self.shape_must_be_divisible_by: int | tuple[int, ...] | None
        if divisor is None:
            self.shape_must_be_divisible_by = None
        elif isinstance(divisor, Sequence | np.ndarray):
            self.shape_must_be_divisible_by = sizes(divisor, "Padding: shape_must_be_divisible_by")
        else:
            self.shape_must_be_divisible_by = whole_number(divisor, "Padding: shape_must_be_divisible_by", 1)

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Pad the image and, in training, the label map.

        Raises:
            ConfigurationError: If `pad_value_seg` is not one of the sample's classes, or a tuple does not fit its axes.
        """
        if self.pad_value_seg >= sample.scheme.labels:
            raise ConfigurationError(
                f"Padding: pad_value_seg={self.pad_value_seg} is not a class of sample {sample.index!r}, whose labels "
                f"are 0 to {sample.scheme.labels - 1}; use one of them"
            )
        shape = sample.img_data.shape[:-1]
        widths = [
            ((new - size) // 2, (new - size + 1) // 2)
            for size, new in zip(shape, self.padded_shape(shape), strict=True)
        ]
        if any(after for _, after in widths):
            sample.img_data = self._pad(sample.img_data, widths, self.pad_mode, self.pad_value_img)
            mode = self.pad_mode if self.pad_mode in _COPYING_MODES else "constant"
            if training and sample.seg_data is not None:
                sample.seg_data = self._pad(sample.seg_data, widths, mode, self.pad_value_seg)
            if sample.previous_data is not None:
                sample.previous_data = self._pad(sample.previous_data, widths, mode, 0)
        self.remember(
            sample, shape=shape, new_shape=sample.img_data.shape[:-1], before=[before for before, _ in widths]
        )

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Crop labels or class probabilities back (a view of `prediction`)."""
        record = self.recall(sample)
        self.require_grid(sample, prediction, record["new_shape"])
        box = (slice(start, start + size) for start, size in zip(record["before"], record["shape"], strict=True))
        return prediction[tuple(box)]

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return the padded shape; the type changes where the image is padded with a value that it cannot hold."""
        shape = self.padded_shape(image.shape)
        if shape == image.shape:
            return image
        return image.replace(shape=shape, dtype=_padded_dtype(image.dtype, self.pad_mode, self.pad_value_img))

    def working_bytes(self, image: ImageSpec) -> int:
        """Return the memory that numpy takes to pad."""
        if self.pad_mode in ("constant", *_COPYING_MODES):
            return super().working_bytes(image)
        # numpy copies all that it reads, for a median several times, and computes in float64.
        after = self.output_spec(image)
        voxels = after.nbytes // after.dtype.itemsize
        return voxels * (8 + after.dtype.itemsize * (3 if self.pad_mode == "median" else 1))

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape that an image of this shape is padded to."""
        least = per_axis(self.min_size, len(shape), "Padding: min_size")
        divisor = self.shape_must_be_divisible_by or 1
        each = (divisor,) if isinstance(divisor, int) else divisor
        divisors = per_axis(each, len(shape), "Padding: shape_must_be_divisible_by")
        return tuple(
            math.ceil(max(size, small) / step) * step for size, small, step in zip(shape, least, divisors, strict=True)
        )

    def _pad(self, array: np.ndarray, widths: list[tuple[int, int]], mode: str, value: float) -> np.ndarray:
        if mode != "constant":
            return np.pad(array, [*widths, (0, 0)], mode=mode)  # type: ignore[call-overload]
        array = np.asarray(array, _padded_dtype(array.dtype, mode, value))
        return np.pad(array, [*widths, (0, 0)], mode="constant", constant_values=value)


def _padded_dtype(dtype: np.dtype, mode: str, value: float) -> np.dtype:
    """Return `dtype`, or float32 where it is an integer type that cannot hold the value."""
    if mode != "constant" or not np.issubdtype(dtype, np.integer):
        return dtype
    held = float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    return dtype if held else np.dtype(np.float32)
