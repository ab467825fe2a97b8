"""The fast layers do what Keras' own do."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import layers
from miscnn_tf.neural_network.keras_internals import all_layers

PAIRS = [
    (layers.Conv2D, keras.layers.Conv2D, {"filters": 3, "kernel_size": 3, "padding": "same", "activation": "relu"}),
    (layers.Conv3D, keras.layers.Conv3D, {"filters": 3, "kernel_size": 3, "padding": "same"}),
    (layers.Conv2DTranspose, keras.layers.Conv2DTranspose, {"filters": 3, "kernel_size": 2, "strides": 2}),
    (
        layers.Conv3DTranspose,
        keras.layers.Conv3DTranspose,
        {"filters": 3, "kernel_size": (1, 3, 2), "strides": (1, 2, 2), "padding": "same", "activation": "relu"},
    ),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize(("ours", "reference", "arguments"), PAIRS, ids=lambda value: getattr(value, "__name__", None))
def test_same_output_and_gradients_as_keras(ours, reference, arguments, dtype, tolerance, same_as_keras):
    spatial = (6, 4) if "2D" in ours.__name__ else (6, 4, 5)
    same_as_keras(ours(dtype=dtype, **arguments), reference(dtype=dtype, **arguments), spatial, tolerance)


@pytest.mark.parametrize("convolution", ["Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose"])
def test_bias_gradient_of_bfloat16_is_summed_in_float32(convolution):
    # 65536 times 1 in bfloat16, which cannot count beyond 256.
    layer = getattr(layers, convolution)(1, 1, dtype="mixed_bfloat16")
    x = tf.zeros((1, 256, 256, 1) if "2D" in convolution else (1, 64, 64, 16, 1))
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(tf.cast(layer(x), tf.float32))
    assert tape.gradient(y, layer.bias.value).numpy().tolist() == [65536]


@pytest.mark.parametrize("convolution", ["Conv2D", "Conv2DTranspose"])
def test_channels_first_do_as_keras_does(convolution, rng):
    if not layers.onednn.computes():
        pytest.skip("TensorFlow has no such convolution on this processor without oneDNN")
    x = rng.normal(size=(2, 3, 6, 7)).astype("float32")
    outputs, weights = [], None
    for module in (keras.layers, layers):
        layer = getattr(module, convolution)(5, 2, data_format="channels_first", dtype="mixed_bfloat16")
        layer.build(x.shape)
        weights = weights or [rng.normal(size=weight.shape) for weight in layer.weights]
        layer.set_weights(weights)
        outputs.append(np.asarray(tf.cast(layer(x), tf.float32)))
    np.testing.assert_array_equal(*outputs)


def test_convolutions_of_a_users_network_are_mended_wherever_they_are():
    class Special(keras.layers.Conv3D):
        """A user's own, which may compute otherwise."""

    class Twice(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv3D(2, 3, padding="same")

        def call(self, inputs):
            return self.convolution(self.convolution(inputs))

    image = keras.Input((4, 4, 4, 2))
    inner = keras.Sequential([keras.Input((4, 4, 4, 2)), keras.layers.Conv3DTranspose(2, 3, padding="same")])
    model = keras.Model(image, Special(1, 1)(Twice()(inner(image))))
    before, x = [layer.name for layer in model.layers], np.ones((1, 4, 4, 4, 2), "float32")
    expected = model(x).numpy()
    layers.mend_layers(model, "float32")
    assert not {layers.Conv3DTranspose, layers.Conv3D} & set(map(type, all_layers(model)))
    layers.mend_layers(model, "mixed_bfloat16")
    kinds = {type(layer) for layer in all_layers(model)}
    assert {layers.Conv3DTranspose, layers.Conv3D, Special} <= kinds
    assert not {keras.layers.Conv3DTranspose, keras.layers.Conv3D} & kinds
    assert [layer.name for layer in model.layers] == before
    np.testing.assert_array_equal(model(x), expected)


def test_float16_volumes_are_pooled_on_a_cpu(rng):
    x = rng.normal(size=(1, 4, 4, 4, 2)).astype("float16")
    expected = x.reshape(1, 2, 2, 2, 2, 2, 2, 2).max((2, 4, 6))
    y = layers.MaxPooling3D(2, dtype="float16")(x)
    assert y.dtype == "float16"
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("precision", "with_onednn", "kind"),
    [
        ("float32", True, keras.layers.MaxPooling3D),
        ("mixed_bfloat16", True, keras.layers.MaxPooling3D),
        ("float32", False, layers.MaxPooling3D),
        ("mixed_float16", True, layers.MaxPooling3D),
    ],
)
def test_pooling_of_a_users_network_is_mended_where_it_is_wrong(precision, with_onednn, kind, monkeypatch):
    monkeypatch.setattr(layers.onednn, "computes", lambda: with_onednn)
    model = keras.Sequential([keras.Input((4, 4, 4, 2)), keras.layers.MaxPooling3D()])
    layers.mend_layers(model, precision)
    assert type(model.layers[0]) is kind
    assert model(np.ones((1, 4, 4, 4, 2), "float32")).shape == (1, 2, 2, 2, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("with_onednn", [False, True])
@pytest.mark.parametrize("size", [2, (1, 2, 2), 3])
def test_pooling_hands_each_gradient_on_once_whoever_has_the_maximum(dtype, graph, with_onednn, size, rng, monkeypatch):
    """Of 8 zeros TensorFlow's own kernel gives the gradient to each."""
    if not with_onednn:
        monkeypatch.setattr(layers.onednn, "computes", lambda: False)
    elif not layers.onednn.computes():
        pytest.skip("TensorFlow computes without oneDNN on this processor")
    layer = layers.MaxPooling3D(size, dtype=dtype)
    x = tf.constant(np.maximum(rng.integers(-3, 3, (2, 6, 7, 8, 2)), 0), dtype)

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            total = tf.reduce_sum(tf.cast(y, tf.float32))
        return y, tape.gradient(total, x)

    signature = [tf.TensorSpec((None, None, None, None, 2), dtype)]
    y, gradient = (tf.function(run, input_signature=signature) if graph else run)(x)
    np.testing.assert_array_equal(
        tf.cast(y, tf.float32), keras.layers.MaxPooling3D(size)(tf.cast(x, tf.float32)).numpy()
    )
    # Each window hands on 1; what belongs to none gets nothing.
    edges = (size,) * 3 if isinstance(size, int) else size
    found = np.asarray(tf.cast(gradient, tf.float32))
    whole = found[:, *(slice(length // edge * edge) for length, edge in zip(x.shape[1:4], edges, strict=True))]
    assert whole.sum() == pytest.approx(found.sum())
    per_window = keras.layers.AveragePooling3D(size)(whole).numpy() * np.prod(edges)
    np.testing.assert_allclose(per_window, 1, atol=0.02)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("spatial", [(2, 1, 3), (2, 4, 2), (1, 2, 2), (3, 2, 2)])
def test_gradient_of_the_kernel_in_bfloat16_where_the_first_axis_is_short(spatial, dynamic, rng):
    """oneDNN leaves it unwritten where the axis is 2: NaN weights after the first step."""
    x = rng.normal(size=(2, *spatial, 6)).astype("float32")
    upstream = rng.normal(size=(2, *spatial, 12)).astype("float32")
    results = []
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        layer = layers.Conv3D(12, 3, padding="same", dtype=dtype)
        layer.build(x.shape)

        @tf.function(input_signature=[tf.TensorSpec((None, *(None,) * 3, 6) if dynamic else x.shape)])
        def run(x, layer=layer):
            with tf.GradientTape() as tape:
                y = tf.cast(layer(x), tf.float32)
                objective = tf.reduce_sum(y * upstream)
            return y, tape.gradient(objective, layer.trainable_variables[0].value)

        # What was freed last is what unwritten memory holds.
        del_me = tf.fill((27 * 6 * 12,), tf.constant(float("nan"), tf.bfloat16))
        del del_me
        results.append([np.asarray(tf.cast(tensor, tf.float32)) for tensor in run(x)])
    for expected, result in zip(*results, strict=True):
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(2, 2), (3, 1), (2, 2, 2), (1, 2, 3)])
def test_linear_upsampling_against_scipy(size, rng):
    x = rng.normal(size=(2, *(4, 3, 5)[: len(size)], 2)).astype("float32")
    expected = scipy.ndimage.zoom(
        x.astype(float), (1, *size, 1), order=1, mode="nearest", grid_mode=True, prefilter=False
    )
    layer = layers.LinearUpsampling(size)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    assert layer.compute_output_shape((None, *(4, None, 5)[: len(size)], 2)) == (
        None,
        *(None if n is None else n * f for n, f in zip((4, None, 5), size, strict=False)),
        2,
    )
    unknown = tf.function(layer, input_signature=[tf.TensorSpec((None,) * (x.ndim - 1) + (2,))])
    np.testing.assert_allclose(unknown(x), expected, atol=1e-5)


def test_channels_are_dealt_out_in_turn(rng):
    x = rng.normal(size=(1, 2, 2, 5)).astype("float32")
    for first in range(2):
        layer = layers.SelectChannels(first, 2)
        np.testing.assert_array_equal(layer(x), x[..., first::2])
        assert layer.compute_output_shape(x.shape) == x[..., first::2].shape


@pytest.mark.parametrize("layer", [layers.LinearUpsampling((1, 2)), layers.SelectChannels(1, 3)])
def test_layers_are_built_from_their_configuration(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_arguments_of_layers_that_cannot_work_are_refused():
    with pytest.raises(ConfigurationError, match="LinearUpsampling: size"):
        layers.LinearUpsampling((0, 2))
    with pytest.raises(ConfigurationError, match="SelectChannels: step"):
        layers.SelectChannels(0, 0)
