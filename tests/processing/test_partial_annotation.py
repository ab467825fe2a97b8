"""Patches of partly annotated images and of regions are centred on the voxels that nnU-Net would choose."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.cache.sample_files import read_sample, write_sample
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.grid import class_locations, draw_start
from miscnn_tf.processing.preparation import PreparationKey, patch_locations, prepare_sample
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions import Padding

OVERLAPPING = (Region("whole", (1, 2), 1), Region("core", (2,), 2))


def labels_with(ignored):
    labels = np.random.default_rng(0).integers(0, 3, (20, 18)).astype(np.uint8)
    labels[:, 9:] = ignored
    return labels


def data_io(labels, regions=None, label_map=None):
    data = {"a": (np.zeros(labels.shape, np.float32), labels)}
    interface = Dictionary_interface(data, classes=3, three_dim=False, label_map=label_map)
    if regions:
        interface.regions, interface.regions_class_order = regions, range(1, len(regions) + 1)
    return Data_IO(interface, "")


def places(labels, scheme, foreground):
    """Return where single voxels were drawn 300 times."""
    rng = np.random.default_rng(1)
    locations = patch_locations(labels, scheme)
    return [draw_start(rng, labels.shape, (1, 1), locations, foreground) for _ in range(300)]


@pytest.mark.parametrize("foreground", [0.0, 0.33, 1.0])
@pytest.mark.parametrize("regions", [(), OVERLAPPING])
def test_no_patch_is_centred_on_a_voxel_without_annotation(foreground, regions):
    labels = labels_with(3)
    found = [labels[place] for place in places(labels, LabelScheme(3, True, regions), foreground)]
    assert max(found) < 3
    assert (min(found) == 0) == (foreground < 1)


def test_an_image_without_foreground_is_drawn_where_it_is_annotated():
    labels = np.zeros((20, 18), np.uint8)
    labels[:, 9:] = 3
    assert max(place[1] for place in places(labels, LabelScheme(3, True), 1.0)) < 9


def test_an_image_without_any_annotation_is_drawn_anywhere():
    found = places(np.full((20, 18), 3, np.uint8), LabelScheme(3, True), 0.5)
    assert len(set(found)) > 100


def test_each_region_is_drawn_as_often_as_the_others():
    labels = np.zeros((20, 18), np.uint8)
    labels[:10] = 1
    labels[0, 0] = 2
    found = [labels[place] for place in places(labels, LabelScheme(3, regions=OVERLAPPING), 1.0)]
    assert found.count(0) == 0
    assert 100 < found.count(2) < 200  # half of the draws are for the core, its only voxel


def test_without_ignored_voxels_the_locations_are_those_of_the_classes():
    labels = labels_with(1)
    expected = class_locations(labels, 3, np.random.default_rng(0), 1000)
    assert np.array_equal(patch_locations(labels, LabelScheme(3)), expected)


def test_a_prepared_sample_keeps_its_scheme_on_disk(tmp_path):
    io = data_io(labels_with(9), {"whole": [1, 2]}, {9: "ignore"})
    sample = prepare_sample(io, [], "a", load_seg=True)
    assert sample.scheme == LabelScheme(3, True, (Region("whole", (1, 2), 1),))
    assert sample.details["voxels"] == [int((sample.seg_data == label).sum()) for label in range(3)]
    write_sample(tmp_path / "a", sample, durable=False)
    assert read_sample(tmp_path / "a").scheme == sample.scheme


def test_samples_prepared_for_other_regions_are_not_used():
    labels = labels_with(1)
    keys = {
        PreparationKey(data_io(labels, regions), [])("a", True)
        for regions in (None, {"whole": [1, 2]}, {"whole": [1, 2], "core": [2]})
    }
    assert len(keys) == 3


@pytest.mark.parametrize("scheme", [LabelScheme(3, True), LabelScheme(3, True, OVERLAPPING)])
def test_augmentation_moves_targets_of_scripts_like_their_labels(scheme):
    labels = labels_with(3)
    augmentation = Data_Augmentation(config_p_per_sample=1.0)
    image = np.zeros((1, 20, 18, 1), np.float32)
    drawn = []
    for target in (labels[np.newaxis, ..., np.newaxis], scheme.encode(labels)[np.newaxis]):
        drawn.append(augmentation.run(image, target, np.random.default_rng(4))[1][0])
    # Outside of the image labels are background, which only one-hot targets distinguish from no annotation.
    inside = drawn[1].sum(-1) > 0
    assert 50 < inside.sum() < 200
    assert np.array_equal(scheme.encode(drawn[0][..., 0].astype(int))[inside], drawn[1][inside])


def test_padding_may_use_the_label_of_voxels_without_annotation():
    sample = data_io(labels_with(9), label_map={9: "ignore"}).sample_loader("a")
    Padding((24, 24), pad_value_seg=3).preprocessing(sample)
    assert sample.seg_data[0, 0, 0] == 3
    with pytest.raises(ConfigurationError, match="pad_value_seg=4 is not a class"):
        Padding((24, 24), pad_value_seg=4).preprocessing(sample)


@pytest.mark.parametrize("regions", [None, {"whole": [1, 2]}])
def test_batches_of_scripts_hold_the_training_target(regions):
    io = data_io(labels_with(9), regions, {9: "ignore"})
    preprocessor = Preprocessor(io, 1, analysis="fullimage", data_aug=None, seed=0)
    ((_, target),) = preprocessor.run(["a"])
    truth = io.sample_loader("a").seg_data[..., 0]
    assert np.array_equal(target[0], io.sample_loader("a").scheme.encode(truth))
    assert target[0, :, 9:].sum() == 0
