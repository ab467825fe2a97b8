"""``patchwise_blending = "nnunet"``: logits are averaged over patches, flips and networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.data_loading.label_scheme import Region
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.processing.patching.blending import window_weights

REGIONS = {"whole": [1, 2], "core": [2]}


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def logits_of(network, image):
    """Return the logits of a patch by the weights of the last layer, a convolution of one voxel."""
    last = network.model.layers[-1]
    features = keras.Model(network.model.inputs, last.input)(image[np.newaxis])
    kernel, bias = map(np.asarray, last.weights)
    return np.asarray(features)[0] @ kernel.reshape(kernel.shape[-2:]) + bias


@pytest.fixture
def make(make_tiny_network, toy_io):
    def make(seed=0, regions=None):
        io = toy_io(classes=3)
        if regions is not None:
            io.interface.regions, io.interface.regions_class_order = regions, (1, 2)
        network = make_tiny_network(io, seed=seed)
        # Large logits: of small ones the mean of probabilities is nearly the same.
        weights = network.model.get_weights()
        network.model.set_weights([*weights[:-2], 30 * weights[-2], weights[-1]])
        network.preprocessor.patchwise_overlap = 0.5
        network.preprocessor.patchwise_blending = "nnunet"
        return network

    return make


def test_of_one_patch_the_probabilities_are_those_of_the_network(make, rng):
    network, image = make(), rng.standard_normal((8, 8, 8, 1)).astype(np.float32)
    found = network.predict_array(image, activation_output=True)
    expected = network.model.predict(image[np.newaxis], verbose=0)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(network.predict_array(image), expected.argmax(-1))
    assert network.model.layers[-1].activation is keras.activations.softmax
    # Explanations and scripts get probabilities.
    (patch,) = network.patch_predictor()(iter([image]))
    np.testing.assert_allclose(patch, expected, atol=1e-6)


def test_logits_are_averaged_over_patches_flips_and_networks(make, rng):
    image = rng.standard_normal((13, 8, 8, 1)).astype(np.float32)
    networks = [make(0), make(1)]
    for network in networks[1:]:
        network.preprocessor = networks[0].preprocessor
    starts = (0, 2, 5)  # evenly, with half overlap
    weights = window_weights(starts, 8, "nnunet")
    means = []
    for network in networks:
        total = np.zeros((13, 8, 8, 3))
        for start, weight in zip(starts, weights, strict=True):
            part = image[start : start + 8]
            flipped = logits_of(network, part[:, ::-1])[:, ::-1]
            total[start : start + 8] += weight[:, None, None, None] * (logits_of(network, part) + flipped) / 2
        means.append(total)
    augmentation = networks[0].preprocessor.data_augmentation
    augmentation.infaug, augmentation.infaug_flip_list = True, [2]
    group = Model_Group(networks, networks[0].preprocessor)
    for model, expected in ((networks[0], means[0]), (networks[1], means[1]), (group, np.mean(means, 0))):
        model.verbose = 0
        found = model.predict_array(image, activation_output=True)
        np.testing.assert_allclose(found, softmax(expected), atol=2e-4)
        assert np.mean(model.predict_array(image) == expected.argmax(-1)) > 0.999
    # The mean of probabilities is another result.
    networks[0].preprocessor.patchwise_blending = "gaussian"
    other = group.predict_array(image, activation_output=True)
    assert np.abs(other - softmax(np.mean(means, 0))).max() > 0.05


def test_regions_are_decided_by_the_sign_of_the_logits(make, rng):
    network = make(regions=REGIONS)
    assert network.scheme.regions == (Region("whole", (1, 2), 1), Region("core", (2,), 2))
    image = rng.standard_normal((8, 8, 8, 1)).astype(np.float32)
    logits = logits_of(network, image)
    found = network.predict_array(image, activation_output=True)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)
    expected = np.where(logits[..., 1] > 0, 2, np.where(logits[..., 0] > 0, 1, 0))
    assert np.mean(network.predict_array(image) == expected) > 0.999


def test_a_model_file_keeps_it(make, rng, tmp_path):
    network, image = make(), rng.standard_normal((13, 8, 8, 1)).astype(np.float32)
    network.model_card = {"source": "elsewhere"}
    network.dump(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.preprocessor.patchwise_blending == "nnunet"
    assert loaded.model_card == {"source": "elsewhere"}
    np.testing.assert_array_equal(loaded.predict_array(image), network.predict_array(image))


def test_a_network_without_softmax_is_an_error(make):
    network = make()
    network.model.layers[-1].activation = keras.activations.linear
    with pytest.raises(ConfigurationError, match="the last layer of the network has no softmax or sigmoid"):
        network.predict_array(np.zeros((8, 8, 8, 1), np.float32))
