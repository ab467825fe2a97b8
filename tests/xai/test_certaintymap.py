"""Certainty maps are what prediction gives, and what SciPy makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.processing.subfunctions import Resize
from miscnn_tf.xai.certaintymap import compute_certaintymap, entropy


@pytest.mark.parametrize(("shape", "patch"), [((10, 9), (8, 8)), ((7, 10), None), ((6, 5, 9), (8, 4, 8))])
def test_maps_are_those_of_predict(network_on, rng, shape, patch):
    images = {name: rng.normal(size=shape).astype(np.float32) for name in "ab"}
    resize = Resize(tuple(size + 1 for size in shape))
    network = network_on(images, Architecture(n_filters=4, depth=1), patch, steps=[resize])
    expected = network.predict(["a", "b"], return_output=True, activation_output=True)
    for maps, probabilities in zip(
        compute_certaintymap(["a", "b"], network, classes=[0, 1, 2], return_output=True), expected, strict=True
    ):
        np.testing.assert_array_equal(maps, probabilities)
    (foreground,) = compute_certaintymap("b", network, return_output=True)
    np.testing.assert_array_equal(foreground, expected[1][..., 1:])
    (most,) = compute_certaintymap("a", network, "max", return_output=True)
    np.testing.assert_array_equal(most, expected[0].max(axis=-1))
    (undecided,) = compute_certaintymap("a", network, "entropy", return_output=True)
    assert undecided.shape == shape
    assert undecided.dtype == np.float32
    np.testing.assert_allclose(undecided, scipy_entropy(expected[0], base=3, axis=-1), atol=1e-5)


def test_flips_are_averaged(network_on, rng):
    network = network_on({"a": rng.normal(size=(8, 8)).astype(np.float32)}, Architecture(n_filters=4, depth=1))
    plain = network.predict("a", return_output=True, activation_output=True)
    flipped = network.predict_augmentated("a")
    expected = np.mean([*plain, *flipped], axis=0)
    assert not np.allclose(expected, plain[0])
    (maps,) = compute_certaintymap("a", network, classes=[0, 1, 2], flips=True, return_output=True)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    network.preprocessor.data_augmentation.infaug = True
    (as_predicted,) = compute_certaintymap("a", network, classes=[0, 1, 2], return_output=True)
    np.testing.assert_array_equal(as_predicted, maps)
    (unflipped,) = compute_certaintymap("a", network, classes=[0, 1, 2], flips=False, return_output=True)
    np.testing.assert_array_equal(unflipped, plain[0])


@pytest.mark.parametrize("classes", [2, 5])
def test_entropy_is_shannons_from_certain_to_undecided(rng, classes):
    probabilities = rng.dirichlet(np.full(classes, 0.3), size=(4, 5)).astype(np.float32)
    probabilities[0, 0] = np.eye(classes)[0]
    probabilities[0, 1] = 1 / classes
    found = entropy(probabilities)
    np.testing.assert_allclose(found, scipy_entropy(probabilities.astype(float), base=classes, axis=-1), atol=1e-5)
    assert found[0, 0] == 0
    np.testing.assert_allclose(found[0, 1], 1, atol=1e-6)
    # Of a sigmoid output, whose probabilities are each for themselves, the shares count.
    np.testing.assert_allclose(entropy(probabilities * np.float32(0.5)), found, atol=1e-6)


def test_what_cannot_be_is_refused(network_on):
    network = network_on({"a": np.zeros((8, 8), np.float32)}, Architecture(n_filters=4, depth=1))
    with pytest.raises(ConfigurationError, match="'probability', 'max', 'entropy'"):
        compute_certaintymap("a", network, kind="sureness")
    with pytest.raises(ConfigurationError, match="leave classes out"):
        compute_certaintymap("a", network, kind="max", classes=1)
