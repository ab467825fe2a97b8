"""MedNeXt: weights, blocks, padding and outputs. ``benchmarks/parity.py`` compares it with MONAI's."""

from __future__ import annotations

import keras
import numpy as np
import onnxruntime
import pytest
from scipy import signal, special

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.nnunet import MedNeXt
from miscnn_tf.neural_network.architecture.nnunet.mednext import VARIANTS


def block_weights(channels, ratio, kernel, filters):
    depthwise = channels * (kernel**3 + 1)
    return depthwise + 2 * channels + ratio * channels * (channels + 1) + filters * (ratio * channels + 1)


@pytest.mark.parametrize(
    ("size", "kernel", "millions"),
    [("S", 3, 5.55), ("S", 5, 5.98), ("B", 3, 10.53), ("B", 5, 10.96), ("M", 3, 17.55), ("L", 3, 61.78)],
)
def test_weights_of_the_published_sizes(size, kernel, millions):
    """The sum over all blocks: by hand in millions for 32 filters, exactly for 2."""

    def total(filters):
        blocks, ratios = VARIANTS[size]
        weights = 2 * filters + 14 * filters + 14  # stem and output
        for level in range(4):
            channels = filters * 2**level
            weights += 2 * blocks[level] * block_weights(channels, ratios[level], kernel, channels)
            weights += block_weights(channels, ratios[level + 1], kernel, 2 * channels)
            weights += block_weights(2 * channels, ratios[level], kernel, channels)
            weights += 2 * channels * (channels + 1) + channels * (2 * channels + 1)  # shortcuts
        return weights + blocks[4] * block_weights(16 * filters, ratios[4], kernel, 16 * filters)

    assert round(total(32) / 1e6, 2) == millions
    assert MedNeXt(size, kernel, n_filters=2).create_model((16, 16, 16, 1), 14).count_params() == total(2)


def pointwise(x, layer):
    return np.tensordot(x, np.asarray(layer.kernel)[0, 0], 1) + np.asarray(layer.bias)


def inner(x, model, name):
    """Instance normalisation, expansion with GELU, and compression."""
    norm = model.get_layer(f"{name}_conv1_norm")
    x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5) * norm.gamma + norm.beta
    x = pointwise(x, model.get_layer(f"{name}_conv2"))
    return pointwise(x * (1 + special.erf(x / np.sqrt(2))) / 2, model.get_layer(f"{name}_conv3"))


def depthwise(x, model, name):
    layer = model.get_layer(f"{name}_conv1")
    kernel = np.asarray(layer.kernel)[..., 0, :]
    planes = [signal.correlate2d(x[..., c], kernel[..., c], mode="same") for c in range(x.shape[-1])]
    return np.stack(planes, -1) + np.asarray(layer.bias)


def between(model, first, last, image):
    """Return the values of two layers' outputs for an image."""
    part = keras.Model(model.input, [model.get_layer(first).output, model.get_layer(last).output])
    return [np.asarray(values)[0].astype(np.float64) for values in part(image)]


def test_the_blocks_by_their_formula(rng):
    model = MedNeXt("B", 5, n_filters=4).create_model((32, 48, 2))
    for weight in model.weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    image = rng.normal(size=(1, 32, 48, 2)).astype(np.float32)

    x, found = between(model, "stem", "down0_block0_sum", image)
    name = "down0_block0"
    np.testing.assert_allclose(found, x + inner(depthwise(x, model, name), model, name), atol=1e-4)

    x, found = between(model, "down0_block1_sum", "down0_halved_sum", image)
    name = "down0_halved"
    expected = inner(depthwise(x, model, name)[::2, ::2], model, name)
    expected += pointwise(x[::2, ::2], model.get_layer(f"{name}_shortcut"))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # The ratio of the coarser level.
    assert model.get_layer(f"{name}_conv2").filters == 3 * 4


def test_a_doubled_grid_begins_with_zeros(rng):
    """The transposed convolutions return one voxel less than twice as many."""
    model = MedNeXt("S", n_filters=4).create_model((32, 32, 16, 1))
    image = rng.normal(size=(2, 32, 32, 16, 1)).astype(np.float32)
    part = keras.Model(model.input, [model.get_layer(f"up0_doubled_{end}").output for end in ("sum", "padding")])
    values, padded = part(image)
    assert values.shape == (2, 31, 31, 15, 4)
    expected = np.pad(values, [(0, 0), (1, 0), (1, 0), (1, 0), (0, 0)])
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize("shape", [(16, 32, 1), (32, 16, 16, 1)])
def test_deep_supervision_adds_outputs_down_to_the_bottleneck(shape, rng):
    model = MedNeXt(n_filters=2, deep_supervision=True).create_model(shape, n_labels=3)
    assert model.output_shape == [(None, *(size // 2**level for size in shape[:-1]), 3) for level in range(5)]
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    for output in model(image):
        np.testing.assert_allclose(keras.ops.sum(output, -1), 1, rtol=1e-5)
    # The same network without it: the first output and the same weights.
    alone = MedNeXt(n_filters=2).create_model(shape, n_labels=3)
    weights = {weight.path: weight for weight in model.weights}
    for weight in alone.weights:
        weight.assign(weights[weight.path])
    np.testing.assert_allclose(alone(image), model(image)[0], atol=1e-6)


@pytest.mark.slow  # the export takes half a minute
@pytest.mark.parametrize(("deep_supervision", "precision"), [(False, "float32"), (True, "mixed_bfloat16")])
def test_training_model_file_and_onnx(make_network, deep_supervision, precision, tmp_path, rng):
    architecture = MedNeXt(n_filters=2, deep_supervision=deep_supervision)
    network = make_network(architecture=architecture, precision=precision, processing={"patch_shape": (16, 16, 16)})
    samples = network.preprocessor.data_io.get_indiceslist()
    before = network.model.get_layer("up0_doubled_conv1").get_weights()[0]
    history = network.train(samples, epochs=1)
    assert np.isfinite(history.history["loss"]).all()
    assert np.any(before != network.model.get_layer("up0_doubled_conv1").get_weights()[0])

    network.dump(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for ours, theirs in zip(network.model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    network.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    image = rng.normal(size=(2, *network.preprocessor.patch_shape, network.channels)).astype(np.float32)
    (probabilities,) = session.run(None, {"image": image})
    expected = network.in_float32()(image, training=False)
    np.testing.assert_allclose(probabilities, expected[0] if deep_supervision else expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "XL"}, "size='XL' must be one of S, B, M, L"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"activation": "softmx"}, "not the name of a Keras activation"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        MedNeXt(**arguments)
    with pytest.raises(ConfigurationError, match=r"divisible by 16.*axis 1: 24 -> 16 or 32"):
        MedNeXt().create_model((32, 24, 1))
