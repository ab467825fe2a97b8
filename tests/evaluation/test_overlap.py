import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.evaluation.dice import class_counts, compute_dice
from miscnn_tf.evaluation.overlap import Overlap, overlaps


def test_against_simpleitk(rng):
    truth = rng.integers(0, 4, (17, 18, 19)).astype(np.uint8)
    pred = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    # SimpleITK divides the errors by the "target", its second image.
    measure.Execute(SimpleITK.GetImageFromArray(pred), SimpleITK.GetImageFromArray(truth))
    found = overlaps(class_counts(truth, pred, 4))
    for label in (1, 2, 3):
        assert found[label].dice == pytest.approx(measure.GetDiceCoefficient(label), rel=1e-12)
        assert found[label].iou == pytest.approx(measure.GetJaccardCoefficient(label), rel=1e-12)
        assert found[label].sensitivity == pytest.approx(1 - measure.GetFalseNegativeError(label), rel=1e-12)
        assert found[label].precision == pytest.approx(1 - measure.GetFalseDiscoveryRate(label), rel=1e-12)
        assert found[label].specificity == pytest.approx(1 - measure.GetFalsePositiveError(label), rel=1e-12)


@given(st.lists(st.integers(0, 9), min_size=9, max_size=9))
def test_the_four_counts_are_the_whole_and_dice_is_compute_dice(numbers):
    counts = np.array(numbers).reshape(3, 3)
    truth = np.repeat([0, 0, 0, 1, 1, 1, 2, 2, 2], numbers)
    pred = np.repeat([0, 1, 2] * 3, numbers)
    for number, (overlap, dice) in enumerate(zip(overlaps(counts), compute_dice(truth, pred, 3), strict=True)):
        t, p = truth == number, pred == number
        assert overlap == Overlap(int((t & p).sum()), int((~t & p).sum()), int((t & ~p).sum()), int((~t & ~p).sum()))
        np.testing.assert_equal(overlap.dice, dice)
        assert (overlap.truth, overlap.pred) == (t.sum(), p.sum())
        if not math.isnan(dice):
            assert overlap.iou == pytest.approx(dice / (2 - dice))


def test_nothing_to_measure_is_nan():
    absent = Overlap(0, 0, 0, 10)
    assert all(math.isnan(score) for score in (absent.dice, absent.iou, absent.sensitivity, absent.precision))
    assert absent.specificity == 1
    missed = Overlap(0, 0, 4, 6)
    assert (missed.dice, missed.iou, missed.sensitivity, missed.specificity) == (0, 0, 0, 1)
    assert math.isnan(missed.precision)
    invented = Overlap(0, 4, 0, 6)
    assert (invented.dice, invented.iou, invented.precision, invented.specificity) == (0, 0, 0, 0.6)
    assert math.isnan(invented.sensitivity)
    assert math.isnan(Overlap(5, 0, 0, 0).specificity)
