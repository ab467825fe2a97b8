"""Affines and grids, against nibabel, SciPy's rotations and closed forms."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from miscnn_tf.data_loading import geometry

SPACING = np.array([0.7, 0.9, 3.0])


def oblique(angles: tuple[float, float, float], spacing: np.ndarray = SPACING) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-20, 31, 7)
    return affine


def test_spacing_is_right_for_a_30_degree_rotation():
    # MIScnn gives 0.87 for 1.
    np.testing.assert_allclose(geometry.spacing_of(oblique((0, 0, 30), np.ones(3))), [1, 1, 1], rtol=1e-6)


def test_spacing_is_right_for_permuted_axes():
    # MIScnn gives 0.
    affine = np.array([[0, 0, -3, 9], [0.7, 0, 0, 8], [0, -0.9, 0, 7], [0, 0, 0, 1.0]])
    assert geometry.spacing_of(affine).tolist() == [0.7, 0.9, 3.0]


@settings(deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.01, 50)] * 3),
)
def test_spacing_of_any_rotation_stored_as_float32(angles, spacing):
    affine = oblique(angles, np.array(spacing)).astype(np.float32)
    np.testing.assert_allclose(geometry.spacing_of(affine), spacing, rtol=6e-6)


def test_spacing_loses_the_noise_of_float32():
    assert geometry.exact_spacing(np.float32([0.7, 0.8, 1.25, 3])).tolist() == [0.7, 0.8, 1.25, 3.0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_axis_codes_name_every_orientation(order, signs):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    letters = ""
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * 2
        letters += ("LR", "PA", "IS")[world][sign > 0]
    assert geometry.axis_codes(affine) == letters


def test_axis_codes_of_a_flat_axis():
    assert geometry.axis_codes(np.diag([1, 1, 0, 1])) == "RA?"


@pytest.mark.parametrize(
    ("affine", "usable"),
    [
        (np.eye(4), True),
        (oblique((10, 20, 30)), True),
        (np.diag([1e-4, 1e-4, 1e-4, 1]), True),
        (np.diag([1, 1, 0, 1]), False),
        (np.diag([1, 1, np.nan, 1]), False),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), False),
    ],
)
def test_usable_affines(affine, usable):
    assert geometry.is_usable(affine) is usable


class TestGridDifference:
    shape = (100, 120, 40)

    def test_same(self):
        affine = oblique((3, -7, 12))
        assert geometry.grid_difference(self.shape, affine, self.shape, affine.astype(np.float32)) is None

    def test_quaternion_noise_is_none(self):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
        affine = oblique((3, -7, 179))
        image.set_qform(affine)
        assert geometry.grid_difference(self.shape, affine, self.shape, image.get_qform()) is None

    def test_shape(self):
        found = geometry.grid_difference(self.shape, np.eye(4), (100, 120, 41), np.eye(4))
        assert found == "shape (100, 120, 40) against (100, 120, 41)"

    def test_spacing(self):
        found = geometry.grid_difference(self.shape, np.diag([1, 1, 3, 1]), self.shape, np.diag([1, 1, 2.5, 1]))
        assert found == "spacing (1, 1, 3) mm against (1, 1, 2.5) mm"

    def test_flipped(self):
        found = geometry.grid_difference(self.shape, np.diag([1, 1, 1, 1]), self.shape, np.diag([-1, -1, 1, 1]))
        assert found == "axes pointing RAS against LPS"

    def test_shift(self):
        moved = np.eye(4)
        moved[:3, 3] = (3, 4, 0)
        assert geometry.grid_difference(self.shape, np.eye(4), self.shape, moved) == "first voxel 5 mm apart"

    def test_turned(self):
        found = geometry.grid_difference(self.shape, oblique((0, 0, 0)), self.shape, oblique((0, 0, 2)))
        assert found == "turned by 2 degrees"

    def test_a_turn_counts_by_what_it_moves(self):
        first, second = oblique((0, 0, 0), np.ones(3)), oblique((0, 0, 0.1), np.ones(3))
        assert geometry.grid_difference((10, 10, 10), first, (10, 10, 10), second) is None
        assert geometry.grid_difference((512, 512, 10), first, (512, 512, 10), second) == "turned by 0.1 degrees"

    def test_tolerance_is_a_share_of_a_voxel(self):
        moved = np.diag([0.5, 0.5, 2, 1])
        moved[0, 3] = 0.06
        assert "apart" in geometry.grid_difference(self.shape, np.diag([0.5, 0.5, 2, 1]), self.shape, moved)
        moved[0, 3] = 0.04
        assert geometry.grid_difference(self.shape, np.diag([0.5, 0.5, 2, 1]), self.shape, moved) is None

    def test_not_a_number(self):
        broken = np.eye(4)
        broken[0, 3] = np.nan
        assert geometry.grid_difference(self.shape, np.eye(4), self.shape, broken)


def test_resampled_shape_is_not_cut_short_by_rounding():
    assert geometry.resampled_shape((100,), (float(np.float32(0.7)),), (0.7,)) == (100,)  # the noise of a header
    spacing = geometry.exact_spacing(np.float32([0.7]))
    assert geometry.resampled_shape((100,), spacing, (0.7,)) == (100,)
    assert geometry.resampled_shape((10, 1), (0.1, 1), (0.3, 5)) == (3, 1)
    assert geometry.resampled_shape((100,), (0.9999,), (1,)) == (99,)  # not complete by far more than noise


def test_shifted_affine_is_nibabels_slicer():
    image = nibabel.Nifti1Image(np.zeros((9, 8, 7), np.uint8), oblique((10, 20, 30)))
    part = image.slicer[2:, 3:, 4:]
    np.testing.assert_allclose(geometry.shifted_affine(image.affine, (2, 3, 4)), part.affine, atol=1e-9)
