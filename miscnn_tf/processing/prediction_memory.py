"""Upper bounds of the memory that preparing a sample and assembling its prediction take, from the shapes alone.

Memory that is in use at the same time is added up. The network's own activations are not included; see
`miscnn_tf.neural_network.memory_budget`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.patching.blending import PIECE_BYTES
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.postprocessing import decision_step, undone_on_slabs
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec

#: Minimum width of a section in voxels of the result: with narrower ones nearly all patches would be predicted again.
LEAST_COLUMNS = 4


def preparation_bytes(sample: Sample, subfunctions: Sequence[Abstract_Subfunction], kept: bool) -> int:
    """Return the memory that the subfunctions take beyond the image that is in memory already.

    A step holds the image before it, the image that it makes (`Abstract_Subfunction.output_spec`), and what it works
    with (`Abstract_Subfunction.working_bytes`).

    Args:
        sample: The sample as it was read; it is not changed.
        subfunctions: The steps.
        kept: The image that was read stays in memory while the steps work.
    """
    before, most = ImageSpec.of(sample), 0
    there = before.nbytes  # in memory already, and released after the first step unless it is kept
    for step in subfunctions:
        after = step.output_spec(before)
        most = max(most, before.nbytes - there + after.nbytes + step.working_bytes(before))
        before, there = after, 0 if kept else there
    if before.dtype == np.float64:  # converted to float32 in the end
        most = max(most, before.nbytes - there + before.nbytes // 2)
    return most


class AssemblingMemory(NamedTuple):
    """Memory that is in use while a prediction is assembled, in bytes.

    Attributes:
        windows: Predicted patches that wait to be added up.
        sums: The sum of overlapping patches, and its finished rows.
        resampling: Slabs that are resampled to the original grid.
        result: The result, and whole arrays that are made before it.
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
        activation_output: Probabilities are returned instead of labels.
        held: Number of predicted patches in memory at once, beside those that the network is making.
        sections: Number of sections of the second axis.
    """
    classes, shape = sample.classes, sample.img_data.shape[:-1]
    grid, window = plan.grid(shape), plan.patch_shape_for(shape)
    decide_at = None if activation_output else decision_step(steps)
    streams = decide_at is not None and all(
        undone_on_slabs(step, decides=position == decide_at)
        for position, step in enumerate(steps[decide_at:], decide_at)
    )
    result, resampling = _undoing_bytes(sample, steps, activation_output, decide_at, streams)
    width = -(-shape[1] // sections)
    if streams and decide_at is not None:
        new, old = _grids(sample)[decide_at : decide_at + 2]
        part = -(-new[1] // sections)
        # A border takes one more voxel on each side.
        width = part if old[1] == new[1] else min(old[1], -(-part * old[1] // new[1]) + 2)
        if old != new:
            narrow_old, narrow_new = (old[0], width, *old[2:]), (new[0], part, *new[2:])
            slabs = steps[decide_at].undoing_bytes(narrow_old, narrow_new, classes, True)
            resampling = max(resampling, slabs)
    if sections == 1:
        width = grid.image_shape[1]
    item = 4 * classes
    row = width * math.prod(grid.image_shape[2:]) * item
    sums = window[0] * row + 3 * max(PIECE_BYTES, row)
    # The network's input for each of them, one more that is being cut, and the image that it is cut from.
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
    """Return the memory of whole arrays while the steps are undone, two at a time, and that of resampling them.

    Args:
        sample: The sample as the subfunctions left it.
        steps: The subfunctions.
        activation_output: Probabilities are returned instead of labels.
        decide_at: The step at which labels are decided; None where that is before all of them, or not at all.
        streams: The probabilities up to there never exist as a whole.
    """
    classes, now = sample.classes, sample.img_data.shape[:-1]
    item, label = 4 * classes, np.dtype(label_dtype(classes)).itemsize
    undecided = activation_output or decide_at is not None
    held: int | None = None  # None while rows still arrive one after the other
    most = working = 0
    grids = list(pairwise(_grids(sample)))
    for position in reversed(range(len(steps))):
        step, decides = steps[position], position == decide_at
        new, old = grids[position]
        if step.streams and not step.interpolates:
            if held is None:  # a box of an array in memory keeps the whole array in memory
                now = new
            continue
        if held is None:
            held = 0 if decides and streams else math.prod(now) * (item if undecided else label)
        if step.interpolates and old == new and not decides:
            most = max(most, held)
            continue
        if not (decides and streams):
            working = max(working, step.undoing_bytes(old, new, classes, undecided))
        undecided = undecided and not decides
        made = math.prod(new) * (item if undecided else label)
        most = max(most, held + made)
        held = made
    if held is None:
        most = math.prod(now) * (item if undecided else label)
    return most, working


def _grids(sample: Sample) -> list[tuple[int, ...]]:
    """Return the spatial shape before the first step and after each one."""
    return [tuple(shape) for shape in sample.details["grids"]]
