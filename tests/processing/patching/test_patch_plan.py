from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.patch_plan import PatchPlan, cut
from miscnn_tf.processing.preparation import complete


def make_sample(shape=(10, 12, 9), channels=2, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    sample = Sample(
        "a", rng.normal(size=(*shape, channels)).astype(np.float32), channels, classes, three_dim=len(shape) == 3
    )
    sample.add_segmentation(rng.integers(0, classes, shape).astype(np.uint8))
    complete(sample)
    return sample


def test_a_box_inside_is_what_indexing_gives():
    sample = make_sample()
    patch = cut(sample, (1, 2, 3), (4, 5, 6))
    np.testing.assert_array_equal(patch.image, sample.img_data[1:5, 2:7, 3:9])
    np.testing.assert_array_equal(patch.labels, sample.seg_data[1:5, 2:7, 3:9, 0])


def test_outside_the_image_lie_the_least_value_of_each_channel_and_background():
    sample = make_sample()
    patch = cut(sample, (-2, 0, 0), (14, 12, 9))
    least = sample.img_data.min(axis=(0, 1, 2))
    np.testing.assert_array_equal(patch.image[:2], np.broadcast_to(least, (2, 12, 9, 2)))
    np.testing.assert_array_equal(patch.image[2:12], sample.img_data)
    assert not patch.labels[:2].any()
    assert not patch.labels[12:].any()


class Watched(np.ndarray):
    """Remembers how many voxels were ever taken out of it."""

    taken = 0

    def __getitem__(self, key):
        result = super().__getitem__(key)
        Watched.taken = max(Watched.taken, np.asarray(result).size)
        return np.asarray(result)


def test_only_the_patch_and_its_margin_are_read_of_a_large_volume():
    sample = make_sample((120, 120, 120), channels=1)
    sample.img_data = sample.img_data.view(Watched)
    Watched.taken = 0
    augmentation = Data_Augmentation()
    for seed in range(40):
        cut(sample, (50, 50, 50), (16, 16, 16), np.random.default_rng(seed), augmentation)
    # Scaled by 1.25, turned by 15 degrees about three axes, and the spline's margin on each side.
    assert 16**3 <= Watched.taken <= 50**3


def test_augmented_labels_have_one_class_each_and_images_are_finite():
    sample = make_sample((20, 20, 20), channels=1)
    augmentation = Data_Augmentation(elastic_deform=True, mirror=True)
    augmentation.config_p_per_sample = 1.0
    for seed in range(5):
        patch = cut(sample, (-3, 2, 5), (16, 16, 16), np.random.default_rng(seed), augmentation)
        assert patch.image.shape == (16, 16, 16, 1)
        assert patch.image.dtype == np.float32
        assert np.isfinite(patch.image).all()
        assert patch.labels.dtype == np.uint8
        assert set(np.unique(patch.labels)) <= {0, 1, 2}


def test_an_augmentation_of_the_image_alone_leaves_the_labels_of_the_patch():
    sample = make_sample((40, 40, 40), channels=1)
    augmentation = Data_Augmentation()
    augmentation.config_p_per_sample = 1.0
    augmentation.seg_augmentation = False
    patch = cut(sample, (10, 10, 10), (16, 16, 16), np.random.default_rng(0), augmentation)
    np.testing.assert_array_equal(patch.labels, sample.seg_data[10:26, 10:26, 10:26, 0])
    assert patch.image.shape == (16, 16, 16, 1)


@given(st.lists(st.integers(3, 30), min_size=2, max_size=3), st.integers(4, 12), st.integers(0, 3))
@settings(max_examples=60)
def test_grid_patches_cover_the_image_whatever_its_size(shape, side, overlap):
    window = (side,) * len(shape)
    plan = PatchPlan("patchwise-grid", window, (overlap,) * len(shape))
    sample = make_sample(tuple(shape), channels=1)
    seen = np.zeros(shape, int)
    for start in plan.grid_starts(sample):
        inside = tuple(slice(max(a, 0), min(a + side, size)) for a, size in zip(start, shape, strict=True))
        seen[inside] += 1
        assert cut(sample, start, window).image.shape == (*window, 1)
    assert seen.min() >= 1


def test_whole_images_are_padded_to_what_the_network_can_halve():
    plan = PatchPlan("fullimage", divisors=(8, 8, 8))
    assert plan.patch_shape_for((10, 16, 9)) == (16, 16, 16)
    assert plan.offset((10, 16, 9)) == (3, 0, 3)
    assert PatchPlan("fullimage", divisors=(1, 8, 4)).patch_shape_for((10, 12, 9)) == (10, 16, 12)


def test_skip_blanks_finds_the_foreground_and_survives_a_sample_without_any():
    labels = np.zeros((40, 40), np.uint8)
    labels[35, 3] = 1
    sample = Sample("a", np.zeros((40, 40), np.float32), 1, 2, three_dim=False)
    sample.add_segmentation(labels)
    complete(sample)
    plan = PatchPlan("patchwise-crop", (8, 8), (0, 0), skip_class=0)
    for seed in range(20):
        start = plan.random_start(sample, np.random.default_rng(seed))
        assert cut(sample, start, (8, 8)).labels.any()
    empty = Sample("b", np.zeros((40, 40), np.float32), 1, 2, three_dim=False)
    empty.add_segmentation(np.zeros((40, 40), np.uint8))
    complete(empty)
    assert cut(empty, plan.random_start(empty, np.random.default_rng(0)), (8, 8)).image.shape == (8, 8, 1)
    grid = PatchPlan("patchwise-grid", (8, 8), (0, 0), skip_class=0)
    assert grid.grid_starts(sample, training=True) == [(32, 0)]
    assert len(grid.grid_starts(sample, training=False)) == 25
    assert grid.grid_starts(empty, training=True) == []


def test_an_augmentation_without_a_generator_is_refused():
    with pytest.raises(TypeError, match="random generator"):
        cut(make_sample(), (0, 0, 0), (4, 4, 4), None, Data_Augmentation())
