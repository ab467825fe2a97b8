"""Convert raw CT values to Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from miscnn_tf._base.arguments import flag, number, sequence
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction


class TransformHU(Abstract_Subfunction):
    """Convert raw CT values to Hounsfield units, ``HU = slope * raw + intercept``, and scale them to 0 … 1.

    Slope and intercept of a sample are taken from ``sample.details`` if present ("slope" and "intercept", or DICOM's
    "RescaleSlope" and "RescaleIntercept"), otherwise from the arguments. The result is float32. Nothing is undone on
    predictions.

    This step is for raw values. Most NIfTI files hold Hounsfield units already: use `Clipping` and `Normalization`
    there, or this step with ``slope=1, intercept=0, clipScan_value=None``.

    Args:
        normalize: Scale `minmaxBound` to 0 … 1, and clip values outside.
        slope: HU per raw unit (DICOM tag 0028,1053) if the sample has none.
        intercept: HU of raw 0 (DICOM tag 0028,1052) if the sample has none.
        clipScan_value: The raw value of voxels outside the scanner's round field of view. They are set to raw 0 first,
            which is air with the usual intercept of -1024. None if there are no such voxels.
        minmaxBound: HU that become 0 and 1.

    Raises:
        ConfigurationError: If an argument is not a number, or the bounds are not in ascending order.

    Reference:
        DICOM PS3.3, C.11.1.1.2 (Modality LUT: rescale slope and rescale intercept).

    Example:
        >>> sample = Sample("a", np.array([[-2000, 24, 1424]], np.int16), channels=1, classes=2)
        >>> TransformHU(normalize=False).preprocessing(sample)
        >>> sample.img_data[..., 0].tolist()
        [[-1024.0, -1000.0, 400.0]]
    """

    same_image_in_training = True

    def __init__(
        self,
        normalize: bool = True,
        slope: float = 1,
        intercept: float = -1024,
        clipScan_value: float | None = -2000,
        minmaxBound: Sequence[float] = (-1000, 400),
    ) -> None:
        self.normalize = flag(normalize, "TransformHU: normalize")
        self.slope = number(slope, "TransformHU: slope")
        self.intercept = number(intercept, "TransformHU: intercept")
        self.clipScan_value = None if clipScan_value is None else number(clipScan_value, "TransformHU: clipScan_value")
        bounds = sequence(minmaxBound, "TransformHU: minmaxBound")
        self.minmaxBound = tuple(number(bound, "TransformHU: minmaxBound") for bound in bounds)
        if len(self.minmaxBound) != 2 or not -np.inf < self.minmaxBound[0] < self.minmaxBound[1] < np.inf:
            raise ConfigurationError(f"TransformHU: minmaxBound must be (lower HU, upper HU), got {minmaxBound!r}")

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Transform ``sample.img_data``; the label map is not changed.

        Raises:
            DataError: If the slope or intercept in the sample's details is not a number.
        """
        slope = _detail(sample, ("slope", "RescaleSlope"), self.slope)
        intercept = _detail(sample, ("intercept", "RescaleIntercept"), self.intercept)
        raw = sample.img_data
        image = raw.astype(np.float32)
        if self.clipScan_value is not None:
            image[raw == self.clipScan_value] = 0
        image *= slope
        image += intercept
        if self.normalize:
            low, high = self.minmaxBound
            image -= low
            image /= high - low
            np.clip(image, 0, 1, out=image)
        sample.img_data = image


def _detail(sample: Sample, names: tuple[str, ...], default: float) -> float:
    found: list[Any] = [sample.details[name] for name in names if sample.details.get(name) is not None]
    if not found:
        return default
    try:
        return number(found[0], names[0])
    except ConfigurationError:
        raise DataError(
            f"sample {sample.index!r}: {names[0]}={found[0]!r} in its details must be one number; correct the details "
            "that the interface returns"
        ) from None
