"""Interface for arrays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base import configuration
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, prediction_labels, prediction_to_write
from miscnn_tf.data_loading.label_values import class_values
from miscnn_tf.data_loading.labels import check_axes, check_image, check_labels, normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

_PARTS = ("image", "segmentation", "prediction", "details")


class Dictionary_interface(Abstract_IO):
    """Interface for samples in a dict of arrays.

    Args:
        dictionary: ``{index: (image, segmentation[, prediction[, details]])}``; the segmentation may be None or left
            out. Image ``(x, y[, z][, channels])``, labels ``(x, y[, z][, 1])``, details a dict, where ``"spacing"``
            (mm) and ``"affine"`` are understood.
        channels: Number of channels.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes.
        label_map: Labels for values in the segmentations, ``{255: 1}``; other values are kept. Predictions in the dict
            have the same values.

    Example:
        >>> import numpy as np
        >>> data = {"a": (np.zeros((4, 5, 6), np.float32), np.zeros((4, 5, 6), np.uint8))}
        >>> Dictionary_interface(data).initialize("")
        ['a']
    """

    def __init__(
        self,
        dictionary: MutableMapping[Any, Any],
        channels: int = 1,
        classes: int = 2,
        three_dim: bool = True,
        *,
        label_map: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(channels=channels, classes=classes, three_dim=three_dim)
        if not isinstance(dictionary, MutableMapping):
            raise ConfigurationError(
                f"dictionary is a {type(dictionary).__name__}; give a dict {{index: (image, segmentation)}}"
            )
        self.dictionary = dictionary
        self.label_map = normalised_label_map(label_map, classes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments without the data, which are not stored in model files."""
        return {
            "dictionary": {},
            "channels": self.channels,
            "classes": self.classes,
            "three_dim": self.three_dim,
            "label_map": self.label_map,
        }

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in segmentations and predictions, by the label map."""
        return class_values(self.label_map, self.classes)

    def initialize(self, input_path: str | Path = "") -> list[Hashable]:
        """Return the names in the dict, sorted; the path is not used.

        Raises:
            MissingDataError: If the dict is empty.
        """
        if not self.dictionary:
            raise MissingDataError("the dictionary is empty; add samples: {index: (image, segmentation)}")
        try:
            return sorted(self.dictionary)
        except TypeError:
            return sorted(self.dictionary, key=lambda index: (type(index).__name__, str(index)))

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the image, read-only and not copied, and ``{"type": "dictionary"}`` with the geometry.

        Images of float64 become float32, those of bool uint8.

        Raises:
            MissingDataError: If the sample does not exist.
            DataError: If the image does not fit this interface.
        """
        array = self._array(index, "image")
        assert array is not None
        check_axes(array.shape, self.three_dim, self.channels, _where(index, "image"))
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        if array.dtype.kind == "f" and array.dtype != np.float32:
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        view = check_image(array, _where(index, "image")).view()
        view.flags.writeable = False
        return view, self._extended(index)

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns."""
        return self._extended(index)

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Return the label map as uint8 (uint16 above 256 classes).

        Raises:
            MissingDataError: If the sample has none.
            DataError: If its values are not labels below `classes`.
        """
        array = self._array(index, "segmentation")
        if array is None:
            raise MissingDataError(
                f"{_where(index, 'segmentation')} is missing; add it, or leave {index!r} out of training"
            )
        return check_labels(array, self.classes, _where(index, "segmentation"), self.label_map)

    def load_prediction(self, index: Hashable, output_path: str | Path = "") -> np.ndarray:
        """Return the prediction in the dict, labels as class numbers; the path is not used.

        Raises:
            MissingDataError: If it is missing.
        """
        array = self._array(index, "prediction")
        if array is None:
            raise MissingDataError(f"{_where(index, 'prediction')} is missing; predict {index!r} first")
        activation = array.ndim > (3 if self.three_dim else 2) and array.shape[-1] > 1
        if self.label_map is None or activation:
            return array
        where = _where(index, "prediction")
        return prediction_labels(array, self.classes, where, self.label_map, self.values_of_classes())

    def load_details(self, index: Hashable) -> dict[str, Any] | None:
        """Return a copy of the details of a sample, or None."""
        details = self._entry(index)["details"]
        if details is not None and not isinstance(details, Mapping):
            raise DataError(f"{_where(index, 'details')} must be a dict, got a {type(details).__name__}")
        return None if details is None else dict(details)

    def save_prediction(self, sample: Sample, output_path: str | Path = "") -> None:
        """Store the prediction in the dict, replacing an earlier one; labels lose their last axis of 1.

        Labels have the values of the segmentations.
        """
        entry = self._entry(sample.index)
        entry["prediction"] = prediction_to_write(sample, "the dictionary", self.values_of_classes())[0]
        parts = [entry[part] for part in _PARTS]
        stored = parts if entry["details"] is not None else parts[:3]
        self.dictionary[sample.index] = stored if isinstance(self.dictionary[sample.index], list) else tuple(stored)

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return False: the data are not in files."""
        return False

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check the shapes of a sample.

        Raises:
            DataError: If they do not match each other or this interface.
        """
        image = self._array(index, "image")
        assert image is not None
        check_axes(image.shape, self.three_dim, self.channels, _where(index, "image"))
        self.load_details(index)
        if not load_seg:
            return
        labels = self._array(index, "segmentation")
        if labels is None:
            self.load_segmentation(index)
            return
        axes = 3 if self.three_dim else 2
        shape = labels.shape[:-1] if labels.ndim == axes + 1 and labels.shape[-1] == 1 else labels.shape
        if shape != image.shape[:axes]:
            raise DataError(
                f"{_where(index, 'segmentation')} has shape {labels.shape}, the image {image.shape}; they must be the "
                "same grid"
            )

    def fingerprint(self, index: Hashable, input_path: str | Path = "") -> str | None:
        """Return a digest of the arrays' content, the details and the label map."""
        digest = hashlib.blake2b(digest_size=16)
        for part in _PARTS[:2]:
            array = self._array(index, part)
            if array is None:
                digest.update(b"none")
                continue
            # Arrays in Fortran order are hashed transposed, which avoids a copy.
            turned = array.flags.f_contiguous and not array.flags.c_contiguous
            digest.update(f"{array.dtype.str}{array.shape}{turned}".encode())
            digest.update(np.ascontiguousarray(array.T if turned else array).reshape(-1).view(np.uint8).data)
        try:
            details = configuration.digest(self.load_details(index), self.label_map)
        except ConfigurationError:
            return None
        return configuration.digest(digest.hexdigest(), details)

    def _entry(self, index: Hashable) -> dict[str, Any]:
        if index not in self.dictionary:
            known = some_of(map(repr, self.dictionary))
            raise MissingDataError(f"the dictionary holds no sample {index!r}; it holds {known}")
        parts = self.dictionary[index]
        if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= len(_PARTS) or parts[0] is None:
            raise DataError(
                f"{_where(index, 'entry')} must be (image, segmentation[, prediction[, details]]), got a "
                f"{type(parts).__name__}"
            )
        return dict.fromkeys(_PARTS) | dict(zip(_PARTS, parts, strict=False))

    def _array(self, index: Hashable, part: str) -> np.ndarray | None:
        value = self._entry(index)[part]
        if value is None:
            return None
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise DataError(f"{_where(index, part)} is a {array.dtype} array; numbers are needed")
        return array

    def _extended(self, index: Hashable) -> dict[str, Any]:
        details = self.load_details(index) or {}
        facts: dict[str, Any] = {"type": "dictionary"}
        for name in ("affine", "spacing"):
            if details.get(name) is not None:
                facts[name] = np.array(details[name], dtype=np.float64)
        if "affine" in facts and "spacing" not in facts:
            facts["spacing"] = geometry.spacing_of(facts["affine"])[: 3 if self.three_dim else 2]
        return facts


def _where(index: Hashable, part: str) -> str:
    return f"sample {index!r} of the dictionary, {part}"
