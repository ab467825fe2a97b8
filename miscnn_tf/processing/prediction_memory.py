"""How much memory preparing a sample and assembling its prediction take, known before either is done.

Upper bounds: what is counted is what lies in memory at the same time, from the shapes alone. The network's own
activations are not among it; see `miscnn_tf.neural_network.memory_budget`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.interpolation import SLAB_BYTES, resizing_bytes
from miscnn_tf.processing.patching.blending import PIECE_BYTES
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.postprocessing import PASSING, can_stream, decision_step
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.regridding import Regridding

#: Sections are not made narrower than this, in voxels of the result: nearly all windows would be predicted again.
LEAST_COLUMNS = 4


def preparation_bytes(sample: Sample, subfunctions: Sequence[Abstract_Subfunction], kept: bool) -> int:
    """What the subfunctions take beyond the image that is in memory already.

    A step holds the image before it, the one after it, and what it works with. Steps of the user's own are taken to
    leave the shape as it is, and to make float32.

    Args:
        sample: The sample as it was read; it is not changed.
        subfunctions: The steps.
        kept: Whether somebody holds the image that was read while the steps work.
    """
    before, most = _of_shape(sample, sample.img_data.shape[:-1], sample.img_data.dtype), 0
    there = sample.img_data.nbytes  # is in memory already, and goes with the first step, unless it is kept
    for step in subfunctions:
        after = _after(step, before)
        working = _working_bytes(step, before.img_data, after.img_data)
        most = max(most, before.img_data.nbytes - there + after.img_data.nbytes + working)
        before, there = after, 0 if kept else there
    if before.img_data.dtype == np.float64:  # float32 is made of it in the end
        most = max(most, before.img_data.nbytes - there + before.img_data.nbytes // 2)
    return most


class AssemblingMemory(NamedTuple):
    """What lies in memory while a prediction is assembled, in bytes.

    Attributes:
        windows: Predicted windows that wait to be added up.
        sums: The sum of overlapping windows, and its finished rows.
        resampling: Slabs on the way back to the original grid.
        result: The result, and whole arrays on the way to it.
    """

    windows: int
    sums: int
    resampling: int
    result: int


def assembling_bytes(
    plan: PatchPlan,
    steps: Sequence[Abstract_Subfunction],
    sample: Sample,
    activation_output: bool,
    held: int,
    sections: int,
) -> AssemblingMemory:
    """Estimate what assembling a prediction takes beyond the prepared sample and the network.

    Args:
        plan: Settings of the patches.
        steps: The subfunctions.
        sample: The sample as the subfunctions left it.
        activation_output: Whether probabilities are asked for.
        held: How many predicted windows are in memory at once, beside those that the network is making.
        sections: In how many sections the second axis is worked on.
    """
    classes, shape = sample.classes, sample.img_data.shape[:-1]
    grid, window = plan.grid(shape), plan.patch_shape_for(shape)
    decide_at = None if activation_output else decision_step(steps)
    streams = decide_at is not None and can_stream(steps, decide_at)
    result, resampling = _undoing_bytes(sample, steps, activation_output, decide_at, streams)
    width = -(-shape[1] // sections)
    if streams and decide_at is not None:
        old, new = _grids(sample, decide_at)
        part = -(-new[1] // sections)
        # A border takes a voxel more on either side.
        width = part if old[1] == new[1] else min(old[1], -(-part * old[1] // new[1]) + 2)
        if old != new:
            slabs = resizing_bytes((old[0], width, *old[2:]), (new[0], part, *new[2:]), classes)
            resampling = max(resampling, slabs)
    if sections == 1:
        width = grid.image_shape[1]
    item = 4 * classes
    row = width * math.prod(grid.image_shape[2:]) * item
    sums = window[0] * row + 3 * max(PIECE_BYTES, row)
    # What the network sees of them, one more that is being cut, and what it is cut from.
    windows = held * math.prod(window) * item + (held + 2) * math.prod(window) * sample.channels * 4
    return AssemblingMemory(windows, sums, resampling, result)


def most_sections(plan: PatchPlan, sample: Sample) -> int:
    """In how many sections a prediction can be assembled at most; 1 for whole images, which are one window."""
    if plan.patch_shape is None:
        return 1
    return max(1, min(sample.img_data.shape[1], sample.shape[1]) // LEAST_COLUMNS)


def _undoing_bytes(
    sample: Sample, steps: Sequence[Abstract_Subfunction], activation_output: bool, decide_at: int | None, streams: bool
) -> tuple[int, int]:
    """What whole arrays take while the steps are undone, two at a time, and what it takes to resample them.

    Args:
        sample: The sample as the subfunctions left it.
        steps: The subfunctions.
        activation_output: Whether probabilities are asked for.
        decide_at: The step at which labels are decided; None where that is before all of them, or not at all.
        streams: Whether the probabilities up to there never exist as a whole.
    """
    grids = {
        position: _grids(sample, position)
        for position, step in enumerate(steps)
        if isinstance(step, Regridding) or type(step).postprocessing is Padding.postprocessing
    }
    now = sample.img_data.shape[:-1]
    largest = max(math.prod(shape) for shape in (now, sample.shape[:-1], *chain(*grids.values())))
    item, label = 4 * sample.classes, np.dtype(label_dtype(sample.classes)).itemsize
    undecided = activation_output or decide_at is not None
    held: int | None = None  # rows come one after the other yet
    most = resampling = 0
    for position in reversed(range(len(steps))):
        step, decides = steps[position], position == decide_at
        passes = type(step).postprocessing in PASSING and not decides
        if passes:
            if held is None and position in grids:  # a part of an array that is there keeps the whole in memory
                now = grids[position][1]
            continue
        if held is None:
            held = 0 if decides and streams else math.prod(now) * (item if undecided else label)
        made = largest  # a step of the user's own may give back what it had cut off
        if isinstance(step, Regridding):
            old, new = grids[position]
            if old == new and not decides:
                most = max(most, held)
                continue
            if old != new and not (decides and streams):
                trailing, order = (sample.classes, 1) if undecided else (1, step.order_seg)
                resampling = max(resampling, resizing_bytes(old, new, trailing, order))
            made = math.prod(new)
        undecided = undecided and not decides
        made *= item if undecided else label
        most = max(most, held + made)
        held = made
    if held is None:
        most = math.prod(now) * (item if undecided else label)
    return most, resampling


def _grids(sample: Sample, position: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The spatial shapes between which the step in this place takes a prediction."""
    record = next(each for each in sample.history if each.get("position") == position)
    return tuple(record["new_shape"]), tuple(record["shape"])


def _of_shape(sample: Sample, shape: Sequence[int], dtype: np.dtype) -> Sample:
    """A stand-in for the sample with an image of this shape that takes no memory."""
    image = np.broadcast_to(np.zeros(1, dtype), (*shape, sample.channels))
    stand_in = Sample(sample.index, image, sample.channels, sample.classes, sample.extended, sample.three_dim)
    stand_in.details.update({"spacing": sample.spacing} if sample.spacing is not None else {})
    return stand_in


def _after(step: Abstract_Subfunction, before: Sample) -> Sample:
    """A stand-in for what a step makes of a sample."""
    shape, dtype = before.img_data.shape[:-1], before.img_data.dtype
    if isinstance(step, Regridding):
        target = step.target_shape(before)
        after = _of_shape(before, target, np.dtype(np.float32))
        if before.spacing is not None:
            after.details["spacing"] = [
                size * old / new for size, old, new in zip(before.spacing, shape, target, strict=False)
            ]
        return after
    if isinstance(step, Padding):
        return _of_shape(before, step.padded_shape(shape), step.padded_dtype(dtype))
    if type(step) is Clipping:
        voxel = _of_shape(before, (1,) * before.ndim, dtype)
        step.preprocessing(voxel, training=False)
        return _of_shape(before, shape, voxel.img_data.dtype)
    return _of_shape(before, shape, np.dtype(np.float32))


def _working_bytes(step: Abstract_Subfunction, before: np.ndarray, after: np.ndarray) -> int:
    """What a step takes beside the image before it and the one after it."""
    if isinstance(step, Regridding):
        return resizing_bytes(before.shape[:-1], after.shape[:-1], after.shape[-1], step.order_img)
    if isinstance(step, Padding) and step.reckons:
        # numpy copies all that it looks at, for a median several times, and reckons in float64.
        return after.size * (8 + after.itemsize * (3 if step.pad_mode == "median" else 1))
    # A mask, or a copy in another type.
    extra = after.size if before.dtype == after.dtype else after.nbytes
    # Normalization reckons a few rows in float64, one being the least.
    return extra + 4 * max(SLAB_BYTES, 8 * math.prod(after.shape[1:]))
