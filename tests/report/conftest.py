"""Folders of runs as they are left behind, made without a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miscnn_tf._base.files import make_folder
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.interfaces import Image_interface, NIFTI_interface
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.evaluation.summary import write_results, write_summary
from miscnn_tf.runs.fold import Fold, FoldRecord, write_fold2disk
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.score_table import with_sample
from miscnn_tf.runs.tables import backup_history

HISTORY = {
    "loss": [1.0, 0.8, math.nan, 0.5],
    "dice_soft": [0.2, 0.3, 0.4, 0.5],
    "val_loss": [1.1, 0.7, 0.9, math.inf],
    "val_dice_soft": [0.1, 0.3, 0.2, 0.4],
}
AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])


def volume(shift: int) -> np.ndarray:
    """Class 1 as a box that grows smaller from slice to slice, class 2 in it; moved in the first axis."""
    labels = np.zeros((24, 20, 16), np.uint8)
    for number in range(4, 12):
        labels[4 + shift : 20 - number // 2 + shift, 4:16, number] = 1
    labels[8 + shift : 12 + shift, 8:12, 6:9] = 2
    return labels


def write_volumes(folder: Path, names: list[str]) -> Data_IO:
    rng = np.random.default_rng(0)
    for name in names:
        truth = volume(0)
        image = (100 * truth + rng.normal(0, 10, truth.shape)).astype(np.int16)
        # The first axis runs to the patient's left.
        facts = {"affine": AFFINE}
        make_folder(folder / name)
        write_nifti(folder / name / "imaging.nii.gz", image, facts)
        write_nifti(folder / name / "segmentation.nii.gz", truth, facts)
    interface = NIFTI_interface(classes=3)
    interface.class_names = ("background", "organ", "lesion")
    return Data_IO(interface, folder)


def write_images(folder: Path, names: list[str]) -> Data_IO:
    for name in names:
        labels = volume(0)[:, :, 6]
        make_folder(folder / name)
        Image.fromarray((80 * labels + 20).astype(np.uint8)).save(folder / name / "imaging.png")
        Image.fromarray(labels).save(folder / name / "segmentation.png")
    return Data_IO(Image_interface(classes=3), folder)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a cross-validation; case i is predicted i voxels aside, or as `predict` says."""

    def make(
        names: list[str] | None = None,
        folds: int = 2,
        *,
        two_dim: bool = False,
        history: dict[str, list[float]] | None = HISTORY,
        scores: bool = True,
        record: bool = True,
        predict: Callable[[int, np.ndarray], np.ndarray] | None = None,
        class_names: tuple[str, ...] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Path:
        names = names or [f"case_{number}" for number in range(8)]
        root = tmp_path / "run"
        data_io = (write_images if two_dim else write_volumes)(tmp_path / "data", names)
        if class_names:
            data_io.interface.class_names = class_names
        if record:
            write_run_record(root, "cross-validation", data_io=data_io, settings=settings or {"epochs": 4})
        for number in range(folds):
            mine = names[number::folds]
            folder = make_folder(root / f"fold_{number}")
            fold = Fold(tuple(name for name in names if name not in mine), tuple(mine))
            write_fold2disk(folder / "sample_list.json", fold.training, fold.validation)
            if history is not None:
                backup_history(history, folder)
                FoldRecord(fold, {}, history, detailed=scores).write(folder)
            rows: list[dict[str, Any]] = []
            for name in mine if scores else []:
                truth = data_io.interface.load_segmentation(name)
                place = names.index(name)
                prediction = predict(place, truth) if predict else np.roll(truth, place % 6, axis=0)
                data_io.output_path = make_folder(folder / "predictions")
                sample = data_io.sample_loader(name)
                sample.add_prediction(prediction)
                data_io.save_prediction(sample)
                spacing = None if two_dim else (1.0, 1.0, 3.0)
                rows += with_sample(score_label_maps(truth, prediction, 3, spacing), name)
            if rows:
                write_results(folder, rows)
        if scores:
            write_summary(root)
        return root

    return make
