"""Which slices and values are shown, and how volumes are turned."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from miscnn_tf.pictures.slices import View, displayed, interesting_slices, window_levels


def test_window_is_not_spoilt_by_a_few_extreme_voxels():
    image = np.random.default_rng(0).uniform(-100, 200, (40, 40, 40))
    image[0, 0, :5] = 30000
    image[1, 1, 1] = np.nan
    black, white = window_levels(image)
    assert black == pytest.approx(-98.5, abs=2)
    assert white == pytest.approx(198.5, abs=2)


@pytest.mark.parametrize("image", [np.full((4, 4), 7.0), np.full((4, 4), np.nan), np.zeros((0, 4))])
def test_constant_or_empty_images_have_a_window(image):
    """users.md: constant images handled."""
    black, white = window_levels(image)
    assert white > black


def test_a_small_structure_counts_like_a_large_one():
    labels = np.zeros((40, 20, 20), np.uint8)
    labels[5:31, 2:18, 2:18] = 1
    labels[30, 10:18] = 0
    labels[30, 3:5, 3:5] = 2
    assert 30 in interesting_slices([labels])


def test_slices_lie_apart_within_the_structure():
    labels = np.zeros((100, 8, 8), np.uint8)
    labels[40:80, 1:7, 1:7] = 1
    chosen = interesting_slices([labels], 3)
    assert len(chosen) == 3
    assert chosen == sorted(chosen)
    assert min(np.diff(chosen)) >= 10
    assert all(40 <= position < 80 for position in chosen)


def test_what_only_the_prediction_has_is_shown():
    truth, prediction = np.zeros((2, 30, 8, 8), np.uint8)
    truth[5, 2:4] = 1
    prediction[25, 2:4] = 1
    assert interesting_slices([truth, prediction]) == [5, 25]


def test_without_foreground_the_middle_is_shown():
    assert interesting_slices([np.zeros((9, 4, 4), np.uint8)]) == [4]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_volume_is_turned_to_slices_from_the_feet_up_rows_to_the_back_columns_to_the_left(codes):
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # axes to the right, front and head
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = np.transpose(volume, np.argsort(transform[:, 0]).astype(int))
    flips = transform[np.argsort(transform[:, 0]), 1] == -1
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) @ inv_ornt_aff(transform, volume.shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    view = View.of(turned.shape, spacing, affine)
    np.testing.assert_array_equal(view.turn(turned), volume.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert (view.row_mm, view.column_mm, view.slices) == (2, 1, 4)


def test_an_image_is_one_slice_as_it_is():
    image = np.arange(6).reshape(2, 3)
    view = View.of(image.shape, (1.0, 2.0), None)
    np.testing.assert_array_equal(view.turn(image), image[None])
    assert (view.row_mm, view.column_mm) == (1, 2)


def test_binary_images_have_a_window():
    assert window_levels(np.eye(4, dtype=bool)) == (0, 1)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((4, 5), 2, ((4, 5), False)),
        ((4, 5, 1), 2, ((4, 5), False)),
        ((4, 5, 2), 2, ((4, 5), False)),
        ((4, 5, 3), 2, ((4, 5, 3), True)),
        ((4, 5, 3), 3, ((4, 5, 3), False)),
        ((4, 5, 3, 3), 3, ((4, 5, 3), False)),
    ],
)
def test_the_first_channel_or_all_colours_are_shown(shape, axes, expected):
    image = np.arange(np.prod(shape)).reshape(shape)
    shown, colour = displayed(image, axes)
    assert (shown.shape, colour) == expected
    assert shown.ravel()[0] == 0
    assert np.shares_memory(shown, image)
