from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from small_data import write_case, write_cases, write_volume

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.explore.data_exploration import Exploration, RunningStatistics, explore
from miscnn_tf.explore.exploration_tables import common_edges, exploration_text, export_exploration, shares_within


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


def text_of(root: Path, cases: bool = False) -> str:
    interface = NIFTI_interface(classes=3)
    interface.class_names = ("background", "a kidney with a very long name", "tumour")
    return exploration_text(explore(Data_IO(interface, root)), cases)


def test_it_fits_a_terminal_and_says_what_is_there(tmp_path: Path) -> None:
    folders = write_cases(tmp_path, 3)
    write_case(folders[2], 2, shape=(300, 10, 6))
    text = text_of(tmp_path, cases=True)
    assert max(map(len, text.splitlines())) <= 80
    assert "3 cases, 3 with a label map" in text
    assert "files per case: 2 in 3 cases (such as imaging.nii.gz, segmentation.nii.gz)" in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["voxels, least"][-3:] == ["12", "10", "6"]
    assert rows["voxels, most"][-3:] == ["300", "10", "6"]
    assert rows["mm each, all"][-3:] == ["0.8", "0.8", "2.5"]
    assert "case_2" in text
    assert "█" in text


def test_the_class_table_has_the_counted_voxels(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    line = next(line for line in text_of(tmp_path).splitlines() if line.startswith("2 tumour"))
    assert line.split() == ["2", "tumour", "2", "36", "2.50%", "0.0288", "0.0288", "…", "0.0288"]


def test_a_single_far_voxel_does_not_hide_the_others(rng: np.random.Generator) -> None:
    statistics = RunningStatistics()
    values = rng.normal(0, 100, 20_000)
    values[0] = 1e6
    statistics.add(values)
    edges = common_edges(statistics, 16)
    shares = shares_within(statistics, edges)
    assert -600 < edges[0] < edges[-1] < 600
    assert shares.sum() == pytest.approx(1)
    assert shares.max() < 0.3


def test_images_of_one_value_and_data_without_labels(tmp_path: Path) -> None:
    data = {"a": (np.full((4, 4, 4), 7),), "b": (np.full((4, 4, 4), 7),)}
    text = exploration_text(explore(Data_IO(Dictionary_interface(data), "")))
    assert "2 cases, 0 with a label map" in text
    assert "class " not in text
    write_volume(tmp_path / "x" / "imaging.nii.gz", np.zeros((3, 3, 3), np.float32))
    assert "100.00%" in text_of(tmp_path)


def test_channels_have_histograms_each(rng: np.random.Generator, tmp_path: Path) -> None:
    data = {"a": (rng.normal(size=(4, 4, 4, 2)), np.ones((4, 4, 4), int))}
    text = exploration_text(explore(Data_IO(Dictionary_interface(data, channels=2), tmp_path)))
    assert "Histogram of channel 0" in text
    assert "Histogram of channel 1" in text
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_readable() -> None:
    assert exploration_text(Exploration(("0", "1"), 1, True)) == "No sample could be read."
