"""The prediction of one image: its windows through the network, as they are and flipped, put together again."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.neural_network.memory_budget import MemoryBudget, sections_within
from miscnn_tf.processing.cutting import cut
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.preparation import complete, run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)


# ---------------------------------------------------------------- preparing


def prepared_sample(preprocessor: Preprocessor, index: Hashable, budget: MemoryBudget | None = None) -> Sample:
    """A sample of the data set after all subfunctions, without a label map: see `Neural_Network.prepared`."""

    def check(sample: Sample) -> None:
        if budget is not None:
            budget.require_preparation(sample, preprocessor.subfunctions)

    # Most samples are predicted once: keeping them in memory would only fill it.
    keep = preprocessor.prepare_subfunctions
    return preprocessor.prepare_sample_subfunctions(index, training=False, keep=keep, loaded=check)


def prepare(
    sample: Sample, subfunctions: Sequence[Abstract_Subfunction], budget: MemoryBudget | None, kept: bool = False
) -> None:
    """Run the subfunctions over an image that belongs to no data set.

    Args:
        sample: The image, which is changed.
        subfunctions: The steps.
        budget: What this has to stay within.
        kept: Whether the image that was read stays in memory meanwhile.
    """
    if budget is not None:
        budget.require_preparation(sample, subfunctions, kept)
    run_subfunctions(sample, subfunctions, training=False)
    with memory_for(sample.index, "preparing it", lambda: sample.img_data.shape):
        complete(sample)


# ---------------------------------------------------------------- predicting


def predict_prepared(
    network: Neural_Network,
    sample: Sample,
    activation_output: bool,
    flips: bool | None = None,
    budget: MemoryBudget | None = None,
) -> np.ndarray:
    """Segment a sample that is prepared already: see `Neural_Network.predict_sample`."""
    begin = time.perf_counter()
    preprocessor = network.preprocessor
    axes = view_axes(preprocessor.data_augmentation, sample.ndim, flips)
    preprocessor.fullimage_divisor = network.divisors
    predictor = network.window_predictor()
    held = windows_held([(predictor.batch_size, len(axes))])
    sections = sections_within(budget, preprocessor, [predictor], sample, activation_output, held)

    def windows(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return predicted_windows(network, sample, axes, numbers)

    with memory_for(sample.index, "predicting it", lambda: sample.img_data.shape):
        prediction = preprocessor.assemble(sample, windows, activation_output, sections=sections)
    logger.debug("predicted %r in %.1f s", sample.index, time.perf_counter() - begin)
    return prediction


def predicted_windows(
    network: Neural_Network, sample: Sample, axes: Sequence[int | None], numbers: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Class probabilities of a prepared sample's windows in grid order.

    Args:
        network: What predicts them.
        sample: The sample after all subfunctions.
        axes: Each is the mean of the predictions of the window flipped along each of these axes (None: as it is),
            flipped back.
        numbers: Which windows, by their numbers in the grid; None for all.
    """
    views = (_flip(image, axis) for image in network.windows(sample, numbers) for axis in axes)
    return _merged(network.window_predictor()(views), axes)


def windows_of(
    sample: Sample, preprocessor: Preprocessor, divisors: tuple[int, ...], numbers: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """The windows of a prepared sample in grid order: see `Neural_Network.windows`."""
    preprocessor.fullimage_divisor = divisors
    boxes = preprocessor.boxes()
    window = boxes.window(sample.img_data.shape[:-1])
    starts = boxes.grid_starts(sample)
    chosen = starts if numbers is None else (starts[number] for number in numbers)
    return (cut(sample, start, window).image for start in chosen)


# ---------------------------------------------------------------- flipping


def view_axes(augmentation: Data_Augmentation | None, ndim: int, flips: bool | None = None) -> list[int | None]:
    """The views of each window that are predicted: as it is (None), and flipped along each of these spatial axes.

    Args:
        augmentation: Says along which axes (`flip_axes`).
        ndim: Spatial axes of the image.
        flips: Whether there are flipped ones at all; None: as the augmentation's ``infaug`` says.
    """
    if flips is None:
        flips = augmentation is not None and augmentation.infaug
    return [None, *flip_axes(augmentation, ndim)] if flips else [None]


def flip_axes(augmentation: Data_Augmentation | None, ndim: int) -> list[int]:
    """The spatial axes of the augmentation's ``infaug_flip_list``, which counts from the batch axis; without one, all.

    Args:
        augmentation: The augmentation.
        ndim: Spatial axes of the image.
    """
    flips = range(1, ndim + 1) if augmentation is None else augmentation.infaug_flip_list
    return [flip - 1 for flip in flips if flip <= ndim]


def windows_held(streams: Sequence[tuple[int, int]]) -> int:
    """How many predicted windows are in memory at once, beside the batch that is being made.

    Args:
        streams: For each network the windows of its batches, and how many views each window is the mean of.

    Example:
        >>> windows_held([(1, 1)]), windows_held([(2, 4)]), windows_held([(2, 4), (1, 1)])
        (1, 3, 6)
    """
    # The last batch, of which a view is kept as a part, and of flipped windows the next sum.
    held = sum(batch_size + (views > 1) for batch_size, views in streams)
    # Of several networks the mean so far, and the window that is added to it.
    return held + 2 * (len(streams) > 1)


def _merged(outputs: Iterator[np.ndarray], axes: Sequence[int | None]) -> Iterator[np.ndarray]:
    """The mean of each group of predictions, one per view, flipped back."""
    for first in outputs:
        total = _flip(first, axes[0])
        for axis in axes[1:]:
            total = total + _flip(next(outputs), axis)
        if len(axes) > 1:
            total /= len(axes)
        del first
        yield total
        del total  # or it would live until the next window is predicted


def _flip(array: np.ndarray, axis: int | None) -> np.ndarray:
    return array if axis is None else np.flip(array, axis)
