"""Small data sets in the layouts in common use, for several test files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

SHAPE = (5, 6, 7)

#: As the Decathlon's archive Task04_Hippocampus has it, with fewer cases.
MSD = {
    "name": "Hippocampus",
    "description": "Left and right hippocampus segmentation ",
    "reference": " Vanderbilt University Medical Center",
    "licence": "CC-BY-SA 4.0",
    "relase": "1.0 04/05/2018",
    "tensorImageSize": "3D",
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "numTraining": 2,
    "numTest": 1,
    "training": [
        {"image": "./imagesTr/hippocampus_367.nii.gz", "label": "./labelsTr/hippocampus_367.nii.gz"},
        {"image": "./imagesTr/hippocampus_304.nii.gz", "label": "./labelsTr/hippocampus_304.nii.gz"},
    ],
    "test": ["./imagesTs/hippocampus_267.nii.gz"],
}

#: As nnU-Net 2 wants it.
NNUNET = {
    "channel_names": {"0": "T2", "1": "ADC"},
    "labels": {"background": 0, "PZ": 1, "TZ": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def oblique() -> np.ndarray:
    """An affine of permuted, turned axes."""
    affine = np.eye(4)
    affine[:3, :3] = (Rotation.from_euler("xyz", (12, -25, 77), degrees=True).as_matrix() * (0.7, 0.9, 3.0))[
        :, [2, 0, 1]
    ]
    affine[:3, 3] = (-80, 40, 900)
    return affine


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([0.7, 0.9, 3, 1]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def save_image(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def image_of(name: str, channel: int = 0, shape=SHAPE) -> np.ndarray:
    """Voxels that tell the file they are from."""
    return np.random.default_rng([len(name), *name.encode(), channel]).integers(-1000, 1000, shape).astype(np.int16)


def labels_of(name: str, shape=SHAPE, classes=3) -> np.ndarray:
    return np.random.default_rng([7, *name.encode()]).integers(0, classes, shape).astype(np.uint8)


def write_msd(root: Path, description: dict | None = None, affine=None) -> Path:
    """Task04_Hippocampus in small, with the files that macOS left in the archive."""
    for folder, names in (("Tr", ("hippocampus_367", "hippocampus_304")), ("Ts", ("hippocampus_267",))):
        for name in names:
            save_nifti(root / f"images{folder}" / f"{name}.nii.gz", image_of(name), affine)
            (root / f"images{folder}" / f"._{name}.nii.gz").write_bytes(b"\0\5\26\7Mac OS X")
            if folder == "Tr":
                save_nifti(root / "labelsTr" / f"{name}.nii.gz", labels_of(name), affine)
                (root / "labelsTr" / f"._{name}.nii.gz").write_bytes(b"\0\5\26\7Mac OS X")
    write_description(root, MSD if description is None else description)
    return root


def write_nnunet(root: Path, description: dict | None = None, affine=None) -> Path:
    """A data set of two channels, two training cases and a test case with labels."""
    for folder, names in (("Tr", ("prostate_01", "prostate_03")), ("Ts", ("prostate_02",))):
        for name in names:
            for channel in range(2):
                save_nifti(root / f"images{folder}" / f"{name}_{channel:04d}.nii.gz", image_of(name, channel), affine)
            save_nifti(root / f"labels{folder}" / f"{name}.nii.gz", labels_of(name), affine)
    write_description(root, NNUNET if description is None else description)
    return root


def write_description(root: Path, description: object) -> Path:
    path = root / "dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(description), encoding="utf-8")
    return path


def write_pairs(
    root: Path, names=("a", "b", "c"), images="images", masks="masks", mask_name="{}.png", size=(6, 9), foreground=255
) -> Path:
    """Grey PNGs, and masks of 0 and `foreground`."""
    for name in names:
        save_image(root / images / f"{name}.png", (image_of(name, shape=size) % 256).astype(np.uint8))
        save_image(root / masks / mask_name.format(name), labels_of(name, size, 2) * np.uint8(foreground))
    return root
