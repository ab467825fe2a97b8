"""Sample: an image with its label map, metadata and prediction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from miscnn_tf.data_loading.labels import whole_labels
from miscnn_tf.errors import ConfigurationError, DataError, GridError


class Sample:
    """An image with its label map and prediction, all channels-last.

    Args:
        index: The name of the sample.
        image: Array of shape ``(x, y[, z])`` or ``(x, y[, z], channels)``; a missing channel axis is added. The dtype
            is kept, and nothing is copied.
        channels: Number of channels (MRI sequences, colours).
        classes: Number of classes, background included.
        extended: Metadata of the file: ``"type"``, ``"affine"`` (4x4), ``"spacing"`` (mm per axis), …
        three_dim: Whether the image has three spatial axes. Interfaces set it; if None, an image with
            2 axes is 2D, one with 4 is 3D, and one with 3 is 2D only if its last axis has `channels` > 1 entries.
            The attribute is always a bool.

    Attributes:
        img_data: The image, shape ``(x, y[, z], channels)``.
        seg_data: The label map, shape ``(x, y[, z], 1)``, or None.
        pred_data: The prediction, or None.
        shape: Shape of `img_data` as it was read.
        details: Values that processing steps pass on. Numbers, strings, lists and arrays can be stored on disk.
        history: Data that each subfunction needs to undo its change, in the order they ran (plain data).

    Raises:
        DataError: If the number of axes or channels does not match.

    Example:
        >>> import numpy as np
        >>> Sample("a", np.zeros((4, 5, 6)), channels=1, classes=2, three_dim=True).shape
        (4, 5, 6, 1)
    """

    def __init__(
        self,
        index: Hashable,
        image: np.ndarray,
        channels: int,
        classes: int,
        extended: Mapping[str, Any] | None = None,
        three_dim: bool | None = None,
    ) -> None:
        image = _as_array(image)
        if three_dim is None:
            three_dim = image.ndim == 4 or (image.ndim == 3 and not (channels > 1 and image.shape[-1] == channels))
        self.index = index
        self.channels = channels
        self.classes = classes
        self.three_dim = bool(three_dim)
        self.img_data: np.ndarray = self._with_channels(image, "image")
        if self.img_data.shape[-1] != channels:
            raise DataError(
                f"sample {index!r}: the image has {self.img_data.shape[-1]} channel(s) (shape {image.shape}), but the "
                f"interface was made with channels={channels}"
            )
        self.shape: tuple[int, ...] = self.img_data.shape
        self.seg_data: np.ndarray | None = None
        self.pred_data: np.ndarray | None = None
        self.extended: dict[str, Any] = dict(extended or {})
        self.details: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return 3 if self.three_dim else 2

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Current voxel size of `img_data`, mm per axis, updated by resampling; None if unknown."""
        spacing = self.details.get("spacing", self.extended.get("spacing"))
        return None if spacing is None else tuple(float(value) for value in spacing)

    def add_segmentation(self, seg: np.ndarray) -> None:
        """Set the label map, shape ``(x, y[, z])`` or ``(x, y[, z], 1)``; floating whole numbers become integers.

        Raises:
            DataError: If its spatial shape is not the image's, it has more than one channel, or its values are not
                whole numbers.
        """
        seg = self._with_channels(_as_array(seg), "segmentation")
        if seg.shape[-1] != 1:
            raise DataError(
                f"sample {self.index!r}: the segmentation has {seg.shape[-1]} channels (shape {seg.shape}), but a "
                "label map has one number per voxel; turn colours or one-hot channels into labels 0, 1, … first"
            )
        if seg.shape[:-1] != self.img_data.shape[:-1]:
            raise GridError(
                f"sample {self.index!r}: the image is {self.img_data.shape[:-1]} voxels, its segmentation "
                f"{seg.shape[:-1]}; they must be the same grid"
            )
        self.seg_data = whole_labels(seg, f"sample {self.index!r}: segmentation")

    def add_prediction(self, pred: np.ndarray, activation_output: bool = False) -> None:
        """Set the prediction.

        Args:
            pred: Labels ``(x, y[, z])``, to which an axis of 1 is added; with `activation_output`, probabilities
                ``(x, y[, z], classes)``.
            activation_output: Whether `pred` holds probabilities.

        Raises:
            ConfigurationError: If activation output has no class axis.
            DataError: If labels have another number of axes than the image.
        """
        pred = _as_array(pred)
        if activation_output:
            if pred.ndim != self.ndim + 1:
                raise ConfigurationError(f"activation output needs a class axis; got shape {pred.shape}")
            self.pred_data = pred
        else:
            self.pred_data = self._with_channels(pred, "prediction")

    def get_extended_data(self) -> dict[str, Any]:
        """Return the metadata of the file (type, affine, spacing, …)."""
        return self.extended

    def add_details(self, details: Mapping[str, Any]) -> None:
        """Set the details of this sample."""
        self.details = dict(details)

    def _with_channels(self, array: np.ndarray, what: str) -> np.ndarray:
        if array.ndim == self.ndim:
            return array[..., np.newaxis]
        if array.ndim == self.ndim + 1:
            return array
        expected = "(x, y, z[, channels])" if self.three_dim else "(x, y[, channels])"
        raise DataError(
            f"sample {self.index!r}: the {what} has shape {array.shape}, but {expected} is needed. Use a "
            f"{'2D' if self.three_dim else '3D'} interface (three_dim={not self.three_dim}) if the data are "
            f"{'2D' if self.three_dim else '3D'}"
        )


def _as_array(values: Any) -> np.ndarray:
    # Keep memory maps, convert lists.
    return values if isinstance(values, np.ndarray) else np.asarray(values)
