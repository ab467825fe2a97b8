from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.datasets.canvas import AIR, Canvas
from miscnn_tf.datasets.scan_grid import axis_rotation, centred_affine, orientation_matrix

SHAPE = (30, 32, 34)


def canvas(rng: np.random.Generator, rotated: bool = False, shape: tuple[int, int, int] = SHAPE) -> Canvas:
    directions = orientation_matrix("IPL")
    if rotated:
        directions = axis_rotation(0, 20) @ directions
    return Canvas(shape, centred_affine(shape, directions, (2.0, 2.0, 2.0)), rng, deformation=0.0)


@pytest.mark.parametrize("rotated", [False, True])
def test_an_ellipsoid_has_its_volume_and_place(rng: np.random.Generator, rotated: bool) -> None:
    drawing = canvas(rng, rotated)
    radii = np.array([12.0, 18.0, 9.0])
    drawing.ellipsoid((3.0, -4.0, 5.0), radii, 100.0, label=1)
    image, labels = drawing.develop()
    expected = 4 / 3 * np.pi * radii.prod()
    # Counting whole voxels comes near (a tie is foreground); partial volume keeps the mass.
    assert (labels == 1).sum() * 8 == pytest.approx(expected, rel=0.06)
    assert (image - AIR).sum() / 1100 * 8 == pytest.approx(expected, rel=0.015)
    affine = centred_affine(
        SHAPE, (axis_rotation(0, 20) if rotated else np.eye(3)) @ orientation_matrix("IPL"), (2,) * 3
    )
    centre = affine @ (*np.argwhere(labels == 1).mean(axis=0), 1)
    np.testing.assert_allclose(centre[:3], (3, -4, 5), atol=0.3)


def test_a_tube_is_a_cylinder_with_round_ends(rng: np.random.Generator) -> None:
    drawing = canvas(rng)
    drawing.tube(np.array([[-10.0, -7.3, -4.1], [10.0, 8.7, 3.9]]), 8.0, 0.0)
    image, _ = drawing.develop()
    expected = np.pi * 64 * np.linalg.norm([20.0, 16.0, 8.0]) + 4 / 3 * np.pi * 512
    assert (image - AIR).sum() / 1000 * 8 == pytest.approx(expected, rel=0.01)


def test_what_lies_outside_the_grid_is_left_out(rng: np.random.Generator) -> None:
    drawing = canvas(rng)
    drawing.ellipsoid((500.0, 0.0, 0.0), (9.0, 9.0, 9.0), 0.0, label=1)
    drawing.tube(np.array([[0.0, 500.0, 0.0], [0.0, 520.0, 0.0]]), 8.0, 0.0)
    image, labels = drawing.develop()
    assert not labels.any()
    assert (image == AIR).all()


def test_blocked_tissue_stays(rng: np.random.Generator) -> None:
    drawing = canvas(rng)
    drawing.blocked[:] = drawing.points[0] > 0
    drawing.ellipsoid((0.0, 0.0, 0.0), (20.0, 20.0, 20.0), 0.0, label=1)
    assert not drawing.labels[drawing.points[0] > 0].any()
    assert drawing.labels[drawing.points[0] <= 0].any()


def test_develop_takes_the_mean_and_the_majority(rng: np.random.Generator) -> None:
    drawing = canvas(rng, shape=(8, 8, 8))
    drawing.hounsfield[:] = rng.normal(0, 100, drawing.hounsfield.shape)
    drawing.labels[:] = rng.integers(0, 3, drawing.labels.shape)
    image, labels = drawing.develop()
    for voxel in np.ndindex(8, 8, 8):
        block = tuple(slice(2 * place, 2 * place + 2) for place in voxel)
        assert image[voxel] == pytest.approx(drawing.hounsfield[block].mean(), abs=1e-3)
        counts = np.bincount(drawing.labels[block].ravel(), minlength=3)
        # The most frequent class; of equally frequent ones the higher.
        assert labels[voxel] == 2 - np.argmax(counts[::-1])
