"""Limit intensities to a range."""

from __future__ import annotations

import numpy as np

from miscnn_tf._base.arguments import number
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec


class Clipping(Abstract_Subfunction):
    """Set intensities below `min` to `min` and those above `max` to `max`.

    An image of whole numbers keeps its type where the limits are whole numbers that it can hold (a CT stays int16);
    otherwise the result is float32. NaN stays NaN. Nothing is undone on predictions.

    Args:
        min: Lowest intensity, in the unit of the image (Hounsfield units for CT); None for no limit.
        max: Highest intensity; None for no limit.

    Raises:
        ConfigurationError: If both are None, one is not a number, or `min` is above `max`.

    Example:
        >>> Clipping(min=-79, max=304)  # kidneys in CT
        Clipping(min=-79, max=304)
    """

    same_image_in_training = True

    def __init__(self, min: float | None, max: float | None) -> None:
        self.min = None if min is None else number(min, "Clipping: min")
        self.max = None if max is None else number(max, "Clipping: max")
        if self.min is None and self.max is None:
            raise ConfigurationError(
                "Clipping: min and max are both None, so nothing would be clipped; pass at least one of them"
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigurationError(f"Clipping: min={self.min} is above max={self.max}; swap them")

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Clip ``sample.img_data``; the label map is not changed."""
        low, high = self._limits()
        image = sample.img_data
        if self._keeps(image.dtype):
            kind = np.iinfo(image.dtype)
            sample.img_data = np.clip(image, int(max(low, kind.min)), int(min(high, kind.max)))
        else:
            sample.img_data = np.clip(np.asarray(image, np.float32), np.float32(low), np.float32(high))

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return the same shape, with the type that can hold the limits."""
        return image if self._keeps(image.dtype) else super().output_spec(image)

    def _limits(self) -> tuple[float, float]:
        return -np.inf if self.min is None else self.min, np.inf if self.max is None else self.max

    def _keeps(self, dtype: np.dtype) -> bool:
        """Return whether an image of this type keeps it."""
        if not np.issubdtype(dtype, np.integer):
            return False
        (low, high), kind = self._limits(), np.iinfo(dtype)
        # A limit beyond the range of the type has no effect, and numpy would refuse it.
        inside = [limit for limit in (low, high) if kind.min < limit < kind.max]
        return low <= kind.max and high >= kind.min and all(float(limit).is_integer() for limit in inside)
