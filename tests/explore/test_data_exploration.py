from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_data import write_case, write_cases, write_volume

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.explore.data_exploration import (
    BINS,
    Exploration,
    RunningHistogram,
    RunningStatistics,
    case_rows,
    class_rows,
    explore,
)


def explore_folder(root: Path, **settings: Any) -> Exploration:
    return explore(Data_IO(NIFTI_interface(**{"channels": 1, "classes": 3, **settings}), root))


def compare_with_simpleitk(case: Any, folder: Path, classes: int) -> None:
    image = sitk.ReadImage(str(folder / "imaging.nii.gz"), sitk.sitkFloat64)
    labels = sitk.Cast(sitk.ReadImage(str(folder / "segmentation.nii.gz")), sitk.sitkUInt8)
    labels.CopyInformation(image)
    theirs = sitk.LabelStatisticsImageFilter()
    theirs.Execute(image, labels)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.SetBackgroundValue(-1)
    shapes.Execute(labels)
    for facts in case.classes:
        if not theirs.HasLabel(facts.label):
            assert facts.voxels == 0
            continue
        ours, count = facts.intensities[0], theirs.GetCount(facts.label)
        assert facts.voxels == ours.count == count
        assert ours.lowest == theirs.GetMinimum(facts.label)
        assert ours.highest == theirs.GetMaximum(facts.label)
        assert ours.mean == pytest.approx(theirs.GetMean(facts.label), rel=1e-9)
        # Theirs has n - 1 in the denominator.
        assert ours.deviation**2 == pytest.approx(theirs.GetVariance(facts.label) * (count - 1) / count, rel=1e-6)
        assert facts.size == pytest.approx(shapes.GetPhysicalSize(facts.label) / 1000, rel=1e-5)


def test_statistics_are_simpleitks(tmp_path: Path) -> None:
    folders = write_cases(tmp_path, 3)
    image = np.random.default_rng(9).normal(-500, 300, (12, 10, 6)).astype(np.float32)
    write_volume(folders[1] / "imaging.nii.gz", image)
    write_case(folders[2], 2, shape=(14, 9, 7))
    found = explore_folder(tmp_path, classes=4)
    assert [case.index for case in found.cases] == ["case_0", "case_1", "case_2"]
    for case, folder in zip(found.cases, folders, strict=True):
        compare_with_simpleitk(case, folder, 4)
    # Over all cases together: numpy on all voxels at once.
    images = [np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(one / "imaging.nii.gz")))) for one in folders]
    labels = [np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(one / "segmentation.nii.gz")))) for one in folders]
    for label in range(3):
        values = np.concatenate([i[m == label] for i, m in zip(images, labels, strict=True)]).astype(np.float64)
        ours = found.class_intensities[label][0]
        assert (ours.count, ours.lowest, ours.highest) == (len(values), values.min(), values.max())
        assert ours.mean == pytest.approx(values.mean(), rel=1e-9)
        assert ours.deviation == pytest.approx(values.std(), rel=1e-9)
    everything = np.concatenate([one.ravel() for one in images]).astype(np.float64)
    assert found.intensities[0].count == everything.size
    assert found.intensities[0].mean == pytest.approx(everything.mean(), rel=1e-9)


def test_real_scans_have_simpleitks_statistics(hippocampus: Path) -> None:
    found = explore_folder(hippocampus / "cases", pattern="hippocampus_0[0-3].")
    assert len(found.cases) >= 3
    for case in found.cases:
        compare_with_simpleitk(case, hippocampus / "cases" / str(case.index), 3)


def test_structure_and_memory(tmp_path: Path) -> None:
    folders = write_cases(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("x")
    found = explore_folder(tmp_path)
    assert found.folders == 3
    assert dict(found.endings) == {".nii.gz": 6, ".txt": 1}
    for case, folder in zip(found.cases, folders, strict=True):
        assert case.shape == (12, 10, 6)
        assert case.spacing == pytest.approx((0.8, 0.8, 2.5))
        assert case.dtype == "int16"
        assert case.files == ("imaging.nii.gz", "segmentation.nii.gz")
        assert case.disk_bytes == sum(path.stat().st_size for path in folder.iterdir())
        assert case.memory_bytes == 720 * (2 + 1)
        assert sum(facts.share for facts in case.classes or ()) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_channels_types_and_orders(dtype: type, order: Any, rng: np.random.Generator) -> None:
    image = np.asarray(rng.integers(0, 200, (5, 6, 7, 2)).astype(dtype), order=order)
    if dtype is np.int32:
        image[0, 0, 0, 0] = 2**30  # too many numbers for a table
    labels = np.asarray(rng.integers(0, 3, (5, 6, 7)), order=order)
    found = explore(Data_IO(Dictionary_interface({"a": (image, labels)}, channels=2, classes=3), ""))
    for label in range(3):
        for channel in range(2):
            values = image[..., channel][labels == label].astype(np.float64)
            ours = found.class_intensities[label][channel]
            assert (ours.count, ours.lowest, ours.highest) == (values.size, values.min(), values.max())
            assert ours.mean == pytest.approx(values.mean())
            assert ours.deviation == pytest.approx(values.std())
    assert found.cases[0].classes is not None
    assert found.cases[0].classes[1].size is None  # nobody knows the voxel size
    assert found.cases[0].disk_bytes is None


def test_two_dimensions_are_areas() -> None:
    data = {"a": (np.ones((4, 5)), np.ones((4, 5), int), None, {"spacing": (0.5, 2.0)})}
    found = explore(Data_IO(Dictionary_interface(data, three_dim=False), ""))
    assert found.size_unit == "mm²"
    assert found.cases[0].classes is not None
    assert found.cases[0].classes[1].size == 20
    (row,) = [row for row in class_rows(found) if row["class"] == 1]
    assert row["area_mm2"] == 20


def test_each_sample_is_read_once_and_histograms_are_not_kept(toy_io: Any) -> None:
    data_io = toy_io(cases=4)
    found = explore(data_io)
    assert data_io.interface.loads == ["case_0", "case_1", "case_2", "case_3"]
    for case in found.cases:
        for facts in case.classes or ():
            assert all(len(statistics.histogram.counts) == 0 for statistics in facts.intensities)
    assert found.intensities[0].histogram.counts.sum() == 4 * 20 * 22 * 18


def test_samples_without_label_map_and_bad_ones(tmp_path: Path) -> None:
    folders = write_cases(tmp_path, 4)
    (folders[1] / "segmentation.nii.gz").unlink()
    (folders[2] / "imaging.nii.gz").write_bytes(b"no image")
    found = explore_folder(tmp_path)
    assert [case.index for case in found.cases] == ["case_0", "case_1", "case_3"]
    assert [case.index for case in found.labelled] == ["case_0", "case_3"]
    assert [index for index, _ in found.unreadable] == ["case_2"]
    rows = list(case_rows(found))
    assert [row["label_map"] for row in rows] == [True, False, True]
    assert len(list(class_rows(found))) == 2 * 3


def test_nan_is_counted_and_left_out(tmp_path: Path) -> None:
    (folder,) = write_cases(tmp_path, 1)
    image = np.ones((12, 10, 6), np.float32)
    image[0, 0] = np.nan
    write_volume(folder / "imaging.nii.gz", image)
    with pytest.warns(UserWarning, match="NaN"):
        found = explore_folder(tmp_path)
    assert found.intensities[0].not_finite == 6
    assert found.intensities[0].mean == 1
    assert next(case_rows(found))["not_finite"] == 6


WHOLE = arrays.arrays(np.int32, st.integers(0, 50), elements=st.integers(-(2**31), 2**31 - 1))
REAL = arrays.arrays(
    np.float32, st.integers(0, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(WHOLE, REAL), max_size=5))
def test_no_count_is_lost_and_each_is_in_its_bin(pieces: list[np.ndarray]) -> None:
    histogram = RunningHistogram()
    for piece in pieces:
        histogram.add(piece)
    assert len(histogram.counts) <= BINS
    values = np.concatenate([piece.astype(np.float64) for piece in pieces]) if pieces else np.zeros(0)
    assert histogram.counts.sum() == len(values)
    for low, high, count in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        if count:
            assert np.count_nonzero((values >= low) & (values < high)) == count


@settings(max_examples=60, deadline=None)
@given(st.one_of(WHOLE, REAL), st.one_of(WHOLE, REAL))
def test_merging_is_adding(first: np.ndarray, second: np.ndarray) -> None:
    one, other, both = RunningStatistics(), RunningStatistics(), RunningStatistics()
    one.add(first)
    other.add(second)
    one.merge(other)
    both.add(first)
    both.add(second)
    assert (one.count, one.lowest, one.highest) == (both.count, both.lowest, both.highest)
    values = np.concatenate([first.astype(np.float64), second.astype(np.float64)])
    assert one.histogram.counts.sum() == len(values)
    for low, high, count in zip(one.histogram.edges[:-1], one.histogram.edges[1:], one.histogram.counts, strict=True):
        if count:
            assert np.count_nonzero((values >= low) & (values < high)) == count
    if len(values):
        scale = float(np.abs(values).max()) or 1
        assert one.mean == pytest.approx(values.mean(), abs=1e-9 * scale)
        assert one.deviation == pytest.approx(values.std(), abs=1e-6 * scale)


def test_statistics_are_numpys_also_far_from_zero(rng: np.random.Generator) -> None:
    pieces = [rng.normal(1e6, 2.5, 300_000) for _ in range(3)]
    statistics = RunningStatistics()
    for piece in pieces:
        statistics.add(piece)
    values = np.concatenate(pieces)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-12)
    assert statistics.deviation == pytest.approx(values.std(), rel=1e-9)
    assert (statistics.lowest, statistics.highest) == (values.min(), values.max())
    for share in (0.005, 0.5, 0.995):
        assert statistics.histogram.quantile(share) == pytest.approx(np.quantile(values, share), abs=0.01)


def test_counts_of_whole_numbers_are_those_numbers(rng: np.random.Generator) -> None:
    values = rng.integers(-1024, 3000, 5000)
    one, other = RunningStatistics(), RunningStatistics()
    one.add(values)
    other.add_counts(-1100, np.bincount(values + 1100, minlength=5000))
    assert (one.count, one.lowest, one.highest) == (other.count, other.lowest, other.highest)
    assert one.mean == pytest.approx(other.mean, rel=1e-12)
    assert one.deviation == pytest.approx(other.deviation, rel=1e-12)
    for share in (0.001, 0.25, 0.5, 0.9):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert one.histogram.quantile(share) == other.histogram.quantile(share) == expected


def test_nan_and_infinity_are_counted_apart() -> None:
    statistics = RunningStatistics()
    statistics.add(np.array([1, np.nan, np.inf, 3, -np.inf], np.float32))
    assert (statistics.count, statistics.not_finite, statistics.mean) == (2, 3, 2.0)


def test_nothing_is_nan() -> None:
    statistics = RunningStatistics()
    statistics.add(np.zeros(0))
    statistics.add_counts(5, np.zeros(3, np.int64))
    statistics.merge(RunningStatistics())
    assert statistics.count == 0
    assert math.isnan(statistics.mean)
    assert math.isnan(statistics.deviation)
    assert math.isnan(statistics.histogram.quantile(0.5))


@pytest.mark.parametrize("value", [0.0, 5.0, -3.25, 1e30])
def test_a_single_value(value: float) -> None:
    statistics = RunningStatistics()
    statistics.add(np.full(10, value, np.float32))
    assert statistics.histogram.quantile(0.5) == pytest.approx(value, rel=1e-5, abs=1e-5)
    assert statistics.deviation == 0


def test_shares_of_wider_bins(rng: np.random.Generator) -> None:
    histogram = RunningHistogram()
    values = rng.integers(0, 100, 1000)
    histogram.add(values)
    edges = np.arange(0, 101, 10.0)
    np.testing.assert_allclose(histogram.shares(edges), np.histogram(values, bins=edges)[0] / 1000)
