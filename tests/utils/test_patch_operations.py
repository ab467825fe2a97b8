"""The plain patch functions of MIScnn's interface."""

from __future__ import annotations

import numpy as np
import pytest
from batchgenerators.augmentations.utils import pad_nd_image
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.utils.patch_operations import concat_matrices, crop_patch, pad_patch, slice_matrix


@st.composite
def cases(draw):
    """An array shape with or without channels, a window that may be larger, an overlap, and three_dim."""
    axes = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(1, 10)] * axes))
    window = draw(st.tuples(*[st.integers(1, 7)] * axes))
    overlap = tuple(draw(st.integers(0, voxels - 1)) for voxels in window)
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    return (*shape, *channels), window, overlap, axes == 3


@given(cases(), st.sampled_from([np.float32, np.float16, np.int16, np.uint8, bool]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_slicing_then_concatenating_returns_the_input_exactly(case, dtype, with_channels):
    shape, window, overlap, three_dim = case
    array = (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    patches = slice_matrix(array, window, overlap, three_dim)
    size = shape if with_channels else shape[: 2 + three_dim]
    whole = concat_matrices(patches, size, window, overlap, three_dim)
    np.testing.assert_array_equal(whole, array)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(concat_matrices(np.stack(patches), size, window, overlap, three_dim), array)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_float64_returns_up_to_the_last_bits(case):
    shape, window, overlap, three_dim = case
    array = np.random.default_rng(0).normal(size=shape)
    whole = concat_matrices(slice_matrix(array, window, overlap, three_dim), shape, window, overlap, three_dim)
    np.testing.assert_allclose(whole, array, rtol=1e-13)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_where_patches_differ_the_result_is_their_mean(case):
    """Defect "blending": averaged pairwise in order; every patch that covers a voxel must count alike."""
    shape, window, overlap, three_dim = case
    patches = slice_matrix(np.zeros(shape), window, overlap, three_dim)
    patches = [patch + number for number, patch in enumerate(patches)]
    numbers = slice_matrix(np.arange(np.prod(shape)).reshape(shape), window, overlap, three_dim)
    total, count = np.zeros(np.prod(shape)), np.zeros(np.prod(shape))
    for patch, number in zip(patches, numbers, strict=True):
        np.add.at(total, number.ravel(), patch.ravel())
        np.add.at(count, number.ravel(), 1)
    whole = concat_matrices(patches, shape, window, overlap, three_dim)
    np.testing.assert_allclose(whole.ravel(), total / count, rtol=1e-12)


def test_order_and_number_of_patches():
    array = np.arange(5 * 4 * 2).reshape(5, 4, 2)
    patches = slice_matrix(array, (3, 2), (0, 0), three_dim=False)
    expected = [array[0:3, 0:2], array[0:3, 2:4], array[2:5, 0:2], array[2:5, 2:4]]
    assert len(patches) == 4
    for patch, piece in zip(patches, expected, strict=True):
        np.testing.assert_array_equal(patch, piece)


def test_slices_are_not_copied():
    array = np.zeros((8, 8, 1))
    assert all(np.shares_memory(patch, array) for patch in slice_matrix(array, (4, 4), (2, 2), three_dim=False))


def test_a_2d_array_takes_an_overlap_of_three_numbers():
    """`patchwise_overlap` is (0, 0, 0) by default, for 2D images too."""
    assert len(slice_matrix(np.zeros((8, 8, 1)), (4, 4), (0, 0, 0), three_dim=False)) == 4


@given(cases(), st.integers(1, 3))
@settings(deadline=None)
def test_padding_then_cropping_returns_the_input(case, number):
    shape, window, _, three_dim = case
    batch = np.random.default_rng(0).normal(size=(number, *shape[: 2 + three_dim], 2))
    padded, slicer = pad_patch(batch, window, return_slicer=True)
    assert padded.shape[1:-1] == tuple(np.maximum(batch.shape[1:-1], window))
    np.testing.assert_array_equal(crop_patch(padded, slicer), batch)
    np.testing.assert_array_equal(pad_patch(batch, window), padded)
    assert padded.sum() == pytest.approx(batch.sum())
    for before, part, after in zip(batch.shape[1:-1], slicer[1:-1], padded.shape[1:-1], strict=True):
        assert 0 <= (after - part.stop) - part.start <= 1
        assert part.stop - part.start == before


def test_a_prediction_with_more_classes_than_channels_is_cropped_too():
    _, slicer = pad_patch(np.zeros((1, 5, 6, 1)), (8, 8), return_slicer=True)
    assert crop_patch(np.zeros((4, 8, 8, 3)), slicer).shape == (4, 5, 6, 3)
    assert slicer[0] == slicer[-1] == slice(None)
    # batchgenerators' own slicer is closed at one sample and one channel.
    _, closed = pad_nd_image(np.zeros((1, 5, 6, 1)), (8, 8, 1), return_slicer=True)
    assert crop_patch(np.zeros((4, 8, 8, 3)), closed).shape == (4, 5, 6, 3)


def test_wrong_arguments_are_named():
    volume = np.zeros((6, 6, 6, 1))
    with pytest.raises(ConfigurationError, match="more than 2 spatial axes"):
        slice_matrix(volume, (3, 3), (0, 0), three_dim=False)
    with pytest.raises(ConfigurationError, match=r"window.*fewer than 3"):
        slice_matrix(volume, (3, 3), (0, 0, 0), three_dim=True)
    with pytest.raises(ConfigurationError, match="overlap must be"):
        slice_matrix(volume, (3, 3, 3), (0, 3, 0), three_dim=True)
    with pytest.raises(ConfigurationError, match=r"patches has 7 entries.* has 8"):
        concat_matrices([np.zeros((3, 3, 3))] * 7, (6, 6, 6), (3, 3, 3), (0, 0, 0), three_dim=True)
    with pytest.raises(ConfigurationError, match=r"patches.*spatial axes"):
        concat_matrices([np.zeros((3, 3))] * 8, (6, 6, 6), (3, 3, 3), (0, 0, 0), three_dim=True)
    with pytest.raises(ConfigurationError, match="patch_shape"):
        pad_patch(np.zeros((1, 4, 4, 1)), (4, 4, 4))
    with pytest.raises(ConfigurationError, match="slicer"):
        crop_patch(np.zeros((1, 4, 4, 1)), [slice(None)] * 3)
