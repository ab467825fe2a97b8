"""Connected components of label maps, beside scipy.ndimage and scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.components import FILL_HOLES, KEEP_LARGEST, ComponentStep, postprocess, steps_of

SHAPES = [(23, 19), (11, 9, 12), (1, 7, 5)]


def blobs(rng: np.random.Generator, shape: tuple[int, ...], classes: int = 4) -> np.ndarray:
    """Return connected random labels with holes."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    return np.digitize(noise, np.quantile(noise, [0.55, 0.7, 0.85])[: classes - 1]).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("members", [(1,), (3,), (1, 3), (1, 2, 3)])
def test_the_largest_component_is_that_of_scikit_image(
    shape: tuple[int, ...], members: tuple[int, ...], rng: np.random.Generator
) -> None:
    for _ in range(5):
        labels = blobs(rng, shape)
        components = label(np.isin(labels, members))
        sizes = np.bincount(components.ravel())[1:]
        kept = np.isin(components, np.flatnonzero(sizes == sizes.max()) + 1)
        expected = np.where(np.isin(labels, members) & ~kept, 0, labels)
        found = ComponentStep(KEEP_LARGEST, "one", members, members[0]).apply(labels)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == labels.dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("members", [(1,), (2, 3)])
def test_holes_are_those_of_scipy(shape: tuple[int, ...], members: tuple[int, ...], rng: np.random.Generator) -> None:
    for _ in range(5):
        labels = blobs(rng, shape)
        holes = ndimage.binary_fill_holes(np.isin(labels, members)) & (labels == 0)
        found = ComponentStep(FILL_HOLES, "one", members, members[0]).apply(labels)
        np.testing.assert_array_equal(found, np.where(holes, members[0], labels))


def test_components_touch_at_corners_and_ties_are_all_kept() -> None:
    labels = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 2, 2]])
    found = ComponentStep(KEEP_LARGEST, "one", (1,), 1).apply(labels)
    np.testing.assert_array_equal(found, [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 2, 2]])


def test_only_background_in_a_hole_is_filled() -> None:
    ring = np.ones((5, 6), np.uint8)
    ring[1:4, 1:5] = 0
    ring[2, 2], ring[2, 3] = 2, 9  # another class, and a voxel without annotation
    found = ComponentStep(FILL_HOLES, "ring", (1,), 1).apply(ring)
    expected = np.ones_like(ring)
    expected[2, 2:4] = 2, 9
    np.testing.assert_array_equal(found, expected)
    open_ring = ring.copy()
    open_ring[0, 2] = 0
    assert ComponentStep(FILL_HOLES, "ring", (1,), 1).apply(open_ring) is open_ring


def test_label_maps_that_do_not_change_are_not_copied(rng: np.random.Generator) -> None:
    labels = np.zeros((4, 4), np.uint8)
    step = ComponentStep(KEEP_LARGEST, "one", (3,), 3)
    assert step.apply(labels) is labels
    labels[1, 1] = 3
    assert postprocess(labels, [step, ComponentStep(FILL_HOLES, "one", (3,), 3)]) is labels
    before = labels.copy()
    labels[3, 3] = before[3, 3] = 3
    labels[2, 2] = before[2, 2] = 3
    labels[0, 3] = before[0, 3] = 3
    assert np.count_nonzero(postprocess(labels, [step])) == 3
    np.testing.assert_array_equal(labels, before)


def test_steps_survive_plain_data() -> None:
    steps = (ComponentStep(KEEP_LARGEST, "all", (1, 2), 1), ComponentStep(FILL_HOLES, "core", (2,), 2))
    assert steps_of([step.to_plain() for step in steps], 3) == steps
    assert steps_of(None, 3) == ()


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ("all", "must be a list"),
        ([{"operation": KEEP_LARGEST}], "a step has the keys"),
        ([{"operation": "smooth", "name": "a", "labels": [1], "written": 1}], "'smooth' is not valid: operation"),
        ([{"operation": FILL_HOLES, "name": 1, "labels": [1], "written": 1}], "name must be text"),
        ([{"operation": FILL_HOLES, "name": "a", "labels": [], "written": 1}], "labels must be a list"),
        ([{"operation": FILL_HOLES, "name": "a", "labels": [1, 3], "written": 1}], "3 is not valid: .* from 1 to 2"),
        ([{"operation": FILL_HOLES, "name": "a", "labels": [1], "written": 0}], "0 is not valid"),
        ([{"operation": FILL_HOLES, "name": "a", "labels": [True], "written": 1}], "True is not valid"),
    ],
)
def test_unknown_steps_are_one_error(plain: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        steps_of(plain, 3)
