"""Sample: an image with its label map and prediction; lists of sample names; memory errors that name a sample."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.data_loading.labels import check_labels, whole_labels
from miscnn_tf.errors import ConfigurationError, DataError, GridError, MemoryBudgetError, MiscnnError


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
        scheme: Meaning of the labels; None: `classes` alone.

    Attributes:
        img_data: The image, shape ``(x, y[, z], channels)``.
        seg_data: The label map, shape ``(x, y[, z], 1)``, or None.
        pred_data: The prediction, or None.
        previous_data: The label map that the previous stage of a cascade made, shape ``(x, y[, z], 1)``, or None.
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
        scheme: LabelScheme | None = None,
    ) -> None:
        image = _as_array(image)
        if three_dim is None:
            three_dim = image.ndim == 4 or (image.ndim == 3 and not (channels > 1 and image.shape[-1] == channels))
        self.index = index
        self.channels = channels
        self.classes = classes
        self.three_dim = bool(three_dim)
        self._scheme = scheme
        self.img_data: np.ndarray = self._with_channels(image, "image")
        if self.img_data.shape[-1] != channels:
            raise DataError(
                f"sample {index!r}: the image has {self.img_data.shape[-1]} channel(s) (shape {image.shape}), but the "
                f"interface was made with channels={channels}"
            )
        self.shape: tuple[int, ...] = self.img_data.shape
        self.seg_data: np.ndarray | None = None
        self.pred_data: np.ndarray | None = None
        self.previous_data: np.ndarray | None = None
        self.extended: dict[str, Any] = dict(extended or {})
        self.details: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return 3 if self.three_dim else 2

    @property
    def input_channels(self) -> int:
        """Channels of the network's input: those of `img_data`, and one per foreground class of `previous_data`."""
        return self.img_data.shape[-1] + (0 if self.previous_data is None else self.classes - 1)

    @property
    def scheme(self) -> LabelScheme:
        """Meaning of the labels: classes, voxels without annotation, and regions."""
        return LabelScheme(self.classes) if self._scheme is None else self._scheme

    @scheme.setter
    def scheme(self, scheme: LabelScheme | None) -> None:
        self._scheme = scheme

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
                ``(x, y[, z], classes)``, or with a channel per region.
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

    def add_previous(self, labels: np.ndarray) -> None:
        """Set the label map that the previous stage of a cascade made, ``(x, y[, z])`` or ``(x, y[, z], 1)``.

        Raises:
            GridError: If its spatial shape is not the image's.
            LabelError: If its labels are not those of the classes.
        """
        where = f"sample {self.index!r}: segmentation of the previous stage"
        labels = self._with_channels(_as_array(labels), "segmentation of the previous stage")
        if labels.shape != (*self.img_data.shape[:-1], 1):
            raise GridError(
                f"{where}: it has the shape {labels.shape[:-1]}, but the image {self.img_data.shape[:-1]}; it must be "
                "a label map of this image, on the same grid"
            )
        self.previous_data = check_labels(labels, self.classes, where)

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


def as_index_list(samples: Hashable | Iterable[Hashable]) -> list[Hashable]:
    """Convert sample names to a list: from a list, a tuple, an array, or a single name.

    Args:
        samples: Names of samples. One text or number is one sample, not a sequence of letters.

    Returns:
        A new list.

    Raises:
        ConfigurationError: If it is empty, its order is not defined (a set), or an item is not a name.

    Example:
        >>> as_index_list("case_00000"), as_index_list(("a", "b"))
        (['case_00000'], ['a', 'b'])
    """
    if isinstance(samples, str | int | np.integer) and not isinstance(samples, bool):
        return [samples]
    if isinstance(samples, Sample):
        raise ConfigurationError(f"sample names are needed, not Sample objects; use {samples.index!r}")
    if isinstance(samples, set | frozenset):
        raise ConfigurationError(
            "the samples are a set, whose order changes from run to run; pass a list, e.g. sorted(samples)"
        )
    if isinstance(samples, np.ndarray):
        if samples.ndim > 1 or samples.dtype.kind not in "OUSiu":
            raise ConfigurationError(
                f"sample names are needed, not an array of {samples.dtype} with the shape {samples.shape}; pass an "
                "image to predict_array()"
            )
        samples = samples.ravel().tolist()
    if not isinstance(samples, Iterable) or isinstance(samples, bytes):
        raise ConfigurationError(
            f"a list of sample names is needed, such as data_io.get_indiceslist(); got {samples!r}"
        )
    names = list(samples)
    if not names:
        raise ConfigurationError("the list of samples is empty; pass at least one sample name")
    for name in names:
        if isinstance(name, Sample):
            raise ConfigurationError(f"sample names are needed, not Sample objects; use {name.index!r}")
        if name is None or not isinstance(name, Hashable):
            raise ConfigurationError(f"{name!r} in the list of samples is not a sample name; pass text or numbers")
    return names


@contextmanager
def memory_for(
    index: Hashable, doing: str, shape: Sequence[int] | Callable[[], Sequence[int]] | None = None
) -> Iterator[None]:
    """Convert a ``MemoryError`` of the block to an error that names the sample.

    Args:
        index: The sample's name, or its file.
        doing: The operation, for the message: ``"reading it"``.
        shape: Its shape, or a function that returns it. The function is only called after an error, and may fail.

    Raises:
        MemoryBudgetError: Instead of a ``MemoryError``, including NumPy's. Errors of this package are not converted.

    Example:
        >>> with memory_for("case_00000", "reading it", (512, 512, 600)):
        ...     raise MemoryError
        Traceback (most recent call last):
        miscnn_tf.errors.MemoryBudgetError: sample 'case_00000' of shape (512, 512, 600): too little memory for reading it. End other programs, or take a machine with more memory or a smaller image
    """  # noqa: E501  (the message is one line)
    try:
        yield
    except MemoryError as error:
        if isinstance(error, MiscnnError):
            raise
        # NumPy's message has the requested size.
        asked = f" ({error})" if str(error) else ""
        raise MemoryBudgetError(
            f"sample {index!r}{_of_shape(shape)}: too little memory for {doing}{asked}. End other programs, or take a "
            "machine with more memory or a smaller image"
        ) from error


def _of_shape(shape: Sequence[int] | Callable[[], Sequence[int]] | None) -> str:
    try:
        return "" if shape is None else f" of shape {tuple(shape() if callable(shape) else shape)}"
    except Exception:  # the file with the shape may be damaged
        return ""
