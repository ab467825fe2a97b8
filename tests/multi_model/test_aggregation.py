import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.multi_model.aggregation import (
    Majority,
    Mean,
    aggregate,
    aggregations,
    find_aggregation,
    running_mean,
    wants_probabilities,
)


def sample(shape, classes=3):
    return Sample("a", np.zeros(shape, np.float32), channels=1, classes=classes, three_dim=len(shape) == 3)


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
def test_mean_is_that_of_numpy(rng, shape):
    members = [rng.dirichlet(np.ones(4), shape).astype(np.float32) for _ in range(5)]
    expected = np.mean(np.asarray(members, np.float64), axis=0)
    found = Mean()(sample(shape, 4), members, activation_output=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    labels = Mean()(sample(shape, 4), members)
    clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-6
    np.testing.assert_array_equal(labels[clear], np.argmax(expected, axis=-1)[clear])


def test_the_running_mean_leaves_the_members_alone(rng):
    members = [rng.random((3, 4)).astype(np.float32) for _ in range(3)]
    before = [member.copy() for member in members]
    for number in (1, 2, 3):
        running_mean(iter(members[:number]))
    for member, copy in zip(members, before, strict=True):
        np.testing.assert_array_equal(member, copy)
    with pytest.raises(ConfigurationError, match="no members"):
        running_mean(iter(()))


@given(seed=st.integers(0, 2**31), number=st.integers(1, 6), classes=st.integers(2, 5), axes=st.integers(2, 3))
def test_majority_counts_votes_and_ties_go_to_the_lowest(seed, number, classes, axes):
    rng = np.random.default_rng(seed)
    shape = (3, 4, 2)[:axes]
    members = [rng.integers(0, classes, shape).astype(np.uint8) for _ in range(number)]
    found = Majority()(sample(shape, classes), members)
    shares = Majority()(sample(shape, classes), members, activation_output=True)
    assert found.dtype == np.uint8
    for place in np.ndindex(*shape):
        votes = np.bincount([member[place] for member in members], minlength=classes)
        assert found[place] == min(label for label in range(classes) if votes[label] == votes.max())
        np.testing.assert_allclose(shares[place], votes / number, rtol=1e-6)


def test_majority_is_that_of_simpleitk_where_nobody_ties(rng):
    members = [rng.integers(0, 3, (5, 6, 7)).astype(np.uint8) for _ in range(5)]
    voted = SimpleITK.GetArrayFromImage(
        SimpleITK.LabelVoting([SimpleITK.GetImageFromArray(member) for member in members], 9)
    )
    found = Majority()(sample((5, 6, 7)), members)
    assert 0 < np.mean(voted == 9) < 0.5
    np.testing.assert_array_equal(found[voted != 9], voted[voted != 9])


def test_functions_are_found_by_name_and_own_ones_are_added():
    assert {"mean", "majority", "staple"} <= set(__import__("miscnn_tf.multi_model").multi_model.aggregations)
    aggregations.register("first", lambda sample, predictions: predictions[0])
    try:
        assert find_aggregation("first")(None, [1, 2]) == 1
    finally:
        del aggregations["first"]
    with pytest.raises(ConfigurationError, match="Did you mean 'mean'"):
        find_aggregation("maen")


@pytest.mark.parametrize("wrong", [True, None, Mean, 3])
def test_what_is_no_function_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="aggregation_func="):
        find_aggregation(wrong)


def test_what_functions_are_given():
    def own(sample, predictions):
        return predictions[0]

    assert [wants_probabilities(Mean(), asked) for asked in (False, True)] == [True, True]
    assert [wants_probabilities(Majority(), asked) for asked in (False, True)] == [False, False]
    assert [wants_probabilities(own, asked) for asked in (False, True)] == [False, True]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros((4, 4)), "has the shape"),
        (np.full((4, 5), 0.5), "0.5"),
        (np.full((4, 5), 7), "7"),
        (np.full((4, 5), np.nan), "nan"),
    ],
)
def test_a_result_that_is_no_prediction_is_named(result, message):
    def strange(sample, predictions):
        return result

    with pytest.raises(DataError, match=f"(?s)'a'.*strange.*{message}"):
        aggregate(strange, sample((4, 5)), [np.zeros((4, 5), np.uint8)], False)


@pytest.mark.parametrize(("activation_output", "dtype"), [(False, np.uint8), (True, np.float32)])
def test_a_prediction_that_is_returned_as_it_is_does_not_lie_in_a_file_any_more(tmp_path, activation_output, dtype):
    shape = (4, 5, 3) if activation_output else (4, 5)
    np.save(tmp_path / "member.npy", np.ones(shape, dtype))
    predictions = [np.load(tmp_path / "member.npy", mmap_mode="r")]
    found = aggregate(lambda sample, predictions: predictions[0][:], sample((4, 5)), predictions, activation_output)
    assert not np.shares_memory(found, predictions[0])
    assert found.flags.writeable
    np.testing.assert_array_equal(found, np.ones(shape, dtype))


def test_whole_numbers_in_any_type_and_a_last_axis_of_one_are_labels():
    found = aggregate(
        lambda sample, predictions: np.rint(np.mean(predictions, axis=0))[..., None],
        *(sample((4, 5)), [np.zeros((4, 5), np.uint8), np.full((4, 5), 2, np.uint8)], False),
    )
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.ones((4, 5)))
