"""Protocols of models that predict: all that evaluation, groups and explanations know of a network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preprocessor import Preprocessor

#: Returns the image to segment as the subfunctions of a preprocessor leave it.
Prepare = Callable[[Preprocessor], Sample]


@runtime_checkable
class Segmenter(Protocol):
    """A model that segments any image, not only samples of its data set: a network, or a group of models.

    Attributes:
        preprocessor: Prepares the samples.
        id: Distinguishes instances.
        kind: Name of the class in the files of a group.
    """

    preprocessor: Preprocessor
    id: str
    kind: str

    @property
    def channels(self) -> int:
        """Channels of the images."""

    @property
    def classes(self) -> int:
        """Classes of the predictions, background included."""

    @property
    def three_dim(self) -> bool:
        """True for volumes, False for images."""

    def segment(self, prepare: Prepare, activation_output: bool = False, index: Hashable | None = None) -> np.ndarray:
        """Segment one image.

        Args:
            prepare: Returns the image as the subfunctions of a preprocessor leave it.
            activation_output: Return class probabilities instead of labels.
            index: Name of the sample; None for an image that belongs to no data set.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.
        """


class Predictor(Protocol):
    """A function from patches to class probabilities, in batches of one shape.

    Attributes:
        batch_size: Patches per batch.
        patch_shape: Spatial shape of all patches; None in an axis that varies.
        measured_bytes: Measured memory of a batch, by the shape of its patches.
    """

    batch_size: int
    patch_shape: tuple[int | None, ...]
    measured_bytes: dict[tuple[int, ...], int]

    def __call__(self, patches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Return class probabilities of each patch, float32 ``(x, y[, z], classes)``, in order."""


@runtime_checkable
class PatchSegmenter(Segmenter, Protocol):
    """A model that predicts an image patch by patch: a network.

    Attributes:
        model: The Keras model.
        verbose: 0 for no progress bar.
    """

    model: Any
    verbose: str | int

    @property
    def plan(self) -> PatchPlan:
        """The preprocessor's present settings of patches, for this network."""

    def prepared(self, index: Any) -> Sample:
        """Return a sample of the data set after all subfunctions, without a label map."""

    def predict_sample(self, sample: Sample, activation_output: bool = False, flips: bool | None = None) -> np.ndarray:
        """Segment a prepared sample.

        Args:
            sample: The sample after all subfunctions.
            activation_output: Return class probabilities instead of labels.
            flips: Whether to predict the mean over the image and its flips; None: as the augmentation's ``infaug``.
        """

    def predict_patches(self, sample: Sample, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Predict the patches of a prepared sample one by one, in the order of the plan's grid.

        Args:
            sample: The sample after all subfunctions.
            numbers: Numbers of the patches in the grid; None for all.
        """

    def patch_predictor(self) -> Predictor:
        """Return the network as a function from patches to class probabilities."""

    def views(self, ndim: int) -> int:
        """Return the number of predictions averaged for each patch.

        Args:
            ndim: Spatial axes of the image.
        """

    def in_float32(self) -> Any:
        """Return the Keras model in float32."""
