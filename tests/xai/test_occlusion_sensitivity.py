"""Occlusion against networks that look at one known voxel, and against whole images covered box by box."""

from __future__ import annotations

import copy
import itertools

import keras
import numpy as np
import pytest
from pointwise import Pointwise

import miscnn_tf
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.xai import occlusion_sensitivity


class OneVoxel(Abstract_Architecture):
    """The probability of class 1 is, everywhere, the sigmoid of one voxel."""

    PLACE = (5, 2, 3)

    def create_model(self, input_shape, n_labels=2):
        axes = len(input_shape) - 1
        image = keras.Input(input_shape)
        voxel = image[:, *(slice(place, place + 1) for place in self.PLACE[:axes]), :]
        logit = (keras.layers.UpSampling2D if axes == 2 else keras.layers.UpSampling3D)(input_shape[:-1])(voxel)
        return keras.Model(image, keras.layers.Softmax()(keras.layers.Concatenate()([logit * 0, logit])))


def sigmoid(value):
    return 1 / (1 + np.exp(-float(value)))


class FirstAndLastChannel(Abstract_Architecture):
    """The logit of class 1 is the sum of the first and the last channel."""

    def create_model(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        logit = image[..., :1] + image[..., -1:]
        return keras.Model(image, keras.layers.Softmax()(keras.layers.Concatenate()([logit * 0, logit])))


def test_the_segmentation_of_the_previous_stage_is_not_covered(tmp_path, rng):
    image = rng.normal(size=(8, 6)).astype(np.float32)
    previous = rng.integers(0, 2, (8, 6)).astype(np.uint8)
    (tmp_path / "first").mkdir()
    np.save(tmp_path / "first" / "a.npy", previous)
    interface = miscnn_tf.Dictionary_interface({"a": (image, None)}, channels=1, classes=2, three_dim=False)
    io = miscnn_tf.Data_IO(interface, "", tmp_path / "predictions", tmp_path / "batches")
    stage = miscnn_tf.PreviousStage(tmp_path / "first")
    preprocessor = miscnn_tf.Preprocessor(io, 1, patch_shape=(8, 6), previous_stage=stage)
    network = miscnn_tf.Neural_Network(preprocessor, FirstAndLastChannel(), precision="float32")
    (drop,) = occlusion_sensitivity("a", network, size=1, value=-3.0, region="all", return_output=True)
    before, after = (1 / (1 + np.exp(-(values + previous))) for values in (image, np.full_like(image, -3)))
    np.testing.assert_allclose(drop[..., 0] * image.size, before - after, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 4)])
def test_only_boxes_over_the_voxel_that_counts_matter(network_on, rng, shape):
    image = rng.normal(size=shape).astype(np.float32)
    place = OneVoxel.PLACE[: len(shape)]
    image[place] = 2.0
    network = network_on({"a": image}, OneVoxel(), shape, classes=2)
    (drop,) = occlusion_sensitivity("a", network, size=2, value=-1.0, region="all", return_output=True)
    assert drop.shape == (*shape, 1)
    assert drop.dtype == np.float32
    expected = np.zeros(shape)
    expected[tuple(slice(first // 2 * 2, first // 2 * 2 + 2) for first in place)] = sigmoid(2) - sigmoid(-1)
    np.testing.assert_allclose(drop[..., 0], expected, atol=1e-6)
    # The background gains what the class loses.
    (both,) = occlusion_sensitivity("a", network, [0, 1], 2, None, -1.0, "all", return_output=True)
    np.testing.assert_allclose(both[..., 0], -expected, atol=1e-6)


def test_by_default_boxes_are_a_quarter_of_the_window_and_hold_the_mean(network_on, rng):
    image = rng.normal(size=(8, 12)).astype(np.float32)
    image[OneVoxel.PLACE[:2]] = 3.0
    network = network_on({"a": image}, OneVoxel(), (8, 12), classes=2)
    (drop,) = occlusion_sensitivity("a", network, return_output=True)
    expected = np.zeros(image.shape)
    expected[4:6, 0:3] = sigmoid(3) - sigmoid(image.mean())
    np.testing.assert_allclose(drop[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "patch", "overlap"),
    [((10, 9), (8, 8), (4, 4)), ((7, 10), None, 0), ((6, 5, 9), (8, 4, 8), (4, 2, 4))],
)
def test_overlapping_boxes_and_windows_agree_with_covering_the_whole_image(network_on, rng, shape, patch, overlap):
    """The second image is smaller than the network's multiple, the third than the patch on one axis."""
    image = rng.normal(size=shape).astype(np.float32)
    mask = rng.random(shape) < 0.4
    network = network_on({"a": image}, Architecture(n_filters=4, depth=1), patch, overlap=overlap)
    (drop,) = occlusion_sensitivity(
        "a", network, [2, 1], size=4, stride=3, value=0.7, region={"a": mask}, return_output=True
    )
    sample = network.prepared("a")
    size = tuple(min(4, voxels) for voxels in shape)
    starts = [sorted({*range(0, voxels - box, 3), voxels - box}) for voxels, box in zip(shape, size, strict=True)]
    total, times = np.zeros((*shape, 2)), np.zeros((*shape, 1))
    before = network.predict_sample(sample, activation_output=True)[mask].mean(axis=0)
    for start in itertools.product(*starts):
        box = tuple(slice(first, first + voxels) for first, voxels in zip(start, size, strict=True))
        covered = copy.copy(sample)
        covered.img_data = sample.img_data.copy()
        covered.img_data[box] = 0.7
        after = network.predict_sample(covered, activation_output=True)[mask].mean(axis=0)
        total[box] += (before - after)[[2, 1]]
        times[box] += 1
    expected = total / times
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(drop, expected, atol=1e-6)


def test_the_region_is_what_was_predicted_before_anything_was_covered(network_on, rng):
    image = rng.normal(size=(8, 8)).astype(np.float32)
    network = network_on({"a": image}, Pointwise())
    (drop,) = occlusion_sensitivity("a", network, 1, size=1, value=0.0, return_output=True)
    probabilities = network.predict_array(image, activation_output=True)
    chosen = probabilities.argmax(-1) == 1
    covered = network.predict_array(np.zeros((8, 8), np.float32), activation_output=True)[0, 0, 1]
    # Voxel for voxel, as the network looks at each alone.
    expected = np.where(chosen, (probabilities[..., 1] - covered) / np.count_nonzero(chosen), 0)
    assert 0 < np.count_nonzero(chosen) < chosen.size
    np.testing.assert_allclose(drop[..., 0], expected, atol=1e-6)


def test_a_class_that_is_nowhere_has_a_map_of_zeros(network_on, rng):
    image = rng.normal(size=(8, 8)).astype(np.float32)
    network = network_on({"a": image}, Pointwise())
    drop = occlusion_sensitivity("a", network, size=4, region={"a": np.zeros((8, 8))}, return_output=True)
    np.testing.assert_array_equal(drop, np.zeros((1, 8, 8, 2)))


def test_the_module_and_its_function_are_called_alike(network_on, rng):
    from miscnn_tf.xai.occlusion_sensitivity import occlusion_sensitivity as function

    network = network_on({"a": rng.normal(size=(8, 8)).astype(np.float32)}, Pointwise())
    maps = [each("a", network, return_output=True) for each in (occlusion_sensitivity, function)]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"size": (2, 2, 2)}, "size=.*needs 2 numbers"),
        ({"size": 2, "stride": 3}, "leaves gaps"),
        ({"stride": 1.5}, "stride must be"),
        ({"value": (1, 2)}, "one for each of 1 channels"),
        ({"value": "grey"}, "value must be a number"),
    ],
)
def test_what_cannot_be_is_refused(network_on, arguments, words):
    network = network_on({"a": np.zeros((8, 8), np.float32)}, Pointwise())
    with pytest.raises(ConfigurationError, match=words):
        occlusion_sensitivity("a", network, return_output=True, **arguments)
