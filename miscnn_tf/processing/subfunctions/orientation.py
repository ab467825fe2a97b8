"""Bring the axes of all volumes into one orientation."""

from __future__ import annotations

from typing import Final

import nibabel as nib
import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec

_PAIRS: Final = ({"L", "R"}, {"P", "A"}, {"I", "S"})


class Orientation(Abstract_Subfunction):
    """Flip and swap the axes of a volume so that they point in given directions, and undo it exactly.

    Scanners and programs store volumes in different orders of the axes. A network sees them alike after this step; the
    prediction returns to the axes of the file. Nothing is interpolated: an oblique volume takes the nearest directions.

    Args:
        axes: A letter per axis, the direction in which its voxel indices grow: R or L, A or P, S or I. The default is
            nibabel's "closest canonical" orientation.

    Raises:
        ConfigurationError: If `axes` does not have one letter of each pair.
        DataError: In `preprocessing`, if the sample is not a volume with a known orientation.

    Example:
        >>> affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        >>> sample = Sample("a", np.arange(8).reshape(2, 2, 2), 1, 2, {"affine": affine}, three_dim=True)
        >>> Orientation("RAS").preprocessing(sample)
        >>> sample.img_data[:, :, 0, 0].tolist()
        [[6, 4], [2, 0]]
    """

    acts_on_activation = True
    same_image_in_training = True

    def __init__(self, axes: str = "RAS") -> None:
        if not isinstance(axes, str) or len(axes) != 3 or any(len(pair & set(axes)) != 1 for pair in _PAIRS):
            raise ConfigurationError(
                f"Orientation: axes={axes!r} must be three letters, one of R or L, A or P, S or I each; such as 'RAS'"
            )
        self.axes = axes

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Flip and swap the axes of the image and, in training, of the label map."""
        before = ImageSpec.of(sample)
        if before.orientation is None:
            raise DataError(
                f"sample {sample.index!r}: its orientation is unknown, because it is not a volume whose file has an "
                "affine; leave out the step Orientation for such data"
            )
        order, flips = axis_changes(before.orientation, self.axes)
        sample.img_data = _moved(sample.img_data, order, flips)
        if training and sample.seg_data is not None:
            sample.seg_data = _moved(sample.seg_data, order, flips)
        if sample.previous_data is not None:
            sample.previous_data = _moved(sample.previous_data, order, flips)
        after = self.output_spec(before)
        if after.spacing is not None:
            sample.details["spacing"] = list(after.spacing)
        sample.details["orientation"] = self.axes
        self.remember(sample, order=order, flips=flips, new_shape=after.shape, orientation=before.orientation)

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Return labels or class probabilities with the axes of the file (a view of `prediction`)."""
        record = self.recall(sample)
        self.require_grid(sample, prediction, record["new_shape"])
        back = list(np.argsort(record["order"]))
        rest = list(range(len(back), prediction.ndim))
        return np.flip(np.transpose(prediction, back + rest), tuple(record["flips"]))

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return shape and spacing in the new order of the axes."""
        if image.orientation is None:
            return image
        order, _ = axis_changes(image.orientation, self.axes)
        spacing = image.spacing
        return image.replace(
            shape=tuple(image.shape[axis] for axis in order),
            spacing=None if spacing is None else tuple(spacing[axis] for axis in order),
            orientation=self.axes,
        )

    def working_bytes(self, image: ImageSpec) -> int:
        """Return 0: the results are views."""
        return 0


def axis_changes(old: str, new: str) -> tuple[list[int], list[int]]:
    """Return the old axis of each new one, and the old axes that are flipped.

    Example:
        >>> axis_changes("LPS", "RAS")
        ([0, 1, 2], [0, 1])
    """
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(tuple(old)), nib.orientations.axcodes2ornt(tuple(new))
    )
    return [int(axis) for axis in np.argsort(change[:, 0])], [axis for axis in range(3) if change[axis, 1] < 0]


def _moved(array: np.ndarray, order: list[int], flips: list[int]) -> np.ndarray:
    return np.transpose(np.flip(array, tuple(flips)), [*order, 3])
