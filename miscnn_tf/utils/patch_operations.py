"""Cutting arrays into patches and putting them together again: the plain functions of MIScnn's interface.

The work is done in `miscnn_tf.processing.patching`, which also streams: use `PatchGrid` and `Blender` from there for
images whose patches should not all be in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from batchgenerators.augmentations.utils import pad_nd_image

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.blending import Blender
from miscnn_tf.processing.patching.grid import PatchGrid


def slice_matrix(array: np.ndarray, window: Sequence[int], overlap: Sequence[int], three_dim: bool) -> list[np.ndarray]:
    """Cut an array into patches, the first axis outermost; the last patch of an axis is moved back inside.

    Args:
        array: Array ``(x, y[, z])`` or ``(x, y[, z], channels)``.
        window: Voxels of a patch per spatial axis. On an axis where the array is smaller, patches have its size.
        overlap: Voxels that neighbours share per spatial axis, less than `window`.
        three_dim: Whether there are three spatial axes, else two; further entries of `window` and `overlap` are not
            used.

    Returns:
        The patches, as views of `array`: nothing is copied.

    Raises:
        ConfigurationError: If the numbers of axes, the window or the overlap do not fit.

    Example:
        >>> [patch.tolist() for patch in slice_matrix(np.arange(5).reshape(5, 1), (3, 1), (0, 0), three_dim=False)]
        [[[0], [1], [2]], [[2], [3], [4]]]
    """
    grid = _grid(array.shape, window, overlap, three_dim)
    return [array[location.to_slices()] for location in grid]


def concat_matrices(
    patches: Sequence[np.ndarray] | np.ndarray,
    image_size: Sequence[int],
    window: Sequence[int],
    overlap: Sequence[int],
    three_dim: bool,
) -> np.ndarray:
    """Put patches together again; where several cover a voxel, the result is their mean, in which each counts alike.

    Args:
        patches: What `slice_matrix` returned, or arrays of those shapes in that order, with or without channels.
        image_size: Shape of the whole, with or without the channel axis, which is ignored.
        window: As for `slice_matrix`.
        overlap: As for `slice_matrix`.
        three_dim: As for `slice_matrix`.

    Returns:
        A new array ``(x, y[, z][, channels])`` of the patches' dtype; means of integers are rounded. Slicing and then
        concatenating returns the input, bit for bit (for float64 with overlap: up to the last bits).

    Raises:
        ConfigurationError: If number or shape of the patches do not fit.

    Example:
        >>> patches = [np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])]
        >>> concat_matrices(patches, (3, 1), (2, 1), (1, 0), three_dim=False).ravel()
        array([0., 3., 6.])
    """
    grid = _grid(image_size, window, overlap, three_dim)
    axes = len(grid.patch_shape)
    if len(patches) != len(grid):
        raise ConfigurationError(f"patches: {len(patches)} were given, but {grid} has {len(grid)}")
    first = np.asarray(patches[0])
    if first.ndim not in (axes, axes + 1):
        raise ConfigurationError(
            f"patches: a patch of shape {first.shape} does not have {axes} spatial axes and at most one for channels; "
            f"three_dim is {three_dim}"
        )
    has_channels = first.ndim == axes + 1
    channels = first.shape[-1] if has_channels else 1
    result = np.empty((*grid.image_shape, channels), np.result_type(*{np.asarray(patch).dtype for patch in patches}))
    rounded = not np.issubdtype(result.dtype, np.inexact)
    stream = (patch if has_channels else np.asarray(patch)[..., np.newaxis] for patch in patches)
    # Summed in float64, a few rows at a time: a float32 mean of equal values is then that value exactly.
    blender = Blender(grid, channels, mode="average", dtype=np.float64)
    for slab in blender.blend(stream):
        result[slab.start : slab.stop] = np.rint(slab.array, out=slab.array) if rounded else slab.array
    return result if has_channels else result[..., 0]


def pad_patch(
    patch: np.ndarray, patch_shape: Sequence[int], return_slicer: bool = False
) -> np.ndarray | tuple[np.ndarray, list[slice]]:
    """Pad a batch with zeros, evenly on both sides, up to a patch shape; larger axes stay as they are.

    Args:
        patch: Batch ``(n, x, y[, z], channels)``.
        patch_shape: Spatial shape to reach.
        return_slicer: Whether to return also what `crop_patch` needs.

    Returns:
        The padded batch (`patch` itself where nothing is missing), and with `return_slicer` one slice per axis. The
        slices of batch and channels are open, so that a prediction with other channels can be cropped with them.

    Raises:
        ConfigurationError: If the numbers of axes do not fit.

    Example:
        >>> padded, slicer = pad_patch(np.ones((1, 2, 3, 1)), (4, 4), return_slicer=True)
        >>> padded.shape, crop_patch(padded, slicer).shape
        ((1, 4, 4, 1), (1, 2, 3, 1))
    """
    if patch.ndim != len(patch_shape) + 2:
        raise ConfigurationError(
            f"patch_shape {tuple(patch_shape)} must have one number per spatial axis of the batch, which is "
            f"{patch.shape}"
        )
    padded, slicer = pad_nd_image(patch, (*patch_shape, patch.shape[-1]), return_slicer=True)
    if return_slicer:
        spatial = [slice(int(part.start), int(part.stop)) for part in slicer[1:-1]]
        return padded, [slice(None), *spatial, slice(None)]
    return padded


def crop_patch(patch: np.ndarray, slicer: Sequence[slice]) -> np.ndarray:
    """Undo `pad_patch` on a batch.

    Args:
        patch: Batch ``(n, x, y[, z], channels)``; number and channels may differ from those of the padded batch.
        slicer: What `pad_patch` returned.

    Returns:
        The cropped batch, a view.

    Raises:
        ConfigurationError: If the numbers of axes differ.
    """
    if len(slicer) != patch.ndim:
        raise ConfigurationError(
            f"slicer has {len(slicer)} slices for the {patch.ndim} axes of the batch {patch.shape}; pass the one that "
            "pad_patch returned"
        )
    return patch[(slice(None), *slicer[1:-1], slice(None))]


def _grid(shape: Sequence[int], window: Sequence[int], overlap: Sequence[int], three_dim: bool) -> PatchGrid:
    axes = 3 if three_dim else 2
    for name, value in (("array or image_size", shape), ("window", window), ("overlap", overlap)):
        if len(value) < axes:
            raise ConfigurationError(f"{name}: {tuple(value)} has fewer than {axes} axes, with three_dim={three_dim}")
    if len(shape) > axes + 1:
        raise ConfigurationError(
            f"array or image_size: {tuple(shape)} has more than {axes} spatial axes and channels, with "
            f"three_dim={three_dim}"
        )
    smaller = [min(int(size), int(voxels)) for size, voxels in zip(shape, window, strict=False)][:axes]
    # One window covers a smaller axis: nothing can overlap there.
    shared = [
        0 if size < voxels else int(common) for size, voxels, common in zip(shape, window, overlap, strict=False)
    ][:axes]
    return PatchGrid(shape[:axes], smaller, shared)
