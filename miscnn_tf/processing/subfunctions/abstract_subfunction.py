"""Base class of the steps that prepare a sample for the network and are undone on its prediction."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from miscnn_tf._base.configuration import plain
from miscnn_tf._base.representation import Constructed
from miscnn_tf.data_loading.geometry import orientation_of
from miscnn_tf.data_loading.labels import decide_labels
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.interpolation import SLAB_BYTES
from miscnn_tf.processing.patching.blending import SlabRows

__all__ = ["Abstract_Subfunction", "ImageSpec", "decide_labels"]


@dataclass(frozen=True)
class ImageSpec:
    """Shape, type and spacing of an image, without its voxels.

    Args:
        index: The name of the sample, for messages.
        shape: Spatial shape, ``(x, y[, z])``.
        channels: Number of channels.
        dtype: Type of the array.
        spacing: Voxel size in mm, one positive length per axis; None if unknown.
        orientation: Directions of the axes of a volume, such as "RAS"; None if unknown.

    Example:
        >>> image = ImageSpec("a", (512, 512, 90), 1, np.dtype(np.int16), (0.8, 0.8, 5.0))
        >>> image.replace(dtype=np.dtype(np.float32)).nbytes
        94371840
    """

    index: Hashable
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """Describe ``sample.img_data``."""
        *shape, channels = sample.img_data.shape
        spacing = sample.spacing
        if spacing is not None and (len(spacing) != len(shape) or not all(0 < size < math.inf for size in spacing)):
            spacing = None
        return cls(sample.index, tuple(shape), channels, sample.img_data.dtype, spacing, _orientation(sample))

    def replace(self, **changes: Any) -> Self:
        """Return the description with other values, given by name."""
        return replace(self, **changes)

    @property
    def nbytes(self) -> int:
        """Memory of the image."""
        return math.prod(self.shape) * self.channels * self.dtype.itemsize


class Abstract_Subfunction(Constructed, ABC):
    """Base class of all subfunctions; subclass it to write a step of your own.

    Only `preprocessing` is required, and `postprocessing` for a step that changes the grid. The other members describe
    the step, for memory estimates, for the store of prepared samples and for predictions that are made slab by slab.
    Their defaults give correct results for any step; overriding them saves memory and time.

    A subfunction keeps no state about a sample in itself: it stores what it needs to undo its work with `remember`, and
    reads it with `recall`. It keeps each constructor argument in an attribute of the same name, so that it can be
    written into a model file.

    Attributes:
        acts_on_activation: `postprocessing` also accepts class probabilities. Default: True for a step that does not
            define `postprocessing`, or that streams; otherwise False, and labels are decided first.
        interpolates: `postprocessing` resamples, and returns its argument where the grid is unchanged. Labels are then
            decided after this step has resampled the probabilities (see `postprocess_to_labels`), which is more exact
            than resampling labels. Default: False.
        streams: The step can be undone on an array that never exists as a whole, only as slabs along its first axis.
            `postprocessing` returns its argument or a box of it, ``prediction[2:-2, 2:-2]``, and uses nothing but its
            ``shape``, its ``ndim`` and slices; with `interpolates`, `postprocess_to_labels` reads its rows in order.
            Default: True for a step that does not define `postprocessing`, otherwise False.
        same_image_in_training: `preprocessing` makes the same image with ``training=True`` and ``training=False``, so
            that a sample prepared for training is used in prediction. Default: False.

    A subclass that overrides `preprocessing`, `postprocessing` or `postprocess_to_labels` does not inherit what its
    base declared of that method in `streams` or `same_image_in_training`: it declares it again, or has the default.

    Example:
        >>> class Invert(Abstract_Subfunction):
        ...     same_image_in_training = True
        ...
        ...     def preprocessing(self, sample, training=True):
        ...         sample.img_data = -sample.img_data
        ...
        ...     def output_spec(self, image):
        ...         return image  # same shape and type
    """

    acts_on_activation: bool = False
    interpolates: bool = False
    streams: bool = False
    same_image_in_training: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not _declares(cls, "same_image_in_training", {"preprocessing"}):
            cls.same_image_in_training = False
        undoes_nothing = cls.postprocessing is Abstract_Subfunction.postprocessing
        if not _declares(cls, "streams", {"postprocessing", "postprocess_to_labels"}):
            cls.streams = undoes_nothing
        if "acts_on_activation" not in vars(cls) and (undoes_nothing or (cls.streams and not cls.interpolates)):
            cls.acts_on_activation = True

    @abstractmethod
    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Change ``sample.img_data`` (and ``sample.seg_data`` where it is not None) in place.

        A step that changes the grid also changes ``sample.previous_data``, of a cascade, where it is not None.

        Assign new arrays: ``sample.img_data`` may be read-only or shared.

        Args:
            sample: The sample, channels-last.
            training: Process the label map, too.
        """

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return shape, type and spacing of the image that `preprocessing` makes; by default float32 of the same shape.

        Override it in a step that changes the shape or the number of channels, so that the memory for it is known
        before it runs. Where the result depends on the voxels, return the largest that is possible.

        Args:
            image: The image before the step.

        Example:
            >>> class Double(Abstract_Subfunction):
            ...     def preprocessing(self, sample, training=True):
            ...         sample.img_data = sample.img_data.repeat(2, axis=0)
            ...
            ...     def output_spec(self, image):
            ...         return image.replace(shape=(2 * image.shape[0], *image.shape[1:]))
            >>> Double().output_spec(ImageSpec("a", (10, 20), 1, np.dtype(np.int16))).shape
            (20, 20)
        """
        return image.replace(dtype=np.dtype(np.float32))

    def working_bytes(self, image: ImageSpec) -> int:
        """Return the memory that `preprocessing` takes beside the image before it and the image that it makes.

        The default is enough for one more copy of the result (for a mask, where the type stays the same) and a few
        slabs in float64.

        Args:
            image: The image before the step.

        Example:
            >>> class Mean(Abstract_Subfunction):
            ...     def preprocessing(self, sample, training=True):
            ...         sample.img_data = (sample.img_data + sample.img_data[::-1]) / 2
            ...
            ...     def working_bytes(self, image):
            ...         return image.nbytes  # the sum
            >>> Mean().working_bytes(ImageSpec("a", (10, 20), 1, np.dtype(np.float32)))
            800
        """
        after = self.output_spec(image)
        copy = after.nbytes if image.dtype != after.dtype else after.nbytes // after.dtype.itemsize
        row = 8 * math.prod(after.shape[1:]) * after.channels
        return copy + 4 * max(SLAB_BYTES, row)

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Undo the step on a prediction; by default there is nothing to undo.

        Args:
            sample: The sample as `preprocessing` left it.
            prediction: Labels ``(x, y[, z])``; class probabilities ``(x, y[, z], classes)`` with `activation_output`.
            activation_output: `prediction` holds class probabilities.

        Returns:
            The prediction on the grid that the sample had before this step.
        """
        return prediction

    def postprocess_to_labels(self, sample: Sample, activation: Any) -> np.ndarray:
        """Turn class probabilities on this step's grid into labels on the grid before it.

        The default decides first and then undoes the step on labels. Steps that resample do it the other way round.

        Args:
            sample: The sample as `preprocessing` left it.
            activation: Class probabilities ``(x, y[, z], classes)``, an array; for a step that `streams` rows that are
                read once, in order.

        Returns:
            Labels ``(x, y[, z])``.
        """
        labels = sample.scheme.decide(activation)
        return self.postprocessing(sample, labels, activation_output=False)

    def undoing_bytes(
        self, shape: Sequence[int], original: Sequence[int], classes: int, activation_output: bool
    ) -> int:
        """Return the memory that `postprocessing` takes beside its argument and its result, by default none.

        Args:
            shape: Spatial shape of the prediction.
            original: Spatial shape of the result.
            classes: Number of classes.
            activation_output: Class probabilities are undone, or turned into labels, instead of labels.

        Example:
            >>> class Smooth(Abstract_Subfunction):
            ...     acts_on_activation = True
            ...
            ...     def preprocessing(self, sample, training=True):
            ...         pass
            ...
            ...     def postprocessing(self, sample, prediction, activation_output=False):
            ...         return prediction / 2 + prediction[::-1] / 2 if activation_output else prediction
            ...
            ...     def undoing_bytes(self, shape, original, classes, activation_output):
            ...         return 2 * 4 * classes * int(np.prod(shape)) if activation_output else 0
            >>> Smooth().undoing_bytes((10, 10), (10, 10), classes=2, activation_output=True)
            1600
        """
        return 0

    def remember(self, sample: Sample, **facts: Any) -> None:
        """Store with the sample what `postprocessing` will need.

        Args:
            sample: The sample.
            **facts: Plain data: numbers, strings, lists.
        """
        sample.history.append({"step": type(self).__name__, **plain(facts)})

    def recall(self, sample: Sample) -> dict[str, Any]:
        """Return what this class remembered last for the sample.

        Raises:
            DataError: If the sample never went through `preprocessing`.
        """
        for record in reversed(sample.history):
            if record["step"] == type(self).__name__:
                return record
        raise DataError(
            f"sample {sample.index!r} was not preprocessed by {type(self).__name__}, so there is nothing to undo; "
            "pass the sample that went through preprocessing() to postprocessing()"
        )

    def require_grid(self, sample: Sample, prediction: np.ndarray | SlabRows, shape: Sequence[int]) -> None:
        """Require that a prediction is on the grid that this step made.

        Args:
            sample: The sample, for the message.
            prediction: Labels or class probabilities.
            shape: Spatial shape of that grid.

        Raises:
            DataError: If the prediction has another spatial shape.
        """
        if list(prediction.shape[: len(shape)]) != list(shape):
            raise DataError(
                f"sample {sample.index!r}: {type(self).__name__} made an image of {tuple(shape)} voxels, but the "
                f"prediction has the shape {prediction.shape}; undo the subfunctions in reverse order, each on the "
                "result of the one after it"
            )


def _orientation(sample: Sample) -> str | None:
    """Return the directions of the axes of a volume: those of the step that changed them, or of the file."""
    if "orientation" in sample.details:
        return str(sample.details["orientation"])
    return orientation_of(sample.extended, sample.three_dim)


def _declares(cls: type, attribute: str, methods: set[str]) -> bool:
    """Return whether a class has this attribute from a class at or below the one that it has its methods from."""
    for base in cls.__mro__[: cls.__mro__.index(Abstract_Subfunction)]:
        if attribute in vars(base):
            return True
        if methods & vars(base).keys():
            return False
    return False
