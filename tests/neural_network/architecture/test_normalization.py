"""The fused kernel normalises as Keras' layers do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.neural_network.architecture.layers import BatchNormalization, InstanceNormalization

TOLERANCES = [("float32", 1e-5), ("mixed_bfloat16", 2e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_as_keras(training, dtype, tolerance, same_as_keras):
    arguments = {"momentum": 0.9, "dtype": dtype}
    ours, reference = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    same_as_keras(ours, reference, (6, 4, 5), tolerance, training)


def test_batch_normalisation_against_its_formula(rng):
    x = rng.normal(3.0, 2.0, (2, 4, 3, 5, 2))
    layer = BatchNormalization(momentum=0.5)
    layer.build(x.shape)
    layer.updates.assign(100)
    y = layer(x.astype("float32"), training=True)
    mean, variance = x.mean((0, 1, 2, 3)), x.var((0, 1, 2, 3))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.5 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.5 + 0.5 * variance, rtol=1e-5)


def test_moving_averages_describe_the_data_after_a_few_steps(rng):
    layer = BatchNormalization(momentum=0.99)
    steps = tf.Variable(0)
    average = tf.train.ExponentialMovingAverage(0.99, num_updates=steps)
    reference = tf.Variable([0.0, 0.0])
    average.apply([reference])
    for step in range(30):
        x = rng.normal(3.0, 2.0, (2, 8, 8, 2)).astype("float32")
        layer(x, training=True)
        steps.assign(step)
        reference.assign(x.mean((0, 1, 2)))
        average.apply([reference])
    np.testing.assert_allclose(layer.moving_mean, average.average(reference), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 3.0, atol=0.2)
    np.testing.assert_allclose(layer.moving_variance, 4.0, atol=0.4)


def test_a_frozen_layer_keeps_its_statistics(rng):
    layer = BatchNormalization()
    layer.trainable = False
    x = rng.normal(3.0, 2.0, (2, 4, 4, 2)).astype("float32")
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False))
    np.testing.assert_array_equal(layer.moving_mean, 0)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"axis": 1}, {"dtype": "float64"}])
def test_batch_normalisation_with_other_options(options, rng):
    x = rng.normal(3.0, 2.0, (2, 3, 4, 2))
    ours, reference = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    x = x.astype(ours.compute_dtype)
    np.testing.assert_allclose(ours(x, training=True), reference(x, training=True), atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("spatial", [(6, 4), (6, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_instance_normalisation_as_keras(options, spatial, dtype, tolerance, same_as_keras):
    reference = keras.layers.GroupNormalization(groups=-1, dtype=dtype, **{"epsilon": 1e-5, **options})
    same_as_keras(InstanceNormalization(dtype=dtype, **options), reference, spatial, tolerance)


@pytest.mark.parametrize("images", [1, 3])
def test_instance_normalisation_against_its_formula(images, rng):
    x = rng.normal(3.0, 2.0, (images, 4, 3, 5, 2))
    x[0] *= 100
    mean, variance = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    normalised = tf.function(InstanceNormalization(), input_signature=[tf.TensorSpec((None, None, 3, 5, 2))])
    np.testing.assert_allclose(normalised(x.astype("float32")), (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


@pytest.mark.parametrize("options", [{"axis": 1}, {"dtype": "float64"}])
def test_instance_normalisation_with_other_options(options, rng):
    ours = InstanceNormalization(**options)
    x = rng.normal(3.0, 2.0, (2, 3, 4, 2)).astype(ours.compute_dtype)
    np.testing.assert_allclose(ours(x), keras.layers.GroupNormalization(-1, epsilon=1e-5, **options)(x), atol=1e-5)


@pytest.mark.parametrize("layer", [BatchNormalization(momentum=0.5), InstanceNormalization(scale=False)])
def test_layers_are_built_from_their_configuration(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
