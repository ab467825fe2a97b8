from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from small_data import write_cases

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.explore.data_exploration import explore
from miscnn_tf.explore.exploration_export import export_exploration


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_and_pictures(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 3)
    interface = NIFTI_interface(classes=3)
    interface.class_names = ("background", "kid$ney", "tumour")
    found = explore(Data_IO(interface, tmp_path / "data"))
    written = export_exploration(found, tmp_path / "out")
    assert [path.name for path in written] == [
        "cases.csv",
        "classes.csv",
        "histogram.csv",
        "histogram.png",
        "classes.png",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}
    cases = rows_of(tmp_path / "out" / "cases.csv")
    assert [row["sample_id"] for row in cases] == ["case_0", "case_1", "case_2"]
    assert (cases[0]["size_axis-0"], cases[0]["size_axis-2"], cases[0]["dtype"]) == ("12", "6", "int16")
    assert float(cases[0]["spacing_axis-2_mm"]) == 2.5
    classes = rows_of(tmp_path / "out" / "classes.csv")
    assert [(row["sample_id"], row["class"]) for row in classes[:4]] == [
        ("case_0", "0"),
        ("case_0", "1"),
        ("case_0", "2"),
        ("case_1", "0"),
    ]
    assert classes[2]["name"] == "tumour"
    assert int(classes[2]["voxels"]) == 18
    assert float(classes[2]["volume_ml"]) == pytest.approx(18 * 0.8 * 0.8 * 2.5 / 1000)
    bins = rows_of(tmp_path / "out" / "histogram.csv")
    for column in ("share", "share_class-0", "share_class-1", "share_class-2"):
        assert sum(float(row[column]) for row in bins) == pytest.approx(1)
    for picture in ("histogram.png", "classes.png"):
        assert imread(tmp_path / "out" / picture).std() > 0.05


def test_without_labels_there_is_nothing_about_classes(tmp_path: Path) -> None:
    found = explore(Data_IO(Dictionary_interface({"a": (np.ones((3, 3, 3)),)}), ""))
    assert {path.name for path in export_exploration(found, tmp_path)} == {
        "cases.csv",
        "histogram.csv",
        "histogram.png",
    }
