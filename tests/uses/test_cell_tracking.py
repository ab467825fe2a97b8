"""Cell tracking: 2D, 16-bit PNG images, touching cells kept apart by a class for their borders."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.datasets import write_cell_phantoms


@pytest.fixture(scope="module")
def tracking(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    write_cell_phantoms(folder / "data", sequences=2, frames=8, progress=False)
    return folder, run_use("cell_tracking", folder)


def test_cells_and_borders_of_the_other_sequence_are_found(tracking):
    _, results = tracking
    cell, border = np.mean(results["dice"], axis=0)
    assert cell > 0.7
    assert border > 0.4


def test_borders_tell_touching_cells_apart(tracking):
    _, results = tracking
    true, blobs, found = (np.array(results[name]) for name in ("true_cells", "blobs", "cells"))
    assert np.all(blobs <= true - 3)  # they do touch
    assert np.mean(np.abs(found - true)) < np.mean(true - blobs)


def test_predictions_are_written_by_the_users_interface(tracking):
    folder, _ = tracking
    names = sorted(path.name for path in (folder / "predictions").iterdir())
    assert names == [f"02_00{frame}.png" for frame in range(8)]
    for name in names:
        labels = np.array(Image.open(folder / "predictions" / name))
        assert labels.shape == (96, 128)
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1, 2}


def test_callbacks_of_keras_saw_every_epoch(tracking):
    folder, results = tracking
    with open(folder / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == results["epochs"]
    assert {"loss", "val_loss", "learning_rate", "dice_soft", "val_dice_coefficient"} <= set(rows[0])
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])
    assert (folder / "cells.keras").is_file()


@pytest.mark.slow
def test_image_folders_with_masks_of_0_and_255(run_use, tmp_path):
    write_cell_phantoms(tmp_path / "cells", sequences=1, frames=4, progress=False)
    results = run_use("cell_folders", tmp_path)
    assert results["dtype"] == "uint16"
    assert results["dice"] > 0.8
    assert sorted(path.name for path in (tmp_path / "loo").glob("fold_*")) == [f"fold_{fold}" for fold in range(4)]
    labels = np.array(Image.open(tmp_path / "predictions" / "t003.png"))
    assert labels.shape == (96, 128)
    assert set(np.unique(labels)) == {0, 1}
