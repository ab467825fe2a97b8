"""Splitting of arrays into patches, and reassembly: the functions of MIScnn's interface.

They use `PatchGrid` and `Blender` of `miscnn_tf.processing.patching`. Use these directly if not all patches of an image
fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from batchgenerators.augmentations.utils import pad_nd_image

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.blending import Blender
from miscnn_tf.processing.patching.grid import PatchGrid


def slice_matrix(array: np.ndarray, window: Sequence[int], overlap: Sequence[int], three_dim: bool) -> list[np.ndarray]:
    """Split an array into patches, first axis outermost. The last patch of each axis is shifted to end at the border.

    Args:
        array: Array ``(x, y[, z])`` or ``(x, y[, z], channels)``.
        window: Shape of a patch; at most that of the array is used.
        overlap: Overlap of neighbouring patches per spatial axis, less than `window`.
        three_dim: True for three spatial axes, False for two; further entries of `window` and `overlap` are ignored.

    Returns:
        The patches, as views of `array`.

    Raises:
        ConfigurationError: If the numbers of axes, the window or the overlap are invalid.

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
    """Reassemble patches. A voxel covered by several patches gets their mean.

    Args:
        patches: Patches in the order of `slice_matrix`, with or without channels.
        image_size: Shape of the result; a channel axis is ignored.
        window: As for `slice_matrix`.
        overlap: As for `slice_matrix`.
        three_dim: As for `slice_matrix`.

    Returns:
        A new array ``(x, y[, z][, channels])`` of the patches' dtype; means of integers are rounded. For the patches of
        `slice_matrix` it equals the input exactly (float64 with overlap: up to rounding).

    Raises:
        ConfigurationError: If the number or shape of the patches is wrong.

    Example:
        >>> patches = [np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])]
        >>> concat_matrices(patches, (3, 1), (2, 1), (1, 0), three_dim=False).ravel()
        array([0., 3., 6.])
    """
    grid = _grid(image_size, window, overlap, three_dim)
    axes = len(grid.patch_shape)
    if len(patches) != len(grid):
        raise ConfigurationError(f"patches has {len(patches)} entries, but {grid} has {len(grid)} patches")
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
    # Summed in float64, a few rows at a time, so that the float32 mean of equal values is exact.
    blender = Blender(grid, channels, mode="average", dtype=np.float64)
    for slab in blender.blend(stream):
        result[slab.start : slab.stop] = np.rint(slab.array, out=slab.array) if rounded else slab.array
    return result if has_channels else result[..., 0]


def pad_patch(
    patch: np.ndarray, patch_shape: Sequence[int], return_slicer: bool = False
) -> np.ndarray | tuple[np.ndarray, list[slice]]:
    """Pad a batch with zeros to a patch shape, evenly on both sides. Larger axes are not changed.

    Args:
        patch: Batch ``(n, x, y[, z], channels)``.
        patch_shape: Minimum spatial shape.
        return_slicer: Also return the argument of `crop_patch`.

    Returns:
        The padded batch (`patch` itself if it is large enough), and with `return_slicer` one slice per axis. The slices
        of batch and channels are open, so that they also crop predictions with other channels.

    Raises:
        ConfigurationError: If the number of axes is wrong.

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
        slicer: The slices from `pad_patch`.

    Returns:
        The cropped batch, a view.

    Raises:
        ConfigurationError: If the numbers of axes differ.
    """
    if len(slicer) != patch.ndim:
        raise ConfigurationError(
            f"slicer has {len(slicer)} slices, but the batch {patch.shape} has {patch.ndim} axes; pass the slicer that "
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
    # A single patch covers smaller axes, so that patches do not overlap there.
    shared = [
        0 if size < voxels else int(common) for size, voxels, common in zip(shape, window, overlap, strict=False)
    ][:axes]
    return PatchGrid(shape[:axes], smaller, shared)
