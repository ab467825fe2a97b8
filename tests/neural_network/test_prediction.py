"""Prediction of patches in batches, and of images: patches, flips, and putting them together."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.hardware import precision_scope
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.neural_network.prediction import (
    PatchPredictor,
    predicted_patches,
    prediction_batch_size,
    prediction_views,
)
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.subfunctions.resampling import Resampling

CASES = [f"case_{number}" for number in range(6)]


@pytest.mark.parametrize("shape", [(20, 22, 18), (6, 20, 7), (17, 23)])
def test_predictions_have_the_images_shape_without_a_channel_axis(make_network, shape):
    network = make_network(data={"shape": shape, "classes": 3})
    network.preprocessor.patchwise_overlap = (4, 4, 4)
    labels = network.predict(CASES[:2], return_output=True)
    assert [prediction.shape for prediction in labels] == [shape] * 2
    assert labels[0].dtype == np.uint8
    (probabilities,) = network.predict(CASES[:1], return_output=True, activation_output=True)
    assert probabilities.shape == (*shape, 3)
    np.testing.assert_array_equal(probabilities.argmax(-1), labels[0])


def test_images_of_different_sizes_one_after_the_other(toy_io, make_network):
    """Defect: an image smaller than the patch in one axis, then a larger one: the prediction had the wrong shape."""
    rng = np.random.default_rng(0)
    images = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in {"a": (5, 20, 7), "b": (20, 22, 18)}.items()
    }
    data = {name: (image, (image > 1).astype(np.uint8)) for name, image in images.items()}
    network = make_network(io=Data_IO(Dictionary_interface(data), "memory"))
    first, second, again = network.predict(["a", "b", "a"], return_output=True)
    assert (first.shape, second.shape) == ((5, 20, 7), (20, 22, 18))
    np.testing.assert_array_equal(first, again)


def test_the_prediction_graph_is_traced_once(make_network):
    network = make_network()
    network.predict(CASES[:2], return_output=True)
    predictor = network.patch_predictor()  # which has one graph
    network.predict_augmentated("case_0")
    network.train(CASES[:2], epochs=1)
    network.predict_array(np.zeros((9, 30, 8), np.float32))
    assert network.patch_predictor() is predictor


def test_two_networks_on_one_preprocessor_do_not_disturb_each_other(make_network):
    deep = make_network(data={"shape": (11, 13, 9)}, processing={"analysis": "fullimage", "patch_shape": None}, depth=3)
    flat = Neural_Network(deep.preprocessor, Architecture(n_filters=4, depth=1), precision="float32")
    for network in (deep, flat, deep):
        assert network.predict("case_0", return_output=True)[0].shape == (11, 13, 9)


def test_a_prediction_leaves_the_preprocessor_as_it_was(make_network):
    """Defect: `run` gave (1, 20, 22, 1), and (1, 32, 32, 1) after a network of depth 4 had predicted."""
    processing = {"analysis": "fullimage", "patch_shape": None, "batch_size": 1}
    shallow = make_network(data={"shape": (20, 22)}, processing=processing, depth=2)
    preprocessor = shallow.preprocessor
    deep = Neural_Network(preprocessor, Architecture(n_filters=4, depth=4), precision="float32")
    before = {name: value for name, value in vars(preprocessor).items() if name not in ("_cache", "_runs")}
    for network, padded in ((shallow, (20, 24)), (deep, (32, 32)), (shallow, (20, 24))):
        network.predict("case_0", return_output=True)
        network.train(["case_0"], epochs=1)
        assert [patch.shape for patch in network.plan.patches(network.prepared("case_0"))] == [(*padded, 1)]
        ((images, _),) = preprocessor.run(["case_0"], training=False)
        assert images.shape == (1, 20, 22, 1)
        ((images, _),) = preprocessor.run(["case_0"])
        assert images.shape == (1, 20, 22, 1)
    assert {name: value for name, value in vars(preprocessor).items() if name in before} == before


def test_a_divisor_of_the_user_is_joined_with_the_networks(make_network):
    processing = {"analysis": "fullimage", "patch_shape": None, "batch_size": 1}
    network = make_network(data={"shape": (20, 22)}, processing=processing, depth=2)
    network.preprocessor.fullimage_divisor = (6, 1)
    assert network.plan.divisors == (12, 4)
    assert network.predict("case_0", return_output=True)[0].shape == (20, 22)
    assert network.preprocessor.run(["case_0"], training=False)[0][0].shape == (1, 24, 22, 1)
    assert network.preprocessor.fullimage_divisor == (6, 1)


def test_whole_images_of_any_size(make_network):
    network = make_network(
        data={"shape": (11, 13, 9)}, processing={"analysis": "fullimage", "patch_shape": None}, depth=2
    )
    network.train(CASES[:4], epochs=1)
    assert network.predict(["case_5"], return_output=True)[0].shape == (11, 13, 9)


def test_resampled_predictions_return_to_the_original_grid(make_network):
    network = make_network(
        data={"shape": (20, 16, 12), "spacing": (1.0, 1.5, 3.0)},
        processing={"subfunctions": [Resampling((2.0, 2.0, 2.0))]},
    )
    assert network.predict("case_0", return_output=True)[0].shape == (20, 16, 12)


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 9)])
def test_one_flipped_prediction_per_axis(make_network, shape):
    network = make_network(data={"shape": shape})
    network.train(CASES[:2], epochs=1, iterations=4)
    flipped = network.predict_augmentated("case_0")
    assert [prediction.shape for prediction in flipped] == [(*shape, 2)] * len(shape)
    image = network.preprocessor.data_io.sample_loader("case_0").img_data
    for axis, prediction in enumerate(flipped):
        reference = np.flip(network.predict_array(np.flip(image, axis), activation_output=True), axis)
        np.testing.assert_allclose(prediction, reference, atol=1e-5)


def test_inference_augmentation_averages_the_image_and_its_flips(make_network):
    network = make_network(data={"shape": (12, 10, 9), "classes": 3})
    network.preprocessor.patchwise_overlap = (4, 4, 4)
    network.train(CASES[:2], epochs=1, iterations=4)
    (plain,) = network.predict("case_0", return_output=True, activation_output=True)
    expected = (plain + sum(network.predict_augmentated("case_0"))) / 4
    network.preprocessor.data_augmentation.infaug = True
    (averaged,) = network.predict("case_0", return_output=True, activation_output=True)
    np.testing.assert_allclose(averaged, expected, atol=1e-6)
    assert np.abs(averaged - plain).max() > 1e-3
    network.preprocessor.data_augmentation.infaug_flip_list = [2]
    assert len(network.predict_augmentated("case_0")) == 1


def test_an_array_is_predicted_as_its_sample_is(make_network):
    network = make_network()
    image, extended = network.preprocessor.data_io.interface.load_image("case_0")
    labels = network.predict_array(image, spacing=extended["spacing"])
    np.testing.assert_array_equal(labels, network.predict("case_0", return_output=True)[0])


def test_windows_are_the_patches_of_the_grid_and_whole_images_suit_the_network(make_network):
    network = make_network(data={"shape": (9, 20), "spacing": (1.0, 1.0)})
    network.preprocessor.patchwise_overlap = (0, 4)
    sample = network.prepared("case_0")
    assert sample.seg_data is None
    patches = network.preprocessor.analysis_patchwise_grid(sample, training=False, data_aug=False)
    windows = list(network.plan.patches(sample))
    assert len(windows) == 8
    np.testing.assert_array_equal(windows, [patch for (patch,) in patches])
    whole = make_network(network.preprocessor.data_io, processing={"analysis": "fullimage", "patch_shape": None})
    (window,) = whole.plan.patches(whole.prepared("case_0"))
    assert window.shape == (10, 20, 1)


def test_a_prepared_sample_is_predicted_with_or_without_flips(make_network):
    network = make_network(data={"shape": (9, 20), "spacing": (1.0, 1.0)})
    sample = network.prepared("case_0")
    (plain,) = network.predict("case_0", return_output=True, activation_output=True)
    np.testing.assert_array_equal(network.predict_sample(sample, activation_output=True), plain)
    network.preprocessor.data_augmentation.infaug = True
    (flipped,) = network.predict("case_0", return_output=True, activation_output=True)
    assert not np.allclose(flipped, plain)
    np.testing.assert_array_equal(network.predict_sample(sample, True), flipped)
    np.testing.assert_array_equal(network.predict_sample(sample, True, flips=False), plain)
    np.testing.assert_array_equal(network.predict_sample(sample, False, flips=True), flipped.argmax(-1))


# ---------------------------------------------------------------- batches of patches


def brightness_model(axes, channels=1):
    """Class 1 with the probability of the voxel's value."""
    image = keras.Input((*(None,) * axes, channels))
    value = image[..., :1]
    return keras.Model(image, keras.ops.concatenate([1 - value, value], axis=-1))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(("windows", "batch_size"), [(1, 4), (4, 4), (7, 3), (5, 1)])
def test_every_window_comes_back_in_order(rng, axes, windows, batch_size):
    images = [rng.random((4,) * axes + (1,)).astype(np.float32) for _ in range(windows)]
    predictor = PatchPredictor(brightness_model(axes), (4,) * axes, 1, batch_size)
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
    predictor = PatchPredictor(model, (4, 4), 1, batch_size=2)
    for _ in range(3):
        list(predictor(np.zeros((5, 4, 4, 1), np.float32)))
    assert len(traces) == 1
    assert tuple(traces[0]) == (2, 4, 4, 1)


def test_many_networks_are_no_reason_to_warn():
    """In a process of its own: TensorFlow warns twice of functions that stand in one place, then never again."""
    script = """
import keras, numpy as np
from miscnn_tf.neural_network.prediction import PatchPredictor
image = keras.Input((4, 4, 1))
for _ in range(8):
    list(PatchPredictor(keras.Model(image, image * 2), (4, 4), 1)([np.ones((4, 4, 1), np.float32)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert "retracing" not in done.stderr


def test_whole_images_of_many_sizes_share_one_graph():
    predictor = PatchPredictor(brightness_model(2), (None, None), 1)
    for shape in [(4, 4), (6, 8), (16, 2)]:
        (output,) = predictor([np.ones((*shape, 1), np.float32)])
        assert output.shape == (*shape, 2)


def test_small_patches_are_predicted_together_large_ones_alone():
    assert prediction_batch_size(PatchPlan("patchwise-grid", (40, 56, 40), batch_size=4), on_gpu=False) == 1
    assert prediction_batch_size(PatchPlan("patchwise-grid", (64, 64), batch_size=32), on_gpu=False) == 8
    assert prediction_batch_size(PatchPlan("patchwise-grid", (64, 64), batch_size=4), on_gpu=False) == 4
    assert prediction_batch_size(PatchPlan("patchwise-grid", (128, 128, 128), batch_size=4), on_gpu=True) == 4


@pytest.mark.parametrize("window", [(8, 16, 16), (None, 16, 16)])
def test_the_compiled_prediction_in_bfloat16_is_the_networks(window, rng):
    """Where the bottom of the network has a first axis of length 2, which its convolutions treat apart."""
    with precision_scope("mixed_bfloat16"):
        model = Architecture(n_filters=2, depth=2).create_model((*window, 1), n_labels=3)
    images = rng.normal(size=(2, 8, 16, 16, 1)).astype(np.float32)
    predicted = np.stack(list(PatchPredictor(model, window, 1, batch_size=2)(images)))
    np.testing.assert_allclose(predicted, model(images, training=False), atol=1e-2)


XLA_OUT_OF_MEMORY = tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9")


@pytest.mark.parametrize(
    "error", [tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), XLA_OUT_OF_MEMORY]
)
def test_batches_that_do_not_fit_into_the_devices_memory_are_halved_and_it_is_said(rng, caplog, error):
    """users.md: out of GPU memory after hours. The first batch is as large as any, and shows it."""
    predictor = PatchPredictor(brightness_model(2), (4, 4), 1, batch_size=8)
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
    assert "8 patches of (4, 4) voxels do not fit" in caplog.text
    assert "from here on it is 2 at a time" in caplog.text


def test_one_window_that_does_not_fit_is_an_error_that_says_what_to_do():
    predictor = PatchPredictor(brightness_model(2), (4, 4), 1)

    def exhausted(images):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    predictor._predict = exhausted
    with pytest.raises(MemoryBudgetError, match=r"one patch of \(4, 4\) voxels.*smaller patch_shape"):
        list(predictor(np.zeros((2, 4, 4, 1), np.float32)))


def test_what_fails_for_another_reason_is_not_tried_again():
    predictor = PatchPredictor(brightness_model(2), (4, 4), 1, batch_size=2)
    tried = []

    def failing(images):
        tried.append(len(images))
        raise tf.errors.InternalError(None, None, "no kernel image is available")

    predictor._predict = failing
    with pytest.raises(tf.errors.InternalError, match="no kernel image"):
        list(predictor(np.zeros((2, 4, 4, 1), np.float32)))
    assert tried == [2]
    assert predictor.batch_size == 2


@pytest.mark.parametrize("shape", [(10, 9), (9, 10, 8)])
def test_all_mirrored_views_are_averaged(make_network, shape):
    """4 in 2D, 8 in 3D, as nnU-Net does; MIScnn flips one axis at a time."""
    network = make_network(data={"shape": shape})
    augmentation = network.preprocessor.data_augmentation
    (alone,) = network.predict(["case_0"], return_output=True, activation_output=True)
    augmentation.infaug = augmentation.infaug_all = True
    assert network.views(len(shape)) == 2 ** len(shape)
    sample = network.prepared("case_0")
    (found,) = network.predict(["case_0"], return_output=True, activation_output=True)
    assert not np.allclose(found, alone)
    views = prediction_views(augmentation, len(shape))
    assert len({*views}) == 2 ** len(shape)
    predictor, plan = network.patch_predictor(), network.plan
    every = [list(predicted_patches(predictor, plan, sample, [view])) for view in views]
    together = list(predicted_patches(predictor, plan, sample, views))
    for number, patch in enumerate(together):
        np.testing.assert_allclose(patch, np.mean([one[number] for one in every], axis=0), atol=1e-6)
