import math
import tracemalloc

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation import dice
from miscnn_tf.evaluation.dice import class_counts, compute_dice, mean_dice

shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=9)


def float64_dice(truth: np.ndarray, pred: np.ndarray, classes: int) -> list[float]:
    """Written from the definition, one class after the other."""
    scores = []
    for number in range(classes):
        t, p = (truth == number).astype(np.float64), (pred == number).astype(np.float64)
        total = t.sum() + p.sum()
        scores.append(2 * (t * p).sum() / total if total else math.nan)
    return scores


@st.composite
def pairs(draw):
    classes = draw(st.integers(1, 6))
    shape = draw(shapes)
    labels = st.integers(0, classes - 1)
    maps = []
    for _ in range(2):
        dtype = draw(st.sampled_from([np.uint8, np.int16, np.int64, np.uint16, np.float32]))
        array = draw(hnp.arrays(np.uint8, shape, elements=labels)).astype(dtype)
        maps.append(np.asfortranarray(array) if draw(st.booleans()) else array)
    return maps[0], maps[1], classes


@given(pairs())
def test_against_the_definition_in_float64(pair):
    np.testing.assert_allclose(compute_dice(*pair), float64_dice(*pair), rtol=1e-15)


@given(pairs())
def test_properties(pair):
    truth, pred, classes = pair
    np.testing.assert_array_equal(compute_dice(truth, pred, classes), compute_dice(pred, truth, classes))
    assert all(math.isnan(score) or score == 1 for score in compute_dice(truth, truth, classes))
    assert all(math.isnan(score) or 0 <= score <= 1 for score in compute_dice(truth, pred, classes))
    assert class_counts(truth, pred, classes).sum() == truth.size


def test_against_simpleitk(rng):
    truth = rng.integers(0, 4, (17, 18, 19)).astype(np.uint8)
    pred = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(SimpleITK.GetImageFromArray(truth), SimpleITK.GetImageFromArray(pred))
    scores = compute_dice(truth, pred, 4)
    # SimpleITK takes 0 for "no label".
    for label in (1, 2, 3):
        assert scores[label] == pytest.approx(overlap.GetDiceCoefficient(label), rel=1e-12)


@pytest.mark.parametrize("slab", [1, 7, 100, 10**9])
def test_does_not_depend_on_the_size_of_the_slabs(rng, monkeypatch, slab):
    truth, pred = rng.integers(0, 3, (2, 11, 12, 13))
    expected = float64_dice(truth, pred, 3)
    monkeypatch.setattr(dice, "_SLAB_VOXELS", slab)
    for t, p in ((truth, pred), (np.asfortranarray(truth), pred), (truth[::-1], pred[::-1]), (truth.T, pred.T)):
        np.testing.assert_allclose(compute_dice(t, p, 3), expected, rtol=1e-15)


def test_class_absent_from_both_is_nan_and_from_one_is_zero():
    truth = np.array([[0, 0], [1, 1]])
    pred = np.array([[0, 0], [3, 3]])
    scores = compute_dice(truth, pred, 4)
    assert scores[:2] == [1.0, 0.0]
    assert math.isnan(scores[2])
    assert scores[3] == 0.0
    assert all(type(score) is float for score in scores)


def test_absent_class_is_left_out_of_the_mean():
    means = mean_dice([[1.0, 0.5, math.nan], [0.5, math.nan, math.nan], [0.0, 0.0, math.nan]])
    assert means[:2] == [0.5, 0.25]
    assert math.isnan(means[2])
    assert mean_dice([]) == []


def test_channel_axis_of_a_sample_is_ignored():
    truth = np.array([[0, 1], [1, 1]])
    assert compute_dice(truth[..., np.newaxis], truth, 2) == [1.0, 1.0]
    assert compute_dice(truth, truth[..., np.newaxis], 2) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("truth", "pred", "message"),
    [
        (np.zeros((4, 5)), np.zeros((5, 4)), r"\(4, 5\).*\(5, 4\)"),
        (np.zeros((4, 5, 6)), np.zeros((4, 5, 6, 3)), "one grid"),
        (np.array([0, 3]), np.array([0, 0]), "truth holds the label 3"),
        (np.array([0, 0]), np.array([0, -1]), "pred holds the label -1"),
        (np.array([0, 0.5]), np.array([0, 0]), r"truth holds the label 0\.5"),
        (np.array([0, np.nan]), np.array([0, 0]), "truth holds the label nan"),
        (np.array([0, 0]), np.array([np.inf, 0]), "pred holds the label inf"),
        (np.array(["a"]), np.array(["a"]), "type"),
    ],
)
def test_what_is_no_label_map_is_refused(truth, pred, message):
    with pytest.raises(DataError, match=message):
        compute_dice(truth, pred, 3)


@pytest.mark.parametrize("classes", [0, -1, 2.5, None, True])
def test_number_of_classes_is_checked(classes):
    with pytest.raises(ConfigurationError, match="classes"):
        compute_dice(np.zeros(3, int), np.zeros(3, int), classes)


def test_empty_label_maps_have_no_dice():
    assert all(math.isnan(score) for score in compute_dice(np.zeros((0, 3), int), np.zeros((0, 3), int), 2))


def test_memory_stays_small(rng):
    truth = rng.integers(0, 3, (128, 128, 128)).astype(np.uint8)
    pred = np.asfortranarray(truth)
    tracemalloc.start()
    compute_dice(truth, pred, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One-hot in float32 would be 24 bytes per voxel and array; slabs are 2.1 million voxels / 8.
    assert peak < 4 * truth.size
