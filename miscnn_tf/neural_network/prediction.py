"""Predict the patches of an image with a Keras model, as they are and flipped, and put them together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations, islice
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.errors import ConfigurationError, MemoryBudgetError
from miscnn_tf.neural_network.deep_supervision import first_output
from miscnn_tf.neural_network.hardware import is_lack_of_device_memory
from miscnn_tf.neural_network.memory_budget import MemoryBudget, assemble_within
from miscnn_tf.processing.assembling import weighted
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.segmenter import Predictor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: The spatial axes along which a patch is flipped; none for the patch as it is.
View = tuple[int, ...]


class PatchPredictor:
    """Predict patches in batches of one shape, so that the graph is traced (and compiled by XLA) once.

    Args:
        model: A model from ``(batch, x, y[, z], channels)`` to class probabilities.
        patch_shape: Spatial shape of all patches; None in an axis that varies.
        channels: Channels of the image.
        batch_size: Patches per batch; a last, smaller batch is filled up with zeros.
        jit_compile: Whether XLA compiles the prediction.
        logits: Return what the last layer computes before its activation, plus `shift`.
        shift: Added to logits.

    Raises:
        ConfigurationError: If logits are wanted of a network whose last layer has no activation.

    Attributes:
        batch_size: The same; halved if a batch does not fit into the device's memory.
        patch_shape: The same.
        measured_bytes: Measured memory of a batch, by the shape of its patches; see `memory_budget.network_bytes`.
    """

    def __init__(
        self,
        model: keras.Model,
        patch_shape: tuple[int | None, ...],
        channels: int,
        batch_size: int = 1,
        jit_compile: bool = False,
        *,
        logits: bool = False,
        shift: float = 0.0,
    ) -> None:
        self.batch_size = batch_size
        self.patch_shape = patch_shape
        self.measured_bytes: dict[tuple[int, ...], int] = {}

        def traced(batch_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
            signature = tf.TensorSpec((batch_size, *patch_shape, channels), tf.float32)

            @tf.function(input_signature=[signature], jit_compile=jit_compile)
            def predict(images: tf.Tensor) -> tf.Tensor:
                return tf.cast(first_output(model(images, training=False)), tf.float32) + shift

            # One graph, traced here: a tf.function counts its traces over all networks of the process, and warns
            # about a group of them.
            with _without_activation(model) if logits else nullcontext():
                return cast(Callable[[tf.Tensor], tf.Tensor], predict.get_concrete_function())

        self._traced = traced
        self._predict = traced(batch_size)

    def __call__(self, patches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Return class probabilities of each patch, float32 ``(x, y[, z], classes)``, in order.

        Args:
            patches: Images ``(x, y[, z], channels)``, taken batch by batch.
        """
        patches = iter(patches)
        waiting: list[np.ndarray] = []
        while True:
            waiting += islice(patches, max(0, self.batch_size - len(waiting)))
            batch = waiting[: self.batch_size]
            if not batch:
                return
            try:
                outputs = self._predicted(batch)
            except tf.errors.OpError as error:
                if not is_lack_of_device_memory(error):
                    raise
                self._halve_batches(batch[0].shape[:-1], error)
                continue
            del waiting[: len(batch)], batch
            yield from outputs
            del outputs  # otherwise it stays in memory until the next one is made

    def _predicted(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        images = np.zeros((self.batch_size, *batch[0].shape), np.float32)
        for place, patch in enumerate(batch):
            images[place] = patch
        outputs: np.ndarray = self._predict(tf.constant(images)).numpy()
        return outputs[: len(batch)]

    def _halve_batches(self, shape: tuple[int, ...], error: Exception) -> None:
        """Continue with smaller batches after one did not fit into the device's memory."""
        if self.batch_size == 1:
            raise MemoryBudgetError(
                f"one patch of {shape} voxels does not fit into the device's memory. Choose a smaller patch_shape "
                "or a network of fewer filters, close other programs that use the device, or predict on the CPU "
                "(CUDA_VISIBLE_DEVICES=-1)"
            ) from error
        logger.warning(
            "%d patches of %s voxels do not fit into the device's memory at once; from here on it is %d at a time",
            *(self.batch_size, shape, self.batch_size // 2),
        )
        self.batch_size //= 2
        self._predict = self._traced(self.batch_size)


@contextmanager
def _without_activation(model: keras.Model) -> Iterator[None]:
    """Take the activation out of the last layer, while a graph is traced that shares its weights."""
    output = first_output(model.outputs)
    last = next(layer for layer in model.layers if layer.output is output)
    activation = getattr(last, "activation", None)
    if activation not in (keras.activations.softmax, keras.activations.sigmoid):
        raise ConfigurationError(
            "patchwise_blending='nnunet' averages logits, but the last layer of the network has no softmax or sigmoid; "
            "use 'gaussian'"
        )
    last.activation = keras.activations.linear
    try:
        yield
    finally:
        last.activation = activation


def prediction_batch_size(plan: PatchPlan, on_gpu: bool) -> int:
    """Return the number of patches to predict at once.

    A GPU needs large batches. On a CPU one 3D patch keeps all cores busy, and more of them only take memory; small 2D
    patches are put together up to that size. Whole images are predicted one by one.
    """
    if plan.patch_shape is None:
        return 1
    if on_gpu:
        return plan.batch_size
    return int(np.clip(2**15 // int(np.prod(plan.patch_shape)), 1, plan.batch_size))


def predict_prepared(
    predictor: Predictor,
    plan: PatchPlan,
    steps: Sequence[Abstract_Subfunction],
    sample: Sample,
    views: Sequence[View],
    activation_output: bool,
    budget: MemoryBudget | None = None,
    threshold: float | None = None,
) -> np.ndarray:
    """Segment a prepared sample.

    Args:
        predictor: Predicts its patches: their logits, if the plan averages these.
        plan: Settings of the patches.
        steps: The subfunctions that prepared the sample.
        sample: The sample after all subfunctions.
        views: The views of each patch: see `prediction_views`.
        activation_output: Return class probabilities instead of labels.
        budget: Memory limit; None for what the machine has free.
        threshold: Decides labels: see `weighted`.

    Returns:
        Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.
    """
    begin = time.perf_counter()

    def patches(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        stream = predicted_patches(predictor, plan, sample, views, numbers)
        return weighted(stream, threshold, sample.scheme, plan.averages_logits)

    with memory_for(sample.index, "predicting it", lambda: sample.img_data.shape):
        streams = [(predictor, len(views))]
        prediction = assemble_within(budget, plan, steps, streams, sample, patches, activation_output)
    logger.debug("predicted %r in %.1f s", sample.index, time.perf_counter() - begin)
    return prediction


def predicted_patches(
    predictor: Predictor,
    plan: PatchPlan,
    sample: Sample,
    views: Sequence[View],
    numbers: Sequence[int] | None = None,
) -> Iterator[np.ndarray]:
    """Predict class probabilities of a prepared sample's patches in grid order.

    Args:
        predictor: Predicts the patches.
        plan: Settings of the patches.
        sample: The sample after all subfunctions.
        views: Each prediction is the mean of those of the patch flipped along the axes of each view, flipped back.
        numbers: Numbers of the patches in the grid; None for all.
    """
    flipped = (np.flip(image, view) for image in plan.patches(sample, numbers) for view in views)
    return _merged(predictor(flipped), views)


def prediction_views(augmentation: Data_Augmentation | None, ndim: int, flips: bool | None = None) -> list[View]:
    """Return the views of each patch to predict: as it is, and flipped.

    Args:
        augmentation: Gives the axes: see `flip_axes`; with its ``infaug_all`` all combinations of them are views.
        ndim: Spatial axes of the image.
        flips: Whether to predict flipped views; None: as the augmentation's ``infaug``.

    Example:
        >>> prediction_views(Data_Augmentation(infaug=True), 2)
        [(), (0,), (1,)]
        >>> prediction_views(Data_Augmentation(infaug=True, infaug_all=True), 2)
        [(), (0,), (1,), (0, 1)]
    """
    if flips is None:
        flips = augmentation is not None and augmentation.infaug
    if not flips:
        return [()]
    axes = flip_axes(augmentation, ndim)
    most = len(axes) if augmentation is not None and augmentation.infaug_all else 1
    return [view for number in range(most + 1) for view in combinations(axes, number)]


def flip_axes(augmentation: Data_Augmentation | None, ndim: int) -> list[int]:
    """Return the spatial axes of the augmentation's ``infaug_flip_list``; without an augmentation, all.

    Args:
        augmentation: The augmentation, whose list counts from the batch axis.
        ndim: Spatial axes of the image.
    """
    flips = range(1, ndim + 1) if augmentation is None else augmentation.infaug_flip_list
    return [flip - 1 for flip in flips if flip <= ndim]


def _merged(outputs: Iterator[np.ndarray], views: Sequence[View]) -> Iterator[np.ndarray]:
    """Yield the mean of each group of predictions, one per view, flipped back."""
    for first in outputs:
        total = np.flip(first, views[0])
        for view in views[1:]:
            total = total + np.flip(next(outputs), view)
        if len(views) > 1:
            total /= len(views)
        del first
        yield total
        del total  # otherwise it stays in memory until the next patch is predicted
