"""One rule of what a whole number is: labels are checked, counted, scanned and scored by it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from miscnn_tf import Data_IO, Preprocessor
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.label_scan import count_values
from miscnn_tf.data_loading.labels import check_labels, count_voxels, whole_labels
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.dice import compute_dice
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.processing.preparation import complete

TRUTH = np.array([[0, 1, 1], [2, 2, 0]])
ROUNDED = [0.99999994, 1.00003, 1.0009, 0.9991]
FRACTIONS = [(0.99, "0.99"), (1.0011, "1.0011"), (0.5, "0.5"), (1.25, "1.25"), (np.nan, "nan"), (np.inf, "inf")]


def with_value(value: float, dtype: Any = np.float64) -> np.ndarray:
    labels = TRUTH.astype(dtype)
    labels[0, 1] = value
    return labels


def through_sample(labels: np.ndarray) -> list[list[int]]:
    sample = Sample("case_7", np.zeros(labels.shape), 1, 3, three_dim=False)
    sample.add_segmentation(labels)
    assert sample.seg_data is not None
    assert sample.seg_data.dtype == np.uint8
    return sample.seg_data[..., 0].tolist()


USES: dict[str, tuple[Callable[[np.ndarray], Any], Any]] = {
    "check_labels": (lambda labels: check_labels(labels, 3, "x").tolist(), TRUTH.tolist()),
    "label_map": (lambda labels: check_labels(labels, 5, "x", {2: 4}).tolist(), [[0, 1, 1], [4, 4, 0]]),
    "count_voxels": (lambda labels: count_voxels(labels, 3), [2, 2, 2]),
    "count_values": (count_values, {0: 2, 1: 2, 2: 2}),
    "Sample.add_segmentation": (through_sample, TRUTH.tolist()),
    "compute_dice": (lambda labels: compute_dice(TRUTH, labels, 3), [1, 1, 1]),
    "score_label_maps": (lambda labels: [row.get("hd95_pixels") for row in score_label_maps(labels, TRUTH, 3)],
                         [None, 0, 0]),
}  # fmt: skip
every_use = pytest.mark.parametrize("use", list(USES))


@every_use
@pytest.mark.parametrize("value", ROUNDED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.longdouble])
def test_label_within_a_thousandth_of_a_whole_number_is_rounding(use: str, value: float, dtype: Any) -> None:
    function, expected = USES[use]
    assert function(with_value(value, dtype)) == expected


@every_use
@pytest.mark.parametrize(("value", "text"), FRACTIONS)
def test_label_that_is_not_whole_is_refused_and_printed(use: str, value: float, text: str) -> None:
    with pytest.raises(DataError, match=rf"holds (the label )?{text}\b"):
        USES[use][0](with_value(value))


@pytest.mark.parametrize("function", [lambda labels: check_labels(labels, 3, "x"), count_values])
def test_a_message_has_enough_digits_to_tell_the_value_from_a_whole_number(function: Callable) -> None:
    with pytest.raises(DataError, match=r"holds 0\.9989, 1\.0010001\b"):
        function(np.array([0, 0.9989, 1.0010001], np.float64))


def test_float64_label_array_of_get_fdata_added_to_a_sample(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(TRUTH.astype(np.uint8), np.eye(4)), tmp_path / "a.nii")
    labels = nibabel.load(tmp_path / "a.nii").get_fdata()
    assert labels.dtype == np.float64
    sample = Sample("case_7", np.zeros((2, 3)), 1, 3, three_dim=False)
    sample.add_segmentation(labels)
    complete(sample)
    assert sample.details["voxels"] == [2, 2, 2]


def test_float64_labels_set_as_an_attribute_are_counted_too() -> None:
    sample = Sample("case_7", np.zeros((2, 3)), 1, 3, three_dim=False)
    sample.seg_data = TRUTH.astype(np.float64)[..., np.newaxis]
    complete(sample)
    assert sample.details["voxels"] == [2, 2, 2]
    assert len(sample.details["locations"]) == 4
    assert sample.seg_data.dtype == np.uint8


def test_fractions_added_to_a_sample_are_refused_with_its_name() -> None:
    with pytest.raises(DataError, match=r"sample 'case_7': segmentation: the label map holds 0\.4 \(1 voxels\)"):
        through_sample(with_value(0.4))


@pytest.mark.parametrize("persistent", [False, True])
def test_float64_labels_of_a_users_own_interface_are_prepared(tmp_path: Path, persistent: bool) -> None:
    class Own(Dictionary_interface):
        def load_segmentation(self, index: Any) -> np.ndarray:
            return super().load_segmentation(index).astype(np.float64)

    labels = np.zeros((8, 8), np.uint8)
    labels[2:5] = 1
    interface = Own({"a": (np.zeros((8, 8)), labels)}, three_dim=False)
    data_io = Data_IO(interface, "", batch_path=str(tmp_path))
    preprocessor = Preprocessor(
        data_io, data_aug=None, batch_size=1, analysis="fullimage", prepare_subfunctions=persistent
    )
    ((_, segmentation),) = preprocessor.run(["a"], training=True)
    np.testing.assert_array_equal(segmentation[0].argmax(-1), labels)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.int32, np.bool_])
def test_wide_integers_are_counted(dtype: Any) -> None:
    labels = (TRUTH > 0).astype(dtype)
    assert count_voxels(labels, 2) == [2, 4]


def test_a_large_label_makes_no_large_table() -> None:
    assert count_voxels(np.array([[0, 2**40]]), 2) == [1, 0]


def test_negative_labels_are_not_counted_but_reported() -> None:
    with pytest.raises(DataError, match="holds -1"):
        count_voxels(np.array([[0, -1]]), 2)


@pytest.mark.parametrize("order", ["C", "F"])
def test_any_layout_of_memory_and_number_of_axes(order: str, rng: np.random.Generator) -> None:
    labels = np.asarray(rng.integers(0, 300, (30, 20, 10)).astype(np.float32), order=order)  # type: ignore[call-overload]
    for view in (labels, labels[::2, 1:], labels[..., 0], labels.transpose(1, 2, 0), labels[0, 0], labels[0, 0, 0]):
        whole = whole_labels(np.asarray(view), "x")
        assert whole.dtype == (np.int32 if view.max() > 255 else np.uint8)
        np.testing.assert_array_equal(whole, view)
    assert whole_labels(labels, "x").flags.f_contiguous == labels.flags.f_contiguous


def test_rounding_makes_no_copy_of_the_whole_volume() -> None:
    labels = np.zeros((256, 256, 256), np.float32)
    tracemalloc.start()
    whole_labels(labels, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < labels.nbytes / 4 + 2**25


def test_evaluate_scores_rounded_label_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((6, 6, 6), np.float32)
    labels[2:4] = 1
    for folder, value in (("truth", 1), ("predictions", 0.99999994)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(labels * np.float32(value), np.eye(4)), tmp_path / folder / "a.nii.gz")
    assert (
        cli.main(["evaluate", str(tmp_path / "predictions"), str(tmp_path / "truth"), "-o", str(tmp_path / "out")]) == 0
    )
    row = (tmp_path / "out" / "scores.csv").read_text().splitlines()[2].split(",")
    assert "1.0" in row
