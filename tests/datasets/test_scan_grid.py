from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from miscnn_tf.datasets.scan_grid import apply_affine, axis_rotation, centred_affine, fine_affine, orientation_matrix
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
