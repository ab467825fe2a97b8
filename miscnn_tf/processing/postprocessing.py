"""Bring class probabilities from the network's grid to a prediction on the grid of the original image.

`decision_step` chooses where the labels are decided: where a step resamples,
`interpolation.resize_probabilities_to_labels` decides them, otherwise `one_hot.decide_labels` on each slab.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.interpolation import even_parts
from miscnn_tf.processing.one_hot import decide_labels
from miscnn_tf.processing.patching.slab_rows import OpenSlabs, SlabRows
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction


def undo_subfunctions(
    sample: Sample,
    subfunctions: Sequence[Abstract_Subfunction],
    open_slabs: OpenSlabs,
    shape: tuple[int, ...],
    classes: int,
    activation_output: bool = False,
    sections: int = 1,
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
        classes: Number of classes.
        activation_output: Return probabilities instead of labels.
        sections: Number of sections of the second axis that are requested one after the other; the result is the same.

    Returns:
        Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, on the original grid.
    """
    decide_at = None if activation_output else decision_step(subfunctions)
    undecided = activation_output or decide_at is not None
    rows = SlabRows(open_slabs, (*shape, classes), sections)
    values: Any = rows
    for position in reversed(range(len(subfunctions))):
        step, view = subfunctions[position], _at_step(sample, position)
        if isinstance(values, SlabRows) and not undone_on_slabs(step, decides=position == decide_at):
            values = _whole(values, undecided)
        if position == decide_at:
            values = step.postprocess_to_labels(view, values)
            undecided = False
            rows.finish()
        else:
            values = step.postprocessing(view, values, activation_output=undecided)
    return _whole(values, undecided) if isinstance(values, SlabRows) else cast(np.ndarray, values)


def _whole(rows: SlabRows, undecided: bool) -> np.ndarray:
    """Return all rows as an array: class probabilities, or the labels that they decide for."""
    *shape, classes = rows.shape
    whole = np.empty(rows.shape, np.float32) if undecided else np.empty(shape, label_dtype(classes))
    for columns in even_parts(shape[1], rows.sections):
        for start, stop, slab in rows[:, columns].slabs():
            whole[start:stop, columns] = slab if undecided else decide_labels(slab)
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
