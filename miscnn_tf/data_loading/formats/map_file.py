"""Writer of maps: one real number per voxel, in the geometry of their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miscnn_tf._base.atomic_files import atomic_path
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.sample import Sample


def write_map(stem: str | Path, values: np.ndarray, sample: Sample) -> Path:
    """Write a map, atomically: as NIfTI if the affine of the image is known, else as ``.npy``.

    Each map has its own file, not one of four dimensions, so that viewers can overlay it.

    Args:
        stem: Name of the file without its ending.
        values: ``(x, y[, z])`` on the grid of the original image; written as float32.
        sample: The sample; its ``extended`` holds the ``"affine"`` and further geometry that the interface read.

    Returns:
        The file's path.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> sample = Sample("a", np.zeros((4, 4)), 1, 2, three_dim=False)
        >>> write_map("maps/a.entropy", np.zeros((4, 4)), sample).as_posix()
        'maps/a.entropy.npy'
    """
    values = values.astype(np.float32, copy=False)
    stem, facts = Path(stem), sample.extended
    if facts.get("affine") is None:
        path = stem.with_name(stem.name + ".npy")
        with atomic_path(path) as temporary:
            np.save(temporary, values, allow_pickle=False)
        return path
    if values.ndim == 2 and ("slice_axis" in facts or facts.get("file_axes", 2) == 3):
        # A slice that has three axes in its file is written in that shape, so that viewers can overlay it.
        values = np.expand_dims(values, int(facts.get("slice_axis", 2)))
    path = stem.with_name(stem.name + ".nii.gz")
    write_nifti(path, values, facts)
    return path
