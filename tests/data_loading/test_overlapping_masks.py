"""Masks to a label map: small over large in any order, and every overlap is named."""

from __future__ import annotations

import itertools
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from miscnn_tf.data_loading.overlapping_masks import OverlapWarning, merge_masks

PATH = Path("rt.dcm")
NAMES = "abcd"


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 4), st.integers(1, 3))), st.integers(0, 23))
def test_each_voxel_is_of_the_smallest_structure_around_it(masks, permutation):
    """Against a definition without boxes and order: of all structures at a voxel, that of the fewest voxels."""
    order = list(itertools.permutations(range(len(masks))))[permutation % len(list(itertools.permutations(masks)))]
    listed = [(NAMES[number], number + 1, masks[number]) for number in order]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = merge_masks(listed, masks.shape[1:], 6, 0, PATH)
    place = {number: position for position, number in enumerate(order)}
    wanted = np.zeros(masks.shape[1:], int)
    for voxel in np.ndindex(wanted.shape):
        here = [number for number in range(len(masks)) if masks[(number, *voxel)]]
        if here:
            wanted[voxel] = 1 + min(here, key=lambda number: (masks[number].sum(), -place[number]))
    np.testing.assert_array_equal(labels, wanted)
    overlapping = [
        pair for pair in itertools.combinations(range(len(masks)), 2) if (masks[list(pair)].all(axis=0)).any()
    ]
    text = str(caught[0].message) if caught else ""
    assert len(caught) == bool(overlapping)
    for one, other in overlapping:
        voxels = np.count_nonzero(masks[one] & masks[other])
        pairs = [
            f"{NAMES[a]} in {NAMES[b]} ({voxels} voxel{'s' * int(voxels > 1)})" for a, b in ((one, other), (other, one))
        ]
        assert any(pair in text for pair in pairs)
    hidden = [NAMES[number] for number in range(len(masks)) if masks[number].any() and not (wanted == number + 1).any()]
    assert ("no voxel" in text) == bool(hidden)
    assert all(name in text.partition("keep")[2] for name in hidden)


def test_an_outline_of_the_body_does_not_erase_an_organ():
    body, organ = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    organ[1:3, 1:3] = True
    for masks in itertools.permutations([("External", 2, body), ("Heart", 1, organ)]):
        with pytest.warns(
            OverlapWarning, match=r"rt.dcm: structures overlap, .*: Heart in External \(4 voxels\)\. Leave"
        ):
            labels = merge_masks(masks, (4, 5), 3, 0, PATH)
        np.testing.assert_array_equal(labels, np.where(organ, 1, 2))


def test_a_structure_without_a_voxel_left_is_named():
    both = np.ones((2, 2), bool)
    with pytest.warns(OverlapWarning, match=r"copy in Heart \(4 voxels\)\. Heart keeps no voxel\."):
        assert (merge_masks([("Heart", 1, both), ("copy", 2, both)], (2, 2), 3, 0, PATH) == 2).all()


def test_structures_of_one_label_are_united_without_a_word():
    first, second = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = merge_masks([("a", 1, first), ("b", 1, second), ("c", 2, first & False)], (4,), 3, 0, PATH)
    assert labels.tolist() == [1, 1, 1, 0]
    assert labels.dtype == np.uint8
    assert merge_masks([("a", 0, first)], (4,), 3, 2, PATH).tolist() == [0, 0, 2, 2]


def test_the_warning_can_be_sent_to_another_process():
    sent = pickle.loads(pickle.dumps(OverlapWarning("text", ("a", "b"))))
    assert (type(sent), str(sent), sent.key) == (OverlapWarning, "text", ("a", "b"))
