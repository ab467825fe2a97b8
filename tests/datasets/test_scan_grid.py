from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from miscnn_tf.datasets.scan_grid import (
    apply_affine,
    axis_rotation,
    centred_affine,
    fine_affine,
    orientation_matrix,
    smooth_field,
)
from miscnn_tf.errors import ConfigurationError


def test_all_48_orientations_are_what_nibabel_calls_them() -> None:
    for order in itertools.permutations(("RL", "AP", "SI")):
        for code in itertools.product(*order):
            affine = centred_affine((4, 5, 6), orientation_matrix("".join(code)), (1.0, 2.0, 3.0))
            assert nib.aff2axcodes(affine) == code
            np.testing.assert_allclose(nib.affines.voxel_sizes(affine), (1, 2, 3))
            np.testing.assert_allclose(apply_affine(affine, np.array([1.5, 2.0, 2.5])), 0, atol=1e-12)


@pytest.mark.parametrize("wrong", ["", "RA", "RRS", "RLS", "ras?", "123"])
def test_other_codes_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="orientation"):
        orientation_matrix(wrong)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotations_are_scipys(axis: int) -> None:
    np.testing.assert_allclose(axis_rotation(axis, 23.0), Rotation.from_euler("xyz"[axis], 23.0, True).as_matrix())


def test_fine_voxels_fill_the_coarse_ones() -> None:
    affine = centred_affine((4, 5, 6), axis_rotation(0, 10) @ orientation_matrix("IPL"), (4.0, 2.0, 3.0))
    fine = fine_affine(affine, 2)
    # The eight sub-voxels of voxel (1, 2, 3) lie around its middle, a quarter of a voxel away on each axis.
    parts = np.array(list(itertools.product((2, 3), (4, 5), (6, 7))))
    np.testing.assert_allclose(apply_affine(fine, parts).mean(axis=0), apply_affine(affine, np.array([1, 2, 3.0])))
    back = apply_affine(np.linalg.inv(affine), apply_affine(fine, parts)) - (1, 2, 3)
    np.testing.assert_allclose(np.abs(back), 0.25)


@pytest.mark.parametrize("shape", [(200, 200), (40, 40, 40)])
def test_mean_and_deviation_are_those_promised(shape):
    points = np.indices(shape).astype(np.float32)
    fields = [smooth_field(points, np.random.default_rng(seed), wavelength=8) for seed in range(5)]
    for field in fields:
        assert field.shape == shape
        assert field.dtype == np.float32
        assert abs(field.mean()) < 0.1
        assert 0.8 < field.std() < 1.2
        assert np.abs(field).max() <= np.sqrt(2 * 8) + 1e-5
    assert np.abs(fields[0] - fields[1]).max() > 0.5


def test_a_finer_grid_samples_the_same_function():
    coarse = np.indices((10, 12)).astype(np.float32)
    fine = np.indices((20, 24)).astype(np.float32) / 2
    one, two = (smooth_field(points, np.random.default_rng(3), wavelength=9) for points in (coarse, fine))
    np.testing.assert_allclose(two[::2, ::2], one, atol=1e-4)


def test_a_longer_wavelength_is_smoother():
    points = np.indices((64, 64)).astype(np.float32)
    steps = [
        np.abs(np.diff(smooth_field(points, np.random.default_rng(1), wavelength=length), axis=0)).mean()
        for length in (8, 32)
    ]
    # The slope of a sine is inverse to its length.
    assert steps[0] / steps[1] == pytest.approx(4, rel=0.25)
