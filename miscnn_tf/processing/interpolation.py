"""Interpolation of images, label maps and class probabilities onto another grid of the same extent.

Spline interpolation of any order is linear and separable, so along each axis it is one sparse matrix,
``new = weights @ old``. The numbers in the matrix are SciPy's (`scipy.ndimage.zoom` of unit impulses), so the result is
that of ``skimage.transform.resize(..., mode="edge", anti_aliasing=False)``. In addition every axis may have its own
order, nothing is float64, and any rows of the result can be computed from a few rows of the source. A volume is
therefore processed slab by slab along its first axis, and a memory-mapped source is never read as a whole.

Grids: the outer edges of the first and last voxel stay in place (as in skimage, and in SciPy with ``grid_mode``). Voxel
``i`` of ``m`` is at ``(i + 0.5) * n / m - 0.5`` in a source of ``n`` voxels; outside, the value of the edge is used.
Images are not smoothed before they are made smaller: MIScnn and nnU-Net do not do it either, and networks trained on
thick slices see the same noise.

Spatial axes come first; an axis of channels or classes may follow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, sparse

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError

#: Maximum size of a slab in bytes of float32, at least one plane of voxels. Larger slabs were not faster.
SLAB_BYTES = 16 * 2**20

#: Ratio of the coarsest to the finest spacing from which a volume is anisotropic (as in nnU-Net).
ANISOTROPY = 3.0

#: Two labels whose shares of a voxel differ by less are tied.
_TIE = 1e-4

# The influence of a spline falls by a factor of 0.43 (order 5) or less per voxel, to below 1e-7 within about 20 voxels.
# Unit impulses at this distance do not interact, and one call of SciPy gives the weights of many voxels.
_IMPULSE_DISTANCE = 128
_NEGLIGIBLE = 1e-7


def axis_orders(
    order: int,
    ndim: int,
    spacing: Sequence[float] | None = None,
    new_spacing: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """Return the interpolation order of each axis, lower across the slices of an anisotropic volume.

    A volume is anisotropic if its spacing, or otherwise the new one, differs by a factor of 3 or more between axes. Its
    axes that are three times coarser than the finest one are interpolated with order 1 at most, the others (in-plane)
    with `order`. Splines of higher order overshoot between distant slices, which show different anatomy. nnU-Net uses
    order 0 across slices; order 1 is preferred here because the nearest slice may be half a slice, several millimetres,
    away, which shifts the anatomy in steps. Interpolation is separable: in-plane first and across the slices first give
    the same result.

    Args:
        order: Order of the spline, 0 (nearest) to 5.
        ndim: Number of spatial axes.
        spacing: Voxel size of the source, mm per axis; None where unknown.
        new_spacing: Voxel size of the target.

    Returns:
        An order per axis.

    Reference:
        Isensee et al., nnU-Net, Nature Methods 2021 (supplementary note on resampling).

    Example:
        >>> axis_orders(3, 3, spacing=(0.8, 0.8, 5.0), new_spacing=(1.0, 1.0, 1.0))
        (3, 3, 1)
    """
    for grid in (spacing, new_spacing):
        if grid is not None and max(grid) / min(grid) >= ANISOTROPY:
            return tuple(min(order, 1) if size / min(grid) >= ANISOTROPY else order for size in grid)
    return (order,) * ndim


def resize_image(image: np.ndarray, shape: Sequence[int], order: int | Sequence[int] = 3) -> np.ndarray:
    """Interpolate an image onto a grid of `shape` with the same extent.

    Orders above 1 overshoot at edges; as in scikit-image the result is clipped to each channel's own range.

    Args:
        image: Array ``(x, y[, z])`` or ``(x, y[, z], channels)`` of any numeric type, memory maps included.
        shape: The new spatial shape.
        order: Order of the spline, 0 to 5, for all axes or per axis (see `axis_orders`).

    Returns:
        A float32 image; `image` itself if it has this shape and is float32.

    Example:
        >>> resize_image(np.array([[0, 2]], np.int16), (1, 4), order=1)
        array([[0. , 0.5, 1.5, 2. ]], dtype=float32)
    """
    shape = tuple(shape)
    if tuple(image.shape[: len(shape)]) == shape:
        return np.asarray(image, dtype=np.float32)
    axes = tuple(range(len(shape)))
    new = np.empty((*shape, *image.shape[len(shape) :]), np.float32)
    for where, slab in resized_slabs(image, shape, order):
        new[where] = slab
        del slab  # otherwise it stays in memory until the next one is made
    if max(_per_axis(order, len(shape))) > 1:
        # fmin and fmax ignore NaN; a range that is not finite clips nothing.
        np.clip(new, np.fmin.reduce(image, axis=axes), np.fmax.reduce(image, axis=axes), out=new)
    return new


def resize_labels(labels: np.ndarray, shape: Sequence[int], order: int | Sequence[int] = 1) -> np.ndarray:
    """Resample a label map onto a grid of `shape` with the same extent; the result has no new labels.

    With order 0 each voxel takes the label of the source voxel that contains its centre. With a higher order, the
    indicator image of each label (1 where it is, 0 elsewhere) is interpolated and the largest wins. Ties, common if a
    map is halved, go to the label that order 0 gives if it is among the tied ones, otherwise to the lowest: always
    preferring the lowest would shrink the foreground at each step.

    Labels are processed one at a time and slab by slab, so a one-hot volume never exists.

    Args:
        labels: Array ``(x, y[, z])`` or ``(x, y[, z], 1)``.
        shape: The new spatial shape.
        order: Order of the spline, 0 to 5, for all axes or per axis.

    Returns:
        A label map of the same dtype; `labels` itself if it has this shape.

    Example:
        >>> resize_labels(np.array([[0, 7]]), (1, 6))
        array([[0, 0, 0, 7, 7, 7]])
    """
    shape = tuple(shape)
    ndim = len(shape)
    if tuple(labels.shape[:ndim]) == shape:
        return labels
    nearest = [_nearest(size, new) for size, new in zip(labels.shape[:ndim], shape, strict=True)]
    if max(_per_axis(order, ndim)) == 0:
        return np.asarray(labels[np.ix_(*nearest)])
    resizer = _Resizer(labels.shape, shape, order)
    new = np.empty((*shape, *labels.shape[ndim:]), labels.dtype)
    # A slab is in memory as source, indicator, score, best score and comparison.
    for block in resizer.blocks(SLAB_BYTES // 4):
        source = np.ascontiguousarray(labels[block.source])
        rows = nearest[0][block.target] - block.source.start
        new[block.target] = _vote(source, source[np.ix_(rows, *nearest[1:])], resizer, block)
    return new


def resize_probabilities(probabilities: Any, shape: Sequence[int], order: int | Sequence[int] = 1) -> np.ndarray:
    """Interpolate class probabilities linearly onto a grid of `shape` with the same extent.

    Linear interpolation keeps them between 0 and 1, and their sum at 1.

    Args:
        probabilities: Array ``(x, y[, z], classes)``, or anything that `resized_slabs` accepts.
        shape: The new spatial shape.
        order: 0 or 1, for all axes or per axis.

    Returns:
        Float32 probabilities ``(*shape, classes)``; `probabilities` itself if it has this shape and is float32.
    """
    return resize_image(probabilities, shape, order)


def resize_probabilities_to_labels(
    probabilities: Any,
    shape: Sequence[int],
    slab_bytes: int = SLAB_BYTES,
    sections: int = 1,
    scheme: LabelScheme | None = None,
    order: int | Sequence[int] = 1,
) -> np.ndarray:
    """Interpolate class probabilities onto a grid of `shape` and return the most probable class.

    Interpolating probabilities and then deciding is more exact than interpolating labels, but 20 classes on a CT of
    512 x 512 x 600 are 12 GB. Only one slab of them exists at a time.

    Args:
        probabilities: Array ``(x, y[, z], classes)``, or anything that `resized_slabs` accepts.
        shape: The new spatial shape.
        slab_bytes: Size of a slab; at least one plane of voxels.
        sections: Number of sections of the second axis. Only the columns of `probabilities` that a section needs are
            requested (``probabilities[:, 3:9]``), and a slab is smaller. The result is the same.
        scheme: Meaning of the labels; None: a class per channel.
        order: 0 or 1, for all axes or per axis.

    Returns:
        Labels of `shape`, uint8 (uint16 above 256 classes); of equally probable classes the lowest.

    Example:
        >>> resize_probabilities_to_labels(np.array([[[0.9, 0.1], [0.4, 0.6]]]), (1, 4))
        array([[0, 0, 0, 1]], dtype=uint8)
    """
    scheme = LabelScheme(probabilities.shape[-1]) if scheme is None else scheme
    labels = np.empty(tuple(shape), scheme.decided_dtype(probabilities.shape[-1]))
    for columns in even_parts(shape[1], sections):
        # Cutting columns out of an array that is not in memory, such as an HDF5 data set, would read all of it.
        part = columns if sections > 1 else None
        for where, slab in resized_slabs(probabilities, shape, order, slab_bytes=slab_bytes, columns=part):
            labels[where, columns] = scheme.decide(slab)
            del slab  # otherwise it stays in memory until the next one is made
    return labels


def even_parts(size: int, parts: int) -> list[slice]:
    """Divide an axis of `size` voxels into consecutive parts that differ by one voxel at most.

    There are at most as many parts as voxels.

    Example:
        >>> even_parts(5, 2)
        [slice(0, 2, None), slice(2, 5, None)]
    """
    parts = min(parts, size)
    return [slice(size * part // parts, size * (part + 1) // parts) for part in range(parts)]


def resized_slabs(
    array: Any,
    shape: Sequence[int],
    order: int | Sequence[int] = 1,
    slab_bytes: int = SLAB_BYTES,
    columns: slice | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Interpolate an array onto a grid of `shape`, and yield the result slab by slab along the first axis.

    Args:
        array: A numpy array, a memory map, or anything with `shape` whose first axis can be sliced (``array[3:9]``),
            such as an HDF5 data set. Its slices are requested in order of their start, and overlap by a few rows.
        shape: The new spatial shape; further axes of `array` are channels or classes.
        order: Order of the spline, 0 to 5, for all axes or per axis.
        slab_bytes: Size of a slab; at least one plane of voxels.
        columns: Part of the result's second axis to compute; None for all of it. The columns of `array` that it needs
            are cut out first (``array[:, 3:9]``).

    Yields:
        The location of the rows in the result, and the rows themselves (their `columns`), float32.

    Raises:
        ConfigurationError: If the number of axes does not fit, a size is below 1, or the order is not from 0 to 5.
    """
    resizer = _Resizer(array.shape, shape, order, columns)
    if columns is not None:
        array = array[:, resizer.columns]
    for block in resizer.blocks(slab_bytes):
        # nibabel's arrays are in Fortran order.
        yield block.target, resizer.run(np.ascontiguousarray(array[block.source], dtype=np.float32), block)


def resizing_bytes(
    old: Sequence[int], new: Sequence[int], trailing: int, order: int = 1, slab_bytes: int = SLAB_BYTES
) -> int:
    """Return an upper bound of the memory that `resized_slabs` takes beside its source, in bytes.

    Args:
        old: Spatial shape of the source.
        new: Spatial shape of the result.
        trailing: Channels or classes.
        order: Order of the spline along the first axis.
        slab_bytes: Size of a slab.
    """
    before, after = (4 * trailing * math.prod(shape[1:]) for shape in (old, new))
    # In the plane one axis is interpolated after the other.
    plane = 4 * trailing * math.prod(max(pair) for pair in zip(old[1:], new[1:], strict=True))
    slab = max(slab_bytes, after, max(1.0, old[0] / new[0]) * before)
    # Rows of the source that one row of the result needs: two, or dozens with a higher order.
    reach = 0 if old[0] == new[0] else int(np.diff(axis_weights(old[0], new[0], order).indptr).max())
    # The rows of the source, joined from slabs, with more at the ends; the same interpolated along the first axis; the
    # result; a plane that is rearranged and interpolated along each axis.
    return int(2 * (slab + reach * before) + 2 * slab + 4 * plane)


@functools.lru_cache(maxsize=32)
def axis_weights(size: int, new_size: int, order: int) -> sparse.csr_array:
    """Return the interpolation along one axis as a sparse float32 matrix ``(new_size, size)``; each row sums to 1.

    Args:
        size: Number of voxels before.
        new_size: Number of voxels after.
        order: Order of the spline: 0 takes the voxel that contains the new centre, 1 is linear, up to 5.
    """
    nearest = _nearest(size, new_size)
    if order == 0 or size == 1:
        values, columns = np.ones((new_size, 1)), nearest[:, np.newaxis]
    else:
        distance = min(size, _IMPULSE_DISTANCE)
        response = np.empty((new_size, distance))
        for first in range(distance):
            impulses = np.zeros(size)
            impulses[first::distance] = 1
            response[:, first] = ndimage.zoom(impulses, new_size / size, order=order, mode="nearest", grid_mode=True)
        # On a short axis each response has one impulse; on a long axis a voxel responds to the nearest impulse.
        start = np.zeros_like(nearest) if size == distance else nearest - distance // 2
        columns = start[:, np.newaxis] + np.arange(distance)
        values = np.take_along_axis(response, columns % distance, axis=1)
        values[(columns < 0) | (columns >= size) | (np.abs(values) < _NEGLIGIBLE)] = 0
        values /= values.sum(axis=1, keepdims=True)
    rows, picks = np.nonzero(values)
    entries = values[rows, picks].astype(np.float32), (rows, columns[rows, picks])
    return sparse.csr_array(entries, shape=(new_size, size))


def _nearest(size: int, new_size: int) -> np.ndarray:
    """Return the source voxel that contains the centre of each new one; on an edge the upper one. Exact integers."""
    return ((2 * np.arange(new_size) + 1) * size) // (2 * new_size)


def _per_axis(order: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    orders = (order,) * ndim if isinstance(order, int | np.integer) else tuple(order)
    if len(orders) != ndim or not all(0 <= one <= 5 for one in orders):
        raise ConfigurationError(
            f"the interpolation order must be 0 to 5, for all or for each of {ndim} axes; got {order}"
        )
    return orders


class _Block(NamedTuple):
    """Rows of the result and the rows of the source that they need."""

    target: slice
    source: slice


class _Resizer:
    """Matrices of all axes, None for an axis that is unchanged; for all columns of the result, or some."""

    def __init__(
        self,
        source_shape: Sequence[int],
        shape: Sequence[int],
        order: int | Sequence[int],
        columns: slice | None = None,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        ndim = len(self.shape)
        if len(source_shape) not in (ndim, ndim + 1):
            raise ConfigurationError(
                f"an array of shape {tuple(source_shape)} cannot be resampled to a grid of {ndim} axes, {self.shape}; "
                f"it needs {ndim} spatial axes, and at most one more for channels or classes"
            )
        self.old = tuple(int(size) for size in source_shape[:ndim])
        self.trailing = tuple(int(size) for size in source_shape[ndim:])
        if min(self.old + self.shape) < 1:
            raise ConfigurationError(
                f"images need at least one voxel per axis; got {self.old} to be resampled to {self.shape}"
            )
        self.weights = [
            None if size == new else axis_weights(size, new, int(one))
            for size, new, one in zip(self.old, self.shape, _per_axis(order, ndim), strict=True)
        ]
        #: The columns of the source that are needed, if only some of the result are computed.
        self.columns: slice | None = None
        if columns is not None:
            self._narrow(columns)

    def _narrow(self, columns: slice) -> None:
        """Restrict the result to these columns."""
        needed, weights = columns, self.weights[1]
        if weights is not None:
            used = weights[columns].indices
            needed = slice(int(used.min()), int(used.max()) + 1)
            self.weights[1] = weights[columns, needed]
        self.columns = needed
        self.old = (self.old[0], needed.stop - needed.start, *self.old[2:])
        self.shape = (self.shape[0], columns.stop - columns.start, *self.shape[2:])

    def blocks(self, slab_bytes: int) -> Iterator[_Block]:
        """Yield blocks whose source and result both have about `slab_bytes` as float32."""
        item = 4 * math.prod(self.trailing)
        source_rows = max(1.0, self.old[0] / self.shape[0])
        row = max(item * math.prod(self.shape[1:]), source_rows * item * math.prod(self.old[1:]))
        step = max(1, int(slab_bytes / row))
        for start in range(0, self.shape[0], step):
            target = slice(start, min(start + step, self.shape[0]))
            if self.weights[0] is None:
                yield _Block(target, target)
            else:
                used = self.weights[0][target].indices
                yield _Block(target, slice(int(used.min()), int(used.max()) + 1))

    def run(self, source: np.ndarray, block: _Block) -> np.ndarray:
        """Interpolate ``array[block.source]``, float32, to the rows ``block.target`` of the result."""
        if self.weights[0] is not None:
            weights = self.weights[0][block.target, block.source]
            source = (weights @ source.reshape(len(source), -1)).reshape(-1, *source.shape[1:])
        if all(weights is None for weights in self.weights[1:]):
            return source
        result = np.empty((len(source), *self.shape[1:], *self.trailing), np.float32)
        for position, plane in enumerate(source):
            for axis, weights in enumerate(self.weights[1:]):
                if weights is not None:
                    plane = _along(plane, weights, axis)
            result[position] = plane
        return result


def _along(array: np.ndarray, weights: sparse.csr_array, axis: int) -> np.ndarray:
    moved = np.moveaxis(array, axis, 0)
    result = weights @ moved.reshape(len(moved), -1)
    return np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)


def _vote(source: np.ndarray, nearest: np.ndarray, resizer: _Resizer, block: _Block) -> np.ndarray:
    """Return the label with the largest share of each voxel; `nearest` decides ties."""
    present = np.unique(source)
    if len(present) == 1:
        return nearest
    winner = np.empty_like(nearest)
    best = np.full(nearest.shape, -np.inf, np.float32)
    for label in present:
        share = resizer.run((source == label).astype(np.float32), block)
        share[nearest == label] += _TIE
        # Copying through masks costs less than choosing between two whole slabs.
        better = share > best
        np.copyto(winner, label, where=better)
        np.copyto(best, share, where=better)
    return winner
