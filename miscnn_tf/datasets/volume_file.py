"""Writing of phantom volumes as NIfTI files whose bytes depend on the voxels and the affine only."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from miscnn_tf._base.atomic_files import atomic_path


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume with equal qform and sform, atomically, and create its folder.

    Args:
        path: The file, which ends in ``.nii.gz``.
        array: Voxels ``(x, y, z)``, in the type to be stored.
        affine: 4x4, voxel index to mm (right, anterior, superior).

    Raises:
        StorageError: If the file cannot be written.
    """
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # No time in the gzip header, so that files are reproducible.
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
