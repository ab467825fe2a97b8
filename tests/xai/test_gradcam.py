"""Grad-CAM against what a network of single voxels gives by hand, and against gradients taken the simple way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from pointwise import Pointwise
from scipy import ndimage

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.xai.gradcam import compute_gradient_heatmap

SHAPES = {2: (9, 7), 3: (6, 7, 5)}


def by_hand(image, region):
    """Features, scores and raw heat maps of `Pointwise`, in float64; `region` is a name or a mask."""
    (w, b), (v, c) = Pointwise.FEATURES, Pointwise.CLASSES
    features = image[..., None].astype(float) @ w + b
    scores = features @ v + c
    heat = np.zeros(scores.shape)
    for number in range(3):
        chosen = {"all": np.ones(image.shape, bool), "predicted": scores.argmax(-1) == number}.get(
            region if isinstance(region, str) else "", region
        )
        # The score's gradient by a feature map is the class's weight where the score is taken, 0 elsewhere.
        heat[..., number] = np.maximum(features @ (v[:, number] * np.count_nonzero(chosen) / image.size), 0)
    return heat


@pytest.mark.parametrize("axes", [2, 3])
def test_one_window_gives_the_equations_of_the_paper(network_on, rng, axes):
    image = rng.normal(size=SHAPES[axes]).astype(np.float32)
    mask = rng.random(image.shape) < 0.3
    network = network_on({"a": image}, Pointwise())
    for region in ("all", "predicted", mask):
        given = region if isinstance(region, str) else {"a": region}
        (heat,) = compute_gradient_heatmap("a", network, [0, 1, 2], region=given, normalize=False, return_output=True)
        assert heat.dtype == np.float32
        np.testing.assert_allclose(heat, by_hand(image, region), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("region", ["all", "predicted", "truth"])
def test_windows_give_the_map_of_the_whole_image(network_on, rng, axes, region):
    image = rng.normal(size=SHAPES[axes]).astype(np.float32)
    truth = rng.integers(0, 3, image.shape).astype(np.uint8)
    # The last axis is smaller than the patch, and the first one not a multiple.
    patch = (4, *SHAPES[axes][1:-1], 8)
    network = network_on(
        {"a": image}, Pointwise(), patch, overlap=tuple(size // 2 for size in patch), truth={"a": truth}
    )
    (heat,) = compute_gradient_heatmap("a", network, [0, 1, 2], region=region, return_output=True)
    whole = np.stack([by_hand(image, truth == each)[..., each] for each in range(3)], -1)
    expected = whole if region == "truth" else by_hand(image, region)
    # What the network sees outside the image adds nothing, so that only the scale differs.
    np.testing.assert_allclose(heat, expected / expected.max(axis=tuple(range(axes))), rtol=1e-4, atol=1e-5)


def naive(model, layer, windows, counts, number):
    """Grad-CAM of a class of each window, on the layer's grid, with Keras and a tape, and the output layer redone."""
    output = model.get_layer("output")
    inner = keras.Model(model.inputs[0], [model.get_layer(layer).output, output.input])
    kernel, bias = output.get_weights()
    kernel = kernel.reshape(kernel.shape[-2:])
    gradients, maps = [], []
    for window, count in zip(windows, counts, strict=True):
        with tf.GradientTape() as tape:
            features, last = inner(window[None, ..., None])
            score = tf.reduce_sum((last @ kernel + bias)[0, ..., number] * count)
        gradients.append(tape.gradient(score, features)[0].numpy())
        maps.append(features[0].numpy())
    axes = tuple(range(maps[0].ndim - 1))
    weights = np.mean([gradient.mean(axis=axes) for gradient in gradients], axis=0)
    return [np.maximum(features @ weights, 0) for features in maps]


def enlarged(heat, shape):
    return ndimage.zoom(heat, np.divide(shape, heat.shape), order=1, mode="nearest", grid_mode=True)


@pytest.mark.parametrize("layer", [None, "down0_conv1", "up0_upsample"])
def test_whole_images_agree_with_keras_gradients(network_on, rng, layer):
    image = rng.normal(size=(12, 8)).astype(np.float32)
    network = network_on({"a": image}, Architecture(n_filters=4, depth=1))
    (heat,) = compute_gradient_heatmap("a", network, [0, 1, 2], layer, "all", normalize=False, return_output=True)
    everywhere = [np.ones(image.shape, np.float32)]
    for number in range(3):
        (expected,) = naive(network.model, layer or "bridge_conv1", [image], everywhere, number)
        np.testing.assert_allclose(heat[..., number], enlarged(expected, image.shape), rtol=1e-3, atol=1e-7)
    assert heat.max() > 1e-3


def test_overlapping_windows_agree_with_keras_gradients_of_the_blended_score(network_on, rng):
    image = rng.normal(size=(12, 8, 8)).astype(np.float32)
    network = network_on({"a": image}, Architecture(n_filters=4, depth=1), (8, 8, 8), overlap=(4, 0, 0))
    network.preprocessor.patchwise_blending = "average"
    (heat,) = compute_gradient_heatmap("a", network, [0, 1, 2], region="all", normalize=False, return_output=True)
    # Two windows, which share the middle four rows.
    count = np.ones((12, 1, 1), np.float32)
    count[4:8] = 0.5
    windows, counts = (
        [image[:8], image[4:]],
        [np.broadcast_to(count[rows], (8, 8, 8)) for rows in (slice(8), slice(4, 12))],
    )
    for number in range(3):
        maps = naive(network.model, "bridge_conv1", windows, counts, number)
        expected = np.zeros(image.shape)
        expected[:8] += enlarged(maps[0], (8, 8, 8))
        expected[4:] += enlarged(maps[1], (8, 8, 8))
        np.testing.assert_allclose(heat[..., number], expected * count, rtol=1e-3, atol=1e-7)
    assert heat.max() > 1e-3


def test_maps_are_shares_of_the_largest_unless_asked_otherwise(network_on, rng):
    image = rng.normal(size=(8, 8)).astype(np.float32)
    network = network_on({"a": image}, Pointwise())
    (raw,) = compute_gradient_heatmap("a", network, normalize=False, return_output=True)
    (heat,) = compute_gradient_heatmap("a", network, return_output=True)
    assert heat.shape == (8, 8, 2)  # all but the background
    np.testing.assert_allclose(heat, raw / raw.max(axis=(0, 1)), rtol=1e-6)


def test_a_class_that_is_nowhere_has_a_map_of_zeros(network_on):
    network = network_on({"a": np.ones((8, 8), np.float32)}, Pointwise())
    heat = compute_gradient_heatmap("a", network, region={"a": np.zeros((8, 8))}, return_output=True)
    np.testing.assert_array_equal(heat, np.zeros((1, 8, 8, 2)))


def test_weights_that_change_are_seen(network_on, rng):
    network = network_on({"a": rng.normal(size=(8, 8)).astype(np.float32)}, Architecture(n_filters=4, depth=1))
    (before,) = compute_gradient_heatmap("a", network, region="all", return_output=True)
    network.model.set_weights([weight + 0.1 for weight in network.model.get_weights()])
    (after,) = compute_gradient_heatmap("a", network, region="all", return_output=True)
    assert not np.allclose(before, after)


def test_half_precision_gives_about_the_same(network_on, rng):
    images = {"a": rng.normal(size=(8, 8)).astype(np.float32)}
    exact, half = (
        network_on(images, Architecture(n_filters=4, depth=1), precision=precision)
        for precision in ("float32", "mixed_bfloat16")
    )
    half.model.set_weights(exact.model.get_weights())
    maps = [compute_gradient_heatmap("a", each, region="all", return_output=True)[0] for each in (exact, half)]
    assert maps[0].max() == 1
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_a_wrong_layer_is_told_with_those_that_there_are(network_on):
    network = network_on({"a": np.zeros((8, 8), np.float32)}, Architecture(n_filters=4, depth=1))
    with pytest.raises(
        ConfigurationError, match=r"layer='nowhere'.*down0_conv0 \(8, 8\).*bridge_conv1 \(4, 4\)"
    ) as error:
        compute_gradient_heatmap("a", network, layer="nowhere", return_output=True)
    assert "output" not in str(error.value)


class Opaque(Abstract_Architecture):
    """A network whose layers lie within another one."""

    def create_model(self, input_shape, n_labels=3):
        class Inner(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.convolution = keras.layers.Conv2D(n_labels, 1, activation="softmax")

            def call(self, inputs):
                return self.convolution(inputs)

        image = keras.Input(input_shape)
        return keras.Model(image, Inner()(image))


def test_a_network_without_visible_convolutions_is_told(network_on):
    network = network_on({"a": np.zeros((8, 8), np.float32)}, Opaque())
    with pytest.raises(ConfigurationError, match="functional API"):
        compute_gradient_heatmap("a", network, return_output=True)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"classes": 3}, ConfigurationError, "classes must be a whole number from 0 to 2"),
        ({"classes": []}, ConfigurationError, "classes is empty"),
        ({"region": "some"}, ConfigurationError, "'predicted', 'all', 'truth'"),
        ({"region": 5}, ConfigurationError, "masks by sample"),
        ({"region": {"b": np.zeros((8, 8))}}, ConfigurationError, "no mask for sample 'a'"),
        ({"region": {"a": np.zeros((8, 9))}}, DataError, r"\(8, 9\).*\(8, 8\)"),
        ({"region": "truth"}, DataError, "segmentation"),
    ],
)
def test_what_cannot_be_is_refused(network_on, arguments, error, words):
    network = network_on({"a": np.zeros((8, 8), np.float32)}, Pointwise())
    with pytest.raises(error, match=words):
        compute_gradient_heatmap("a", network, return_output=True, **arguments)
