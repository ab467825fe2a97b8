"""How much memory preparing a sample and assembling its prediction take, known before either is done.

Upper bounds: what is counted is what lies in memory at the same time, from the shapes alone. The network's own
activations are not among it; see `miscnn_tf.neural_network.memory_budget`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.interpolation import SLAB_BYTES, resizing_bytes
from miscnn_tf.processing.patching.blending import PIECE_BYTES
from miscnn_tf.processing.postprocessing import can_stream, decision_step
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.regridding import Regridding

#: Sections are not made narrower than this, in voxels of the result: nearly all windows would be predicted again.
LEAST_COLUMNS = 4


def preparation_bytes(sample: Sample, subfunctions: Sequence[Abstract_Subfunction], kept: bool) -> int:
    """What the subfunctions take beyond the image that is in memory already.

    A step holds the image before it, the one after it, and a few slabs. Steps of the user's own are taken to leave the
    shape as it is, and to make float32.

    Args:
        sample: The sample as it was read; it is not changed.
        subfunctions: The steps.
        kept: Whether somebody holds the image that was read while the steps work.
    """
    shape, dtype = sample.img_data.shape[:-1], sample.img_data.dtype
    read = before = sample.img_data.nbytes
    most = 0
    view = _of_shape(sample, shape, dtype)
    for step in subfunctions:
        dtype = _type_after(step, sample, dtype)
        if isinstance(step, Regridding):
            spacing, target = view.spacing, step.target_shape(view)
            view = _of_shape(sample, target, dtype)
            if spacing is not None:
                view.details["spacing"] = [
                    size * old / new for size, old, new in zip(spacing, shape, target, strict=False)
                ]
            shape = tuple(target)
        elif isinstance(step, Padding):
            shape = step.padded_shape(shape)
            spacing = view.spacing
            view = _of_shape(sample, shape, dtype)
            view.details["spacing"] = spacing
        voxels = math.prod(shape) * sample.channels
        # A mask, or a step's copy in another type.
        extra = voxels if before // max(1, voxels) == dtype.itemsize else voxels * dtype.itemsize
        after = voxels * dtype.itemsize
        most = max(most, before + after + extra + 4 * SLAB_BYTES - (0 if kept and before is not read else read))
        before = after
    return most


class AssemblingMemory(NamedTuple):
    """What lies in memory while a prediction is assembled, in bytes.

    Attributes:
        windows: Predicted windows that wait to be added up.
        sums: The sum of overlapping windows, and its finished rows.
        resampling: Slabs on the way back to the original grid.
        result: The result, whole arrays on the way to it, and one more label map for steps that make one.
    """

    windows: int
    sums: int
    resampling: int
    result: int


def assembling_bytes(
    preprocessor: Preprocessor, sample: Sample, activation_output: bool, views: int, sections: int
) -> AssemblingMemory:
    """What `Preprocessor.assemble` takes beyond the prepared sample and the network.

    Args:
        preprocessor: The preprocessor.
        sample: The sample as the subfunctions left it.
        activation_output: Whether probabilities are asked for.
        views: How many predictions each window is the mean of.
        sections: In how many sections the second axis is worked on.
    """
    steps, classes = preprocessor.subfunctions, sample.classes
    shape = sample.img_data.shape[:-1]
    boxes = preprocessor.boxes()
    grid, window = boxes.grid(shape), boxes.window(shape)
    original = math.prod(sample.shape[:-1])
    item, label = 4 * classes, np.dtype(label_dtype(classes)).itemsize
    decide_at = None if activation_output else decision_step(steps)
    resampling = 0
    width = -(-shape[1] // sections)
    if decide_at is not None and can_stream(steps, decide_at):
        record = next(each for each in sample.history if each.get("position") == decide_at)
        old, new = tuple(record["new_shape"]), tuple(record["shape"])
        part = -(-new[1] // sections)
        # A border takes a voxel more on either side.
        width = part if old[1] == new[1] else min(old[1], -(-part * old[1] // new[1]) + 2)
        if old != new:
            resampling = resizing_bytes((old[0], width, *old[2:]), (new[0], part, *new[2:]), classes)
        result = math.prod(new) * label + original * label
    elif activation_output or decide_at is not None:
        # On the network's grid, and on that of each step that resamples: two at a time.
        resampled = any(step.interpolates for step in steps)
        result = math.prod(shape) * item
        if resampled:
            largest = max(original, *(math.prod(size) for size in _shapes(sample)))
            result += largest * item
            resampling = resizing_bytes(shape, sample.shape[:-1], classes)
    else:
        result = math.prod(shape) * label + original * label
    if sections == 1:
        width = grid.image_shape[1]
    row = width * math.prod(grid.image_shape[2:]) * item
    sums = window[0] * row + 3 * max(PIECE_BYTES, row)
    # The one that was added last; of a mean all that it is of, and the mean itself.
    held = 1 if views == 1 else views + 2
    windows = held * math.prod(window) * item + 3 * math.prod(window) * sample.channels * 4
    return AssemblingMemory(windows, sums, resampling, result)


def most_sections(preprocessor: Preprocessor, sample: Sample) -> int:
    """In how many sections a prediction can be assembled at most; 1 for whole images, which are one window."""
    if preprocessor.patch_shape is None:
        return 1
    return max(1, min(sample.img_data.shape[1], sample.shape[1]) // LEAST_COLUMNS)


def _shapes(sample: Sample) -> list[tuple[int, ...]]:
    """The shapes that the image has had."""
    return [tuple(record[name]) for record in sample.history for name in ("shape", "new_shape") if name in record]


def _of_shape(sample: Sample, shape: Sequence[int], dtype: np.dtype) -> Sample:
    """A stand-in for the sample with an image of this shape that takes no memory."""
    image = np.broadcast_to(np.zeros(1, dtype), (*shape, sample.channels))
    stand_in = Sample(sample.index, image, sample.channels, sample.classes, sample.extended, sample.three_dim)
    stand_in.details.update({"spacing": sample.spacing} if sample.spacing is not None else {})
    return stand_in


def _type_after(step: Abstract_Subfunction, sample: Sample, dtype: np.dtype) -> np.dtype:
    if type(step) is Clipping:
        voxel = _of_shape(sample, (1,) * sample.ndim, dtype)
        step.preprocessing(voxel, training=False)
        return voxel.img_data.dtype
    if type(step) is Padding and dtype.itemsize <= 4:
        return dtype
    return np.dtype(np.float32)
