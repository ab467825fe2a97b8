import sys

import numpy as np
import pytest
import SimpleITK

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.multi_model.aggregation import Majority
from miscnn_tf.multi_model.staple import Staple


def sample(shape, classes):
    return Sample("a", np.zeros(shape, np.float32), channels=1, classes=classes, three_dim=len(shape) == 3)


def raters(rng, truth, classes, error_rates):
    """Label maps that are wrong in this share of the voxels."""
    for rate in error_rates:
        wrong = rng.random(truth.shape) < rate
        yield np.where(wrong, (truth + rng.integers(1, classes, truth.shape)) % classes, truth).astype(np.uint8)


def test_two_classes_agree_with_the_binary_staple_of_simpleitk(rng):
    truth = np.zeros((12, 14, 10), np.uint8)
    truth[2:10, 3:11, 2:8] = 1
    members = list(raters(rng, truth, 2, (0.05, 0.1, 0.3)))
    images = [SimpleITK.GetImageFromArray(member) for member in members]
    binary = SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images, 1.0))
    found = Staple()(sample(truth.shape, 2), members)
    assert found.dtype == np.uint8
    clear = np.abs(binary - 0.5) > 0.2
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], binary[clear] > 0.5)


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 15)])
def test_reliable_members_count_more_than_in_a_vote(rng, shape):
    truth = rng.integers(0, 3, shape).astype(np.uint8)
    # Four guess, one knows.
    members = list(raters(rng, truth, 3, (0.6, 0.6, 0.6, 0.6, 0.02)))
    found = Staple()(sample(shape, 3), members)
    assert found.max() <= 2  # undecided voxels have got a label
    voted = Majority()(sample(shape, 3), members)
    assert np.mean(found == truth) > 0.9 > 0.7 > np.mean(voted == truth)


def test_members_that_agree_are_believed():
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    found = Staple()(sample((2, 2), 3), [labels, labels.copy()])
    np.testing.assert_array_equal(found, labels)
    assert not np.shares_memory(found, labels)


def test_undecided_voxels_get_the_lowest_label_of_most_votes():
    # Perfectly opposed members: nothing tells which one is right.
    members = [np.array([[0, 1] * 4] * 4, np.uint8), np.array([[1, 0] * 4] * 4, np.uint8)]
    assert Staple()(sample((4, 8), 2), members).max() <= 1


def test_probabilities_are_refused():
    with pytest.raises(ConfigurationError, match="activation_output"):
        Staple()(sample((2, 2), 2), [np.zeros((2, 2), np.uint8)], activation_output=True)


def test_without_simpleitk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    members = [np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)]
    with pytest.raises(MissingExtraError, match=r"miscnn_tf\[staple\]"):
        Staple()(sample((2, 2), 2), members)
