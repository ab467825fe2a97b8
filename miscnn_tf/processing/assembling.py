"""Assemble predicted patches, on the grid of the original image.

Blend the patches, undo the subfunctions, and decide the labels. `decision_step` chooses where: if a step resamples,
`interpolation.resize_probabilities_to_labels` decides them, otherwise `LabelScheme.decide` on each slab.

Upper bounds of the memory for this, and for preparing a sample, are computed from the shapes alone: memory that is in
use at the same time is added up. The network's own activations are not included; see
`miscnn_tf.neural_network.memory_budget`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.interpolation import even_parts
from miscnn_tf.processing.patching.blending import PIECE_BYTES, Blender, OpenSlabs, Slab, SlabRows, cut_slabs
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec

#: Patches in grid order; or a function that makes those with the given numbers of the grid.
Patches = Iterator[np.ndarray] | Callable[[Sequence[int]], Iterator[np.ndarray]]


#: Minimum width of a section in voxels of the result: with narrower ones nearly all patches would be predicted again.
LEAST_COLUMNS = 4
#: Of a class in a sum of logits, where a weight of 0 would be minus infinity.
_LEAST_WEIGHT = np.float32(1e-30)


def assemble(
    sample: Sample,
    patches: Patches,
    plan: PatchPlan,
    subfunctions: Sequence[Abstract_Subfunction],
    activation_output: bool = False,
    *,
    sections: int = 1,
    logits: bool = False,
) -> np.ndarray:
    """Put the predicted patches of a sample together, and undo everything that was done to it.

    Args:
        sample: The sample as the subfunctions left it.
        patches: Class probabilities of its patches in grid order; or a function that makes those of the patches
            with these numbers, which `sections` need.
        plan: Settings of the patches.
        subfunctions: The steps that prepared the sample.
        activation_output: Return probabilities instead of labels.
        sections: Number of sections of the second axis to work in, each from the patches that reach it: that many
            times less memory, and patches on a border are made twice. The result is the same.
        logits: The patches have logits: see `LabelScheme.probabilities`.

    Returns:
        Labels ``(x, y[, z])``, or probabilities ``(x, y[, z], classes)``, of the original image.

    Raises:
        ConfigurationError: If there are more or fewer patches than the plan's grid has.
    """
    if not callable(patches) and sections > 1:
        raise ConfigurationError(f"sections={sections} needs a function that makes patches, not a stream of them")

    def open_slabs(columns: slice) -> Iterator[Slab]:
        return _blended(sample, patches, plan, sample.scheme.outputs, columns)

    return undo_subfunctions(
        sample,
        subfunctions,
        open_slabs,
        sample.img_data.shape[:-1],
        sample.scheme.outputs,
        activation_output=activation_output,
        sections=sections,
        finish=sample.scheme.probabilities if logits and activation_output else None,
    )


def assemble_maps(
    sample: Sample,
    patches: Patches,
    plan: PatchPlan,
    subfunctions: Sequence[Abstract_Subfunction],
    channels: int,
) -> np.ndarray:
    """Put maps of any kind together and onto the original image's grid, as class probabilities are.

    Args:
        sample: The sample as the subfunctions left it.
        patches: A map per patch, in grid order, each ``(*patch, channels)``.
        plan: Settings of the patches.
        subfunctions: The steps that prepared the sample.
        channels: Size of the maps' last axis.

    Returns:
        float32 array ``(x, y[, z], channels)``.
    """
    return maps_to_image(sample, _blended(sample, patches, plan, channels), subfunctions, channels)


def maps_to_image(
    sample: Sample, slabs: Iterable[Slab], subfunctions: Sequence[Abstract_Subfunction], channels: int
) -> np.ndarray:
    """Bring maps of any kind from the preprocessed image's grid onto the original image's.

    Args:
        sample: The sample as the subfunctions left it.
        slabs: The maps, in consecutive slabs ``(rows, y[, z], channels)`` along the first axis.
        subfunctions: The steps that prepared the sample.
        channels: Size of the maps' last axis.

    Returns:
        float32 array ``(x, y[, z], channels)``.
    """
    shape = sample.img_data.shape[:-1]

    def open_slabs(columns: slice) -> Iterator[Slab]:
        return cut_slabs(iter(slabs), (slice(0, shape[0]), columns))

    return undo_subfunctions(sample, subfunctions, open_slabs, shape, channels, activation_output=True)


def _blended(
    sample: Sample, patches: Patches, plan: PatchPlan, channels: int, columns: slice | None = None
) -> Iterator[Slab]:
    """Blend patches into slabs of the preprocessed image, or of these columns of its second axis."""
    image_shape = sample.img_data.shape[:-1]
    grid, offset = plan.grid(image_shape), plan.offset(image_shape)
    inner = [slice(before, before + size) for before, size in zip(offset, image_shape, strict=True)]
    outer = None
    if columns is not None and columns != slice(0, image_shape[1]):
        outer = inner[1] = slice(offset[1] + columns.start, offset[1] + columns.stop)
    if not callable(patches):
        # All patches come, whichever columns are needed.
        blender = Blender(grid, channels, mode=plan.blending)
    else:
        blender = Blender(grid, channels, mode=plan.blending, columns=outer)
        patches = patches(blender.numbers)
        if outer is not None:
            inner[1] = slice(0, outer.stop - outer.start)
    return cut_slabs(blender.blend(_exactly(patches, len(blender.numbers), sample)), inner)


def _exactly(patches: Iterator[np.ndarray], number: int, sample: Sample) -> Iterator[np.ndarray]:
    seen = 0
    for patch in patches:
        seen += 1
        if seen <= number:
            yield patch
        del patch  # otherwise it stays in memory until the next one is predicted
    if seen != number:
        raise ConfigurationError(
            f"sample {sample.index!r} has {number} patches of this grid, but {seen} were predicted; predict all "
            "patches in grid order, with the patch_shape and patchwise_overlap that the preprocessor has now"
        )


def weighted(
    patches: Iterator[np.ndarray], threshold: float | None, scheme: LabelScheme, logits: bool = False
) -> Iterator[np.ndarray]:
    """Weight class probabilities, so that the most probable class is the one that a threshold decides for.

    The background is weighted by the threshold T, every other class by 1 - T. Of two classes, the foreground is chosen
    where its probability is above T. The weights commute with blending and resampling, so that no whole map of
    probabilities is needed.

    Args:
        patches: Class probabilities ``(x, y[, z], classes)``, which add up to 1.
        threshold: The threshold, between 0 and 1; None leaves the patches as they are.
        scheme: Meaning of the labels.
        logits: The patches have logits, to which the logarithm of the weights is added.

    Raises:
        ConfigurationError: If there are regions, which are decided at 0.5.

    Example:
        >>> patch = np.array([[[0.75, 0.25], [0.6, 0.4]]], np.float32)
        >>> [one.argmax(axis=-1).tolist() for one in weighted(iter([patch]), 0.3, LabelScheme(2))]
        [[[0, 1]]]
    """
    if threshold is None:
        yield from patches
        return
    scheme.require_classes(f"threshold={threshold}")
    for patch in patches:
        weights = np.full(patch.shape[-1], 1 - threshold, np.float32)
        weights[0] = threshold
        patch = patch + np.log(np.maximum(weights, _LEAST_WEIGHT)) if logits else patch * weights
        yield patch
        del patch  # otherwise it stays in memory until the next one is predicted


def undo_subfunctions(
    sample: Sample,
    subfunctions: Sequence[Abstract_Subfunction],
    open_slabs: OpenSlabs,
    shape: tuple[int, ...],
    classes: int,
    activation_output: bool = False,
    sections: int = 1,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Undo the subfunctions, last one first, and decide the labels where that is most exact and cheapest.

    Where a subfunction resamples, its probabilities are resampled and the label decided after that, slab by slab. Where
    none does, the label of each voxel is decided at once. Either way the probabilities of the whole image never exist,
    unless they are the result, a step that does not stream needs them, or two steps resample.

    Args:
        sample: The sample as the subfunctions left it.
        subfunctions: The steps, in the order they ran.
        open_slabs: Makes the class probabilities of the preprocessed image, or of some columns of its second axis, in
            consecutive slabs along the first axis.
        shape: Spatial shape of the preprocessed image.
        classes: Number of channels of the probabilities.
        activation_output: Return probabilities instead of labels.
        sections: Number of sections of the second axis that are requested one after the other; the result is the same.
        finish: Makes probabilities, in place, of what `open_slabs` makes; it is called after the interpolation.

    Returns:
        Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, on the original grid.
    """
    decide_at = None if activation_output else decision_step(subfunctions)
    undecided = activation_output or decide_at is not None
    finish_at = None if finish is None else decision_step(subfunctions)
    if finish is not None and finish_at is None:
        open_slabs = _finished(open_slabs, finish)
    rows = SlabRows(open_slabs, (*shape, classes), sections)
    values: Any = rows
    for position in reversed(range(len(subfunctions))):
        step, view = subfunctions[position], _at_step(sample, position)
        if isinstance(values, SlabRows) and not undone_on_slabs(step, decides=position == decide_at):
            values = _whole(values, undecided, sample.scheme)
        if position == decide_at:
            values = step.postprocess_to_labels(view, values)
            undecided = False
            rows.finish()
        else:
            values = step.postprocessing(view, values, activation_output=undecided)
        if finish is not None and position == finish_at:
            values = finish(_whole(values, True, sample.scheme) if isinstance(values, SlabRows) else values)
    return _whole(values, undecided, sample.scheme) if isinstance(values, SlabRows) else cast(np.ndarray, values)


def _finished(open_slabs: OpenSlabs, finish: Callable[[np.ndarray], np.ndarray]) -> OpenSlabs:
    return lambda columns: (slab._replace(array=finish(slab.array)) for slab in open_slabs(columns))


def _whole(rows: SlabRows, undecided: bool, scheme: LabelScheme) -> np.ndarray:
    """Return all rows as an array: class probabilities, or the labels that they decide for."""
    whole = (
        np.empty(rows.shape, np.float32)
        if undecided
        else np.empty(rows.shape[:-1], scheme.decided_dtype(rows.shape[-1]))
    )
    for columns in even_parts(rows.shape[1], rows.sections):
        for start, stop, slab in rows[:, columns].slabs():
            whole[start:stop, columns] = slab if undecided else scheme.decide(slab)
            del slab  # otherwise it stays in memory until the next one is made
    return whole


def decision_step(subfunctions: Sequence[Abstract_Subfunction]) -> int | None:
    """Return the first step that resamples, if every step after it accepts probabilities; None to decide at once."""
    decision = None
    for position in reversed(range(len(subfunctions))):
        step = subfunctions[position]
        if step.interpolates:
            decision = position
        if not step.acts_on_activation:
            break
    return decision


def undone_on_slabs(step: Abstract_Subfunction, decides: bool) -> bool:
    """Return whether a step is undone slab by slab: one that resamples is if labels are decided there."""
    return step.streams and step.interpolates == decides


def _at_step(sample: Sample, position: int) -> Sample:
    """Return the sample with the records of one step only, to keep those of two steps of one class apart."""
    view = copy.copy(sample)
    view.history = [record for record in sample.history if record.get("position") == position]
    return view


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
    classes, shape = sample.scheme.outputs, sample.img_data.shape[:-1]
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
    windows = held * math.prod(window) * item + (held + 2) * math.prod(window) * sample.input_channels * 4
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
    classes, now = sample.scheme.outputs, sample.img_data.shape[:-1]
    item, label = 4 * classes, np.dtype(sample.scheme.decided_dtype(classes)).itemsize
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
