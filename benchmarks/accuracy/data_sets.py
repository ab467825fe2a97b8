"""Data sets of `accuracy.py`, their splits, and the folders that all methods read.

All methods read the same files, in nnU-Net's layout: ``imagesTr`` and ``labelsTr`` have the training samples alone, and
``images``, in another folder, the images to segment. The label maps of those are written to a third folder, which only
the scoring reads.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from miscnn_tf import datasets


@dataclass(frozen=True)
class Case:
    """A sample: a file per channel, or one RGB image, and the label map."""

    images: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True)
class DataSet:
    """A data set with its split.

    Attributes:
        name: Its name on the command line.
        cases: All samples by name.
        training: Names of the training samples.
        validation: Names of the samples that are scored, and never seen in training.
        channels: Name of each channel; "CT" has a meaning to the planners.
        classes: Name of each class, background first.
        ending: Ending of the files that are written.
        convert: Returns the classes of the values of a label map.
        group: Regular expression of the part of a name that samples of one patient or sequence share.
        window: Lowest and highest intensity that matter, for methods without a planner; None for all.
    """

    name: str
    cases: Mapping[str, Case]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    ending: str = ".nii.gz"
    convert: Callable[[np.ndarray], np.ndarray] = lambda values: values
    group: str = "(.*)"
    window: tuple[float, float] | None = None

    def folds(self, count: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Divide the training samples into folds: training and validation names of each; groups are not divided.

        Raises:
            ValueError: If there are fewer groups than folds.
        """
        groups: dict[str, list[str]] = {}
        for name in sorted(self.training):
            match = re.fullmatch(self.group, name)
            if match is None:
                raise ValueError(f"{self.name}: the sample {name} does not match the groups {self.group!r}")
            groups.setdefault(match[1], []).append(name)
        if not 2 <= count <= len(groups):
            raise ValueError(
                f"--validate-on-training {count}: {self.name} has {len(groups)} groups of training samples; give a "
                f"number of folds from 2 to {len(groups)}"
            )
        keys = sorted(groups)
        random.Random(0).shuffle(keys)
        folds = []
        for number in range(count):
            left_out = {name for key in keys[number::count] for name in groups[key]}
            folds.append(
                (tuple(name for name in self.training if name not in left_out),
                 tuple(name for name in self.training if name in left_out))
            )  # fmt: skip
        return folds

    def write(self, folder: Path, training: Sequence[str], validation: Sequence[str]) -> dict[str, Any]:
        """Write the files of a run, replacing earlier ones, and return the settings that describe them."""
        shutil.rmtree(folder, ignore_errors=True)
        raw, images, truth = folder / "raw" / "Dataset001_accuracy", folder / "images", folder / "truth"
        for path in (raw / "imagesTr", raw / "labelsTr", images, truth):
            path.mkdir(parents=True)
        for name in training:
            self._write_case(name, raw / "imagesTr", raw / "labelsTr")
        for name in validation:
            self._write_case(name, images, truth)
        description = {
            "channel_names": {str(number): name for number, name in enumerate(self.channels)},
            "labels": {name: number for number, name in enumerate(self.classes)},
            "numTraining": len(training),
            "file_ending": self.ending,
        }
        (raw / "dataset.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
        return {
            "raw": str(raw),
            "images": str(images),
            "channels": len(self.channels),
            "classes": len(self.classes),
            "ending": self.ending,
            "window": self.window,
        }

    def _write_case(self, name: str, images: Path, labels: Path) -> None:
        case = self.cases[name]
        if self.ending == ".png":
            (file,) = case.images
            with Image.open(file) as image:  # the pixels of JPEG files do not change
                image.save(images / f"{name}_0000.png")
            with Image.open(case.labels) as mask:
                classes = self.convert(np.asarray(mask)).astype(np.uint8)
            Image.fromarray(classes).save(labels / f"{name}.png")
            return
        for channel, file in enumerate(case.images):
            shutil.copyfile(file, images / f"{name}_{channel:04d}.nii.gz")
        volume = nib.load(case.labels)
        classes = self.convert(np.asanyarray(volume.dataobj)).astype(np.uint8)
        nib.save(nib.Nifti1Image(classes, volume.affine), labels / f"{name}.nii.gz")


def hippocampus(data: Path, made: Path) -> DataSet:
    """MRI of the Medical Segmentation Decathlon: 100 training and 40 validation cases."""
    folder = data / "hippocampus"
    split = _split(folder)
    cases = {
        name: Case((folder / "cases" / name / "imaging.nii.gz",), folder / "cases" / name / "segmentation.nii.gz")
        for name in (*split["TRAINING"], *split["VALIDATION"])
    }
    return DataSet(
        "hippocampus",
        cases,
        tuple(split["TRAINING"]),
        tuple(split["VALIDATION"]),
        ("MRI",),
        ("background", "anterior", "posterior"),
    )


def chase(data: Path, made: Path) -> DataSet:
    """Retina photographs of CHASE_DB1: 20 training and 8 validation images, both eyes of a child on one side."""
    folder = data / "chase"
    split = _split(folder)
    cases = {
        name: Case((folder / f"{name}.jpg",), folder / f"{name}_1stHO.png")
        for name in (*split["TRAINING"], *split["VALIDATION"])
    }
    return DataSet(
        "chase",
        cases,
        tuple(split["TRAINING"]),
        tuple(split["VALIDATION"]),
        ("red", "green", "blue"),
        ("background", "vessel"),
        ".png",
        lambda values: values > 0,
        r"(.*)[LR]",
    )


def kits(data: Path, made: Path) -> DataSet:
    """CT phantoms of kidneys with a tumour, of the size in ``miscnn-tf demo``: 18 training and 12 validation cases."""
    names = datasets.write_kits_phantoms(made / "kits", 30, (24, 56, 80), tumours=1, progress=False)
    cases = {
        name: Case((made / "kits" / name / "imaging.nii.gz",), made / "kits" / name / "segmentation.nii.gz")
        for name in names
    }
    return DataSet(
        "kits",
        cases,
        tuple(names[:18]),
        tuple(names[18:]),
        ("CT",),
        ("background", "kidney", "tumour"),
        window=(-79, 304),
    )


def brats(data: Path, made: Path) -> DataSet:
    """MRI phantoms of brain tumours with four sequences: 16 training and 12 validation cases."""
    names = datasets.write_brats_phantoms(made / "brats", 28, progress=False)
    sequences = ("t1", "t1ce", "t2", "flair")
    cases = {
        name: Case(
            tuple(made / "brats" / name / f"{name}_{sequence}.nii.gz" for sequence in sequences),
            made / "brats" / name / f"{name}_seg.nii.gz",
        )
        for name in names
    }
    return DataSet(
        "brats",
        cases,
        tuple(names[:16]),
        tuple(names[16:]),
        sequences,
        ("background", "necrosis", "oedema", "enhancing"),
        convert=lambda values: np.where(values == 4, 3, values),
    )


def cells(data: Path, made: Path) -> DataSet:
    """Microscopy phantoms of cells: four training and two validation sequences of eight images."""
    folder = made / "cells"
    sequences = datasets.write_cell_phantoms(folder, 6, 8, progress=False)
    cases = {
        f"{sequence}_t{frame:03d}": Case(
            (folder / sequence / f"t{frame:03d}.png",),
            folder / f"{sequence}_GT" / "SEG" / f"man_seg{frame:03d}.png",
        )
        for sequence in sequences
        for frame in range(8)
    }
    names = tuple(cases)
    return DataSet(
        "cells",
        cases,
        names[:32],
        names[32:],
        ("brightness",),
        ("background", "cell"),
        ".png",
        lambda values: values > 0,
        "(.*)_t.*",
    )


#: Functions that return a data set, with the folder of real data and a folder for phantoms.
DATA_SETS: dict[str, Callable[[Path, Path], DataSet]] = {
    "hippocampus": hippocampus,
    "chase": chase,
    "kits": kits,
    "brats": brats,
    "cells": cells,
}


def _split(folder: Path) -> dict[str, list[str]]:
    file = folder / "split.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give the folder with the real data sets with --folder")
    split: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return split
