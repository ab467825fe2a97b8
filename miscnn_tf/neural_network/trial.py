"""The largest sample, tried before a training: what does not fit is told at its beginning, not hours later."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.device_memory import is_lack_of_device_memory
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.prediction_memory import assembling_bytes, most_sections
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.survey import Surveyed
from miscnn_tf.system_memory import system_memory

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)


def try_largest_images(
    network: Neural_Network, samples: Sequence[Surveyed], training: Sequence[Hashable], dataset: tf.data.Dataset
) -> None:
    """Make a training step with the largest image and predict the largest one, where whole images differ in size.

    The weights, the optimizer and all other variables are as before afterwards. Patches are all of one size: the first
    step of their training is a trial already, and predicts more easily than it trains.

    Args:
        network: The network, compiled.
        samples: All samples of the training and its validation.
        training: Names of those that are trained on.
        dataset: The training's batches; none is taken, but those of the trial are typed like them.

    Raises:
        MemoryBudgetError: If one of them does not fit into the device's memory.
    """
    plan = network.plan
    windows = {sample.name: plan.patch_shape_for(sample.shape) for sample in samples}
    if None not in network.window_shape or len(set(windows.values())) == 1:
        return

    def size(name: Hashable) -> int:
        return math.prod(windows[name])

    trained, predicted = max(training, key=size), max(windows, key=size)
    logger.info("trying a step with the largest image, %r of %s voxels", trained, windows[trained])
    try:
        _step(network, windows[trained], dataset)
    except tf.errors.OpError as error:
        if not is_lack_of_device_memory(error):
            raise
        raise MemoryBudgetError(
            f"a training step with the largest image, {trained!r} of {windows[trained]} voxels, does not fit into the "
            "device's memory. Train on patches (analysis='patchwise-crop' with a patch_shape), or choose a coarser "
            "Resampling or a network of fewer filters (n_filters) or levels"
        ) from error
    image = np.zeros((*windows[predicted], network.channels), np.float32)
    try:
        for _ in network.patch_predictor()([image]):
            pass
    except MemoryBudgetError as error:
        raise MemoryBudgetError(f"the largest image, {predicted!r}, cannot be predicted: {error}") from error


def _step(network: Neural_Network, window: Sequence[int], dataset: tf.data.Dataset) -> None:
    """A step with an image of zeros; afterwards all variables have the values from before."""
    model = network.model
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    images, labels = dataset.element_spec
    batch = (
        np.zeros((1, *window, network.channels), images.dtype.as_numpy_dtype),
        np.zeros((1, *window), labels.dtype.as_numpy_dtype),
    )

    def one() -> Any:
        yield batch

    trial = tf.data.Dataset.from_generator(one, output_signature=dataset.element_spec)
    try:
        # The same graph as the training's: it is traced once.
        model.fit(trial, steps_per_epoch=1, shuffle=False, verbose=0)
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        model.reset_metrics()


def warn_of_large_predictions(preprocessor: Preprocessor, plan: PatchPlan, samples: Sequence[Surveyed]) -> None:
    """Say which sample is too large to be predicted in the memory that is free, however few of its rows at a time.

    Args:
        preprocessor: Prepares the samples.
        plan: Settings of the patches.
        samples: All samples of a training.
    """
    free = system_memory().available
    if free is None or not samples:
        return
    for name in {max(samples, key=lambda sample: math.prod(size(sample))).name for size in (_prepared, _original)}:
        sample = preprocessor.prepare_sample_subfunctions(name, training=True)
        sections = most_sections(plan, sample)
        needed = sum(assembling_bytes(plan, preprocessor.subfunctions, sample, False, 1, sections))
        if needed > free:
            logger.warning(
                "sample %r of %s voxels and %d classes takes %.1f GB to be predicted, and %.1f GB of this machine's "
                "memory are free: train on, but predict it on another machine, with a smaller patch_shape or a coarser "
                "Resampling",
                *(name, sample.shape[:-1], sample.classes, needed / 1e9, free / 1e9),
            )


def _prepared(sample: Surveyed) -> tuple[int, ...]:
    return sample.shape


def _original(sample: Surveyed) -> tuple[int, ...]:
    return sample.original
