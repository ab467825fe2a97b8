"""Small data sets of NIfTI files, one folder per case, written by nibabel, which is not what reads them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
SHAPE = (12, 10, 6)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_case(folder: Path, seed: int, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Path:
    """Noise with two boxes, labels 1 and 2."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[2:8, 2:7, 1:5] = 1
    labels[3:6, 3:6, 2:4] = 2
    image = (rng.normal(0, 20, shape) + 100 * labels).astype(np.int16)
    write_volume(folder / "imaging.nii.gz", image, affine)
    write_volume(folder / "segmentation.nii.gz", labels, affine)
    return folder


def write_cases(root: Path, number: int = 4) -> list[Path]:
    return [write_case(root / f"case_{position}", position) for position in range(number)]


def files_below(folder: Path) -> set[str]:
    """The paths of all files and links, relative to the folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def contents_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder) if not (folder / name).is_symlink()}
