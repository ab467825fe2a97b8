"""The prediction of one image: windows, flips, and what is put together."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.model import Neural_Network
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
    predictor = network.window_predictor()  # which has one graph
    network.predict_augmentated("case_0")
    network.train(CASES[:2], epochs=1)
    network.predict_array(np.zeros((9, 30, 8), np.float32))
    assert network.window_predictor() is predictor


def test_two_networks_on_one_preprocessor_do_not_disturb_each_other(make_network):
    deep = make_network(data={"shape": (11, 13, 9)}, processing={"analysis": "fullimage", "patch_shape": None}, depth=3)
    flat = Neural_Network(deep.preprocessor, Architecture(n_filters=4, depth=1), precision="float32")
    for network in (deep, flat, deep):
        assert network.predict("case_0", return_output=True)[0].shape == (11, 13, 9)


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
    windows = list(network.windows(sample))
    assert len(windows) == 8
    np.testing.assert_array_equal(windows, [patch for (patch,) in patches])
    whole = make_network(network.preprocessor.data_io, processing={"analysis": "fullimage", "patch_shape": None})
    (window,) = whole.windows(whole.prepared("case_0"))
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
