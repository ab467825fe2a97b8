"""Changes of the previous stage's segmentation: operations as SciPy's, frequencies as nnU-Net's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import ball, disk

from miscnn_tf.processing.augmentation import previous_labels
from miscnn_tf.processing.augmentation.previous_labels import (
    change_class,
    close_gaps,
    dilate,
    disturb,
    erode,
    one_hot,
    open_bridges,
    remove_component,
)


def random_mask(shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return noise > 0.05


@pytest.mark.parametrize("shape", [(40, 33), (20, 18, 15)])
@pytest.mark.parametrize("radius", [1, 3, 8])
def test_operations_are_those_with_a_ball(shape, radius):
    mask = random_mask(shape, radius)
    element = (disk if len(shape) == 2 else ball)(radius)

    def dilated(one: np.ndarray) -> np.ndarray:
        return ndimage.binary_dilation(one, element)

    def eroded(one: np.ndarray) -> np.ndarray:
        return ndimage.binary_erosion(one, element, border_value=1)

    assert 0.1 < mask.mean() < 0.9
    assert np.array_equal(dilate(mask, radius), dilated(mask))
    assert np.array_equal(erode(mask, radius), eroded(mask))
    assert np.array_equal(close_gaps(mask, radius), eroded(dilated(mask)))
    assert np.array_equal(open_bridges(mask, radius), dilated(eroded(mask)))


@pytest.mark.parametrize("value", [False, True])
def test_operations_leave_empty_and_full_masks(value):
    mask = np.full((5, 6, 7), value)
    for operation in previous_labels.OPERATIONS:
        assert np.array_equal(operation(mask, 3.5), mask)


def test_one_hot():
    labels = np.random.default_rng(0).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    assert np.array_equal(one_hot(labels, 4), np.eye(4, dtype=np.float32)[labels][..., 1:])


def test_new_voxels_replace_other_classes_and_lost_ones_become_background():
    labels = np.array([[0, 1, 1, 2, 2, 2, 0]], np.uint8)
    change_class(labels, 1, dilate, 1.5)
    assert labels.tolist() == [[1, 1, 1, 1, 2, 2, 0]]
    change_class(labels, 2, erode, 1.0)
    assert labels.tolist() == [[1, 1, 1, 1, 0, 0, 0]]
    change_class(labels, 2, dilate, 3.0)  # a class that is not there
    assert labels.tolist() == [[1, 1, 1, 1, 0, 0, 0]]


def test_a_small_component_is_removed_and_a_large_one_kept():
    labels = np.zeros((10, 10), np.uint8)
    labels[0, :5] = 1  # 5 %
    labels[4, 4] = labels[5, 5] = 1  # connected by a corner
    labels[7:, 4:] = 1  # 18 %
    sizes = set()
    for seed in range(20):
        found = labels.copy()
        remove_component(found, 1, np.random.default_rng(seed))
        assert found[7:, 4:].all()
        sizes.add(int((found != labels).sum()))
    assert sizes == {5, 2}


def test_frequencies_are_those_of_nnunet(monkeypatch):
    counts = {"morphology": 0, "removal": 0, "patches": 0}
    radii = []
    operations: dict[str, int] = {}

    def change(labels, label, operation, radius):
        counts["morphology"] += 1
        radii.append(radius)
        operations[operation.__name__] = operations.get(operation.__name__, 0) + 1

    def remove(labels, label, rng):
        counts["removal"] += 1

    monkeypatch.setattr(previous_labels, "change_class", change)
    monkeypatch.setattr(previous_labels, "remove_component", remove)
    labels, patches = np.zeros((2, 2), np.uint8), 4000
    for seed in range(patches):
        disturb(labels, 3, np.random.default_rng(seed))
    # nnU-Net 2.8.1: apply_probability=0.4 and 0.2, p_per_label=0.5, two classes.
    assert counts["morphology"] / patches == pytest.approx(0.4 * 0.5 * 2, abs=0.03)
    assert counts["removal"] / patches == pytest.approx(0.2 * 0.5 * 2, abs=0.03)
    assert min(radii) >= 1
    assert max(radii) <= 8
    assert np.mean(radii) == pytest.approx(4.5, abs=0.2)
    assert all(count / len(radii) == pytest.approx(0.25, abs=0.05) for count in operations.values())
    assert len(operations) == 4


def test_disturbed_labels_are_labels_and_the_argument_is_kept():
    labels = (random_mask((16, 16, 16), 1) + 2 * (random_mask((16, 16, 16), 2))).clip(0, 2).astype(np.uint8)
    before, changed = labels.copy(), 0
    for seed in range(30):
        found = disturb(labels, 3, np.random.default_rng(seed))
        assert found.dtype == np.uint8
        assert set(np.unique(found)) <= {0, 1, 2}
        assert np.array_equal(found, disturb(labels, 3, np.random.default_rng(seed)))
        changed += not np.array_equal(found, labels)
    assert np.array_equal(labels, before)
    assert 5 < changed < 25
