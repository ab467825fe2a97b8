from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.hardware import precision_scope
from miscnn_tf.neural_network.inference import WindowPredictor, prediction_batch_size


def brightness_model(axes, channels=1):
    """Class 1 with the probability of the voxel's value."""
    image = keras.Input((*(None,) * axes, channels))
    value = image[..., :1]
    return keras.Model(image, keras.ops.concatenate([1 - value, value], axis=-1))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(("windows", "batch_size"), [(1, 4), (4, 4), (7, 3), (5, 1)])
def test_every_window_comes_back_in_order(rng, axes, windows, batch_size):
    images = [rng.random((4,) * axes + (1,)).astype(np.float32) for _ in range(windows)]
    predictor = WindowPredictor(brightness_model(axes), (4,) * axes, 1, batch_size)
    outputs = list(predictor(iter(images)))
    assert len(outputs) == windows
    for image, output in zip(images, outputs, strict=True):
        np.testing.assert_allclose(output[..., 1], image[..., 0], atol=1e-6)


def test_the_graph_is_traced_once():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    image = keras.Input((None, None, 1))
    model = keras.Model(image, Counting()(image))
    traces.clear()
    predictor = WindowPredictor(model, (4, 4), 1, batch_size=2)
    for _ in range(3):
        list(predictor(np.zeros((5, 4, 4, 1), np.float32)))
    assert len(traces) == 1
    assert tuple(traces[0]) == (2, 4, 4, 1)


def test_many_networks_are_no_reason_to_warn():
    """In a process of its own: TensorFlow warns twice of functions that stand in one place, then never again."""
    script = """
import keras, numpy as np
from miscnn_tf.neural_network.inference import WindowPredictor
image = keras.Input((4, 4, 1))
for _ in range(8):
    list(WindowPredictor(keras.Model(image, image * 2), (4, 4), 1)([np.ones((4, 4, 1), np.float32)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert "retracing" not in done.stderr


def test_whole_images_of_many_sizes_share_one_graph():
    predictor = WindowPredictor(brightness_model(2), (None, None), 1)
    for shape in [(4, 4), (6, 8), (16, 2)]:
        (output,) = predictor([np.ones((*shape, 1), np.float32)])
        assert output.shape == (*shape, 2)


def test_small_patches_are_predicted_together_large_ones_alone():
    assert prediction_batch_size((40, 56, 40), 4, on_gpu=False) == 1
    assert prediction_batch_size((64, 64), 32, on_gpu=False) == 8
    assert prediction_batch_size((64, 64), 4, on_gpu=False) == 4
    assert prediction_batch_size((128, 128, 128), 4, on_gpu=True) == 4


@pytest.mark.parametrize("window", [(8, 16, 16), (None, 16, 16)])
def test_the_compiled_prediction_in_bfloat16_is_the_networks(window, rng):
    """Where the bottom of the network has a first axis of length 2, which its convolutions treat apart."""
    with precision_scope("mixed_bfloat16"):
        model = Architecture(n_filters=2, depth=2).create_model((*window, 1), n_labels=3)
    images = rng.normal(size=(2, 8, 16, 16, 1)).astype(np.float32)
    predicted = np.stack(list(WindowPredictor(model, window, 1, batch_size=2)(images)))
    np.testing.assert_allclose(predicted, model(images, training=False), atol=1e-2)


XLA_OUT_OF_MEMORY = tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9")


@pytest.mark.parametrize(
    "error", [tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), XLA_OUT_OF_MEMORY]
)
def test_batches_that_do_not_fit_into_the_devices_memory_are_halved_and_it_is_said(rng, caplog, error):
    """users.md: out of GPU memory after hours. The first batch is as large as any, and shows it."""
    predictor = WindowPredictor(brightness_model(2), (4, 4), 1, batch_size=8)
    traced, tried = predictor._traced, []

    def limited(batch_size):
        predict = traced(batch_size)

        def run(images):
            tried.append(len(images))
            if len(images) > 2:
                raise error
            return predict(images)

        return run

    predictor._traced, predictor._predict = limited, limited(8)
    images = rng.random((13, 4, 4, 1)).astype(np.float32)
    outputs = np.stack(list(predictor(iter(images))))
    np.testing.assert_allclose(outputs[..., 1], images[..., 0], atol=1e-6)
    assert tried == [8, 4] + [2] * 7
    assert predictor.batch_size == 2
    assert "8 windows of (4, 4) voxels do not fit" in caplog.text
    assert "from here on it is 2 at a time" in caplog.text


def test_one_window_that_does_not_fit_is_an_error_that_says_what_to_do():
    predictor = WindowPredictor(brightness_model(2), (4, 4), 1)

    def exhausted(images):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    predictor._predict = exhausted
    with pytest.raises(MemoryBudgetError, match=r"one window of \(4, 4\) voxels.*smaller patch_shape"):
        list(predictor(np.zeros((2, 4, 4, 1), np.float32)))


def test_what_fails_for_another_reason_is_not_tried_again():
    predictor = WindowPredictor(brightness_model(2), (4, 4), 1, batch_size=2)
    tried = []

    def failing(images):
        tried.append(len(images))
        raise tf.errors.InternalError(None, None, "no kernel image is available")

    predictor._predict = failing
    with pytest.raises(tf.errors.InternalError, match="no kernel image"):
        list(predictor(np.zeros((2, 4, 4, 1), np.float32)))
    assert tried == [2]
    assert predictor.batch_size == 2
