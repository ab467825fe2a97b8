import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation.dice import compute_dice
from miscnn_tf.evaluation.scores import score_by_scheme, score_label_maps
from miscnn_tf.runs.score_table import DEFINITIONS


def boxes(shape=(20, 22, 24), shift=2):
    """Class 1 moved along the first axis, class 2 the same in both."""
    truth, pred = np.zeros((2, *shape), np.uint8)
    inner = (slice(6, 12),) * (len(shape) - 1)
    truth[(slice(2, 12), *inner)] = pred[(slice(2 + shift, 12 + shift), *inner)] = 1
    truth[(slice(2, 5), *(slice(14, 18),) * (len(shape) - 1))] = 2
    pred[truth == 2] = 2
    return truth, pred


def test_volume_in_closed_form():
    truth, pred = boxes()
    rows = score_label_maps(truth, pred, 3, (0.5, 2.0, 3.0), tolerance_mm=1)
    assert list(rows[1]) == [
        "class", "dice", "iou", "sensitivity", "specificity", "precision", "volume_truth_ml", "volume_prediction_ml",
        "volume_difference_ml", "hd95_mm", "assd_mm", "nsd_1mm",
    ]  # fmt: skip
    assert [row["class"] for row in rows] == [0, 1, 2]
    row = rows[1]
    assert row["dice"] == pytest.approx(0.8)
    assert row["iou"] == pytest.approx(8 / 12)
    assert row["sensitivity"] == row["precision"] == pytest.approx(0.8)
    assert row["specificity"] == pytest.approx(1 - 72 / (truth.size - 360))
    assert row["volume_truth_ml"] == pytest.approx(360 * 3 / 1000)
    assert row["volume_difference_ml"] == 0
    assert row["hd95_mm"] == pytest.approx(1)
    assert row["nsd_1mm"] == 1
    assert 0 < row["assd_mm"] < 1
    assert (rows[2]["dice"], rows[2]["hd95_mm"], rows[2]["assd_mm"], rows[2]["nsd_1mm"]) == (1, 0, 0, 1)


def test_difference_of_volumes_is_prediction_minus_truth():
    truth, pred = boxes(shift=0)
    pred[truth == 2] = 0
    row = score_label_maps(truth, pred, 3, (1, 1, 1))[2]
    assert row["volume_prediction_ml"] == 0
    assert row["volume_difference_ml"] == pytest.approx(-48 / 1000)


def test_image_with_spacing_is_measured_in_mm():
    truth, pred = boxes((20, 22))
    row = score_label_maps(truth, pred, 3, (2.0, 0.5), tolerance_mm=1.5)[1]
    assert row["area_truth_mm2"] == pytest.approx(60)
    assert row["hd95_mm"] == pytest.approx(4)
    assert row["nsd_1.5mm"] < 1
    assert not any("ml" in name for name in row)


@pytest.mark.parametrize(("shape", "unit", "kind"), [((20, 22), "pixels", "area"), ((20, 22, 24), "voxels", "volume")])
def test_lengths_without_spacing_are_called_what_they_are(shape, unit, kind):
    truth, pred = boxes(shape)
    row = score_label_maps(truth, pred, 3)[1]
    assert row[f"hd95_{unit}"] == pytest.approx(2)
    assert row[f"{kind}_truth_{unit}"] == (truth == 1).sum()
    assert f"nsd_1{unit}" in row
    assert not any("m" in name.rpartition("_")[2] for name in row if name.startswith(("hd95", "assd", "nsd", kind)))


def test_the_background_has_no_surface_of_its_own():
    row = score_label_maps(*boxes(), 3, (1, 1, 1))[0]
    assert "dice" in row
    assert not any(name.startswith(("hd95", "assd", "nsd")) for name in row)


def test_empty_masks_follow_the_stated_rule():
    """users.md: NaN on empty masks, competing definitions."""
    truth, pred = np.zeros((2, 6, 6, 6), np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    pred[1:3, 1:3, 1:3] = 2
    rows = score_label_maps(truth, pred, 4, (1, 1, 1))
    for row in rows[1:3]:
        assert (row["dice"], row["iou"], row["nsd_1mm"]) == (0, 0, 0)
        assert row["hd95_mm"] == row["assd_mm"] == math.inf
    absent = rows[3]
    undefined = {name for name, value in absent.items() if math.isnan(value)}
    assert undefined == {"dice", "iou", "sensitivity", "precision", "hd95_mm", "assd_mm", "nsd_1mm"}
    # Each figure that can be missing says when.
    for name in ("dice", "iou", "sensitivity", "specificity", "precision", "hd95", "assd", "nsd"):
        assert "NaN" in DEFINITIONS[name]
    assert "infinite" in DEFINITIONS["hd95"]
    assert "infinite" in DEFINITIONS["assd"]


pairs = hnp.array_shapes(min_dims=2, max_dims=3, max_side=7).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, 3))] * 2)
)


@settings(deadline=None)
@given(pairs, st.sampled_from([np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64]))
def test_dice_is_compute_dice_and_scores_are_in_their_range(pair, dtype):
    truth, pred = pair
    rows = score_label_maps(truth.astype(dtype), np.asfortranarray(pred), 4)
    np.testing.assert_array_equal([row["dice"] for row in rows], compute_dice(truth, pred, 4))
    np.testing.assert_equal(rows, score_label_maps(truth, pred, 4))
    for row in rows:
        for name in ("dice", "iou", "sensitivity", "specificity", "precision"):
            assert math.isnan(row[name]) or 0 <= row[name] <= 1
    assert all(type(value) in (int, float) for row in rows for value in row.values())


def test_a_channel_axis_is_no_axis():
    truth, pred = boxes((20, 22))
    expected = score_label_maps(truth, pred, 3, (1, 2))
    np.testing.assert_equal(score_label_maps(truth[..., None], pred, 3, (1, 2)), expected)
    np.testing.assert_equal(score_label_maps(truth[..., None], pred[..., None], 3, (1, 2)), expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"spacing": (1, 1)}, ConfigurationError, "2 lengths.*3 axes"),
        ({"spacing": (1, 1, 0)}, ConfigurationError, "positive"),
        ({"tolerance_mm": -1}, ConfigurationError, "tolerance_mm=-1"),
        ({"tolerance_mm": math.inf}, ConfigurationError, "tolerance_mm=inf"),
        ({"tolerance_mm": "2 mm"}, ConfigurationError, "tolerance_mm"),
        ({"classes": 2}, DataError, "label 2"),
        ({"pred": np.zeros((4, 4, 4))}, DataError, "one grid"),
        ({"truth": np.zeros((2, 3, 4, 5)), "pred": np.zeros((2, 3, 4, 5))}, DataError, "2D or 3D"),
    ],
)
def test_what_cannot_be_scored_is_refused(changes, error, message):
    truth, pred = boxes()
    with pytest.raises(error, match=message):
        score_label_maps(**{"truth": truth, "pred": pred, "classes": 3, "spacing": (1, 1, 1), **changes})


@pytest.mark.slow
def test_a_large_ct_takes_seconds():
    truth = np.zeros((512, 512, 600), np.uint8, order="F")
    truth[60:450, 80:430, 20:580] = 1
    truth[100:200, 150:250, 200:300] = 2
    truth[300:400, 150:250, 200:300] = 3
    pred = np.roll(truth, 2, 0)
    begin = time.perf_counter()
    rows = score_label_maps(truth, pred, 4, (0.8, 0.8, 1.0))
    assert time.perf_counter() - begin < 60  # 5 s on an idle machine
    assert [row["hd95_mm"] for row in rows[1:]] == pytest.approx([1.6] * 3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int64, np.float32]))
def test_ignored_voxels_are_not_counted(seed, dtype):
    generator = np.random.default_rng(seed)
    truth, pred = generator.integers(0, 3, (2, 5, 6, 4)).astype(dtype)
    ignored = generator.random(truth.shape) < 0.3
    rows = score_label_maps(truth, pred, 3, ignored=ignored)
    # The same as of the other voxels alone, in a row.
    flat = score_label_maps(truth[~ignored][np.newaxis], pred[~ignored][np.newaxis], 3)
    for row, wanted in zip(rows, flat, strict=True):
        for name in ("dice", "iou", "sensitivity", "specificity", "precision"):
            assert row[name] == pytest.approx(wanted[name], nan_ok=True)
        assert row["volume_truth_voxels"] == wanted["area_truth_pixels"]
    again = score_label_maps(truth, np.where(ignored, 2 - pred, pred).astype(dtype), 3, ignored=ignored)
    assert str(again) == str(rows)  # what is predicted there changes nothing, surfaces included


def test_a_class_number_more_does_not_wrap_around():
    truth = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rows = score_label_maps(truth, truth, 256, ignored=truth == 255)
    assert rows[0]["area_truth_pixels"] == 1
    assert math.isnan(rows[255]["dice"])


def test_bad_labels_and_masks_are_refused_with_ignored_voxels():
    truth = np.zeros((4, 4), np.uint8)
    with pytest.raises(DataError, match=r"ignored has the shape \(3, 4\)"):
        score_label_maps(truth, truth, 2, ignored=np.ones((3, 4), bool))
    with pytest.raises(DataError, match="label 2"):
        score_label_maps(truth + 2, truth, 2, ignored=np.eye(4, dtype=bool))
    with pytest.raises(DataError, match="label 2"):
        score_label_maps(truth + 2, truth + 2, 2, ignored=np.eye(4, dtype=bool))
    with pytest.raises(DataError, match=r"label 0\.5"):
        score_label_maps(truth + np.float32(0.5), truth, 2, ignored=np.eye(4, dtype=bool))


# ---------------------------------------------------------------- regions and voxels without annotation

REGIONS = LabelScheme(4, has_ignored=True, regions=(Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2)))


def test_regions_are_scored_as_unions_where_the_truth_is_annotated():
    rng = np.random.default_rng(0)
    truth, pred = rng.integers(0, 5, (9, 8, 7)), rng.integers(0, 4, (9, 8, 7))
    rows = score_by_scheme(truth, pred, REGIONS, (1.0, 2.0, 3.0))
    assert [row["class"] for row in rows] == [0, 1, 2]
    for row, members in zip(rows, ([0], [1, 2, 3], [2, 3]), strict=True):
        one, other = (np.isin(array, members)[truth != 4] for array in (truth, pred))
        assert row["dice"] == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-12)
        assert row["volume_truth_ml"] == pytest.approx(one.sum() * 0.006)


def test_without_regions_and_ignored_voxels_the_scores_are_those_of_the_classes():
    rng = np.random.default_rng(0)
    truth, pred = rng.integers(0, 3, (2, 9, 8, 7))
    assert score_by_scheme(truth, pred, LabelScheme(3)) == score_label_maps(truth, pred, 3)


def test_ignored_masks_are_added_to_voxels_without_annotation():
    truth, pred = np.array([[1, 2, 0, 1]]), np.array([[1, 1, 1, 0]])
    ignored = np.array([[False, False, True, False]])
    rows = score_by_scheme(truth, pred, LabelScheme(2, has_ignored=True), ignored=ignored)
    assert rows[1]["dice"] == pytest.approx(2 / 3)


def test_other_labels_are_an_error_with_regions():
    with pytest.raises(DataError, match="holds the label 7"):
        score_by_scheme(np.array([[7]]), np.array([[0]]), REGIONS)
