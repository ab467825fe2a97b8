"""Predicted patches put together, on the grid of the original image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.blending import Blender, Slab, cut_slabs
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.postprocessing import undo_subfunctions
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

#: Patches in grid order; or a function that makes those with the given numbers of the grid.
Patches = Iterator[np.ndarray] | Callable[[Sequence[int]], Iterator[np.ndarray]]


def assemble(
    sample: Sample,
    patches: Patches,
    plan: PatchPlan,
    subfunctions: Sequence[Abstract_Subfunction],
    activation_output: bool = False,
    *,
    sections: int = 1,
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

    Returns:
        Labels ``(x, y[, z])``, or probabilities ``(x, y[, z], classes)``, of the original image.

    Raises:
        ConfigurationError: If there are more or fewer patches than the plan's grid has.
    """
    if not callable(patches) and sections > 1:
        raise ConfigurationError(f"sections={sections} needs a function that makes patches, not a stream of them")

    def open_slabs(columns: slice) -> Iterator[Slab]:
        return _blended(sample, patches, plan, sample.classes, columns)

    return undo_subfunctions(
        sample,
        subfunctions,
        open_slabs,
        sample.img_data.shape[:-1],
        sample.classes,
        activation_output=activation_output,
        sections=sections,
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
