from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.feed import Feed
from miscnn_tf.neural_network.losses import categorical_focal_loss, dice_crossentropy, tversky_crossentropy
from miscnn_tf.neural_network.metrics import dice_coefficient, dice_soft
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.resampling import Resampling

CASES = [f"case_{number}" for number in range(6)]


def weights_of(network):
    return [weight.copy() for weight in network.model.get_weights()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------- making one


def test_attributes_and_defaults(toy_io):
    preprocessor = Preprocessor(toy_io(), batch_size=1, patch_shape=(16, 16, 16))
    network = Neural_Network(preprocessor)
    assert network.model.optimizer.learning_rate.numpy() == pytest.approx(1e-4)
    assert (network.three_dim, network.channels, network.classes) == (True, 1, 2)
    assert (network.batch_queue_size, network.workers, network.multi_gpu) == (2, 1, False)
    assert network.shuffle_batches is True
    assert network.metrics == [dice_soft]
    assert isinstance(network.architecture, Architecture)
    assert network.architecture is not Neural_Network(preprocessor).architecture
    assert network.model.input_shape == (None, 16, 16, 16, 1)
    assert network.model.output_shape == (None, 16, 16, 16, 2)


def test_a_patch_that_the_depth_cannot_halve_is_refused_with_sizes_that_fit(toy_io):
    preprocessor = Preprocessor(toy_io(), batch_size=1, patch_shape=(20, 16, 16))
    with pytest.raises(ConfigurationError, match=r"patch_shape.*20 -> 16 or 24"):
        Neural_Network(preprocessor, Architecture(depth=3))


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_learning_rate_must_be_positive(make_network, rate):
    with pytest.raises(ConfigurationError, match="learning_rate"):
        make_network(learning_rate=rate)


def test_the_seed_makes_the_weights_and_leaves_the_global_state_alone(toy_io, make_network):
    before = (np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    first, second = make_network(), make_network()
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert random.getstate() == before[1]
    assert same(weights_of(first), weights_of(second))
    assert not same(weights_of(first), weights_of(make_network(seed=99)))


# ---------------------------------------------------------------- training


def test_training_lowers_the_loss_and_returns_the_history(make_network):
    network = make_network(learning_rate=0.01)
    history = network.train(CASES[:4], epochs=4, iterations=8)
    assert {"loss", "dice_soft"} <= set(history.history)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert network.model.optimizer.iterations.numpy() == 32


def test_evaluate_validates_after_every_epoch(make_network):
    history = make_network().evaluate(CASES[:3], CASES[3:], epochs=2)
    assert len(history.history["val_loss"]) == len(history.history["val_dice_soft"]) == 2


def test_the_live_metric_equals_the_offline_one(make_network):
    network = make_network(
        data={"shape": (8, 8, 8), "classes": 3},
        processing={"analysis": "fullimage", "patch_shape": None, "batch_size": 1},
    )
    history = network.evaluate(CASES[:4], CASES[4:], epochs=2, iterations=4)
    scores = []
    for index, probabilities in zip(
        CASES[4:], network.predict(CASES[4:], return_output=True, activation_output=True), strict=True
    ):
        truth = np.eye(3)[network.preprocessor.data_io.interface.load_segmentation(index)]
        overlap = (truth * probabilities).sum((0, 1, 2))
        total = truth.sum((0, 1, 2)) + probabilities.astype(np.float64).sum((0, 1, 2))
        scores.append(((2 * overlap + 1e-5) / (total + 1e-5)).mean())
    assert history.history["val_dice_soft"][-1] == pytest.approx(np.mean(scores), abs=1e-5)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_seed_trains_the_same_network_with_any_number_of_workers(make_network, workers):
    losses = [make_network(workers=n, learning_rate=0.01).train(CASES, epochs=2).history["loss"] for n in (1, workers)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_a_second_training_goes_on_with_fresh_crops(make_network):
    seen = []
    network = make_network(processing={"data_aug": None})
    original = network.preprocessor.boxes

    def watched():
        boxes = original()
        draw = boxes.random_start
        boxes.random_start = lambda sample, rng: seen.append(draw(sample, rng)) or seen[-1]
        return boxes

    network.preprocessor.boxes = watched
    network.train(CASES, epochs=1)
    first = seen[:6]
    seen.clear()
    network.train(CASES, epochs=1)
    assert first != seen[:6]


def test_loss_metrics_and_learning_rate_can_be_changed_between_trainings(make_network):
    network = make_network(learning_rate=0.001)
    network.train(CASES[:2], epochs=1)
    network.loss = tversky_crossentropy
    network.metrics = [dice_coefficient]
    network.learning_rate = 0.0005
    history = network.train(CASES[:2], epochs=1)
    assert "dice_coefficient" in history.history
    assert "dice_soft" not in history.history
    assert network.model.optimizer.learning_rate.numpy() == pytest.approx(0.0005)
    # Its moments and step count are kept.
    assert network.model.optimizer.iterations.numpy() == 2


def squared_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


def foreground_share(y_true, y_pred):
    return keras.ops.mean(y_pred[..., 1])


@pytest.mark.parametrize(
    "loss", [squared_error, categorical_focal_loss(alpha=0.25), "dice_crossentropy", dice_crossentropy]
)
def test_losses_of_ones_own_configured_and_by_name(make_network, loss):
    history = make_network(
        loss=loss, metrics=[foreground_share, keras.metrics.CategoricalAccuracy(name="accuracy")]
    ).train(CASES[:2], epochs=1)
    assert {"foreground_share", "accuracy"} <= set(history.history)
    assert np.isfinite(history.history["loss"]).all()


def test_class_weight_works_and_matters(make_network):
    """Defect: class_weight raised."""
    network = make_network(loss=tversky_crossentropy, processing={"data_aug": None})
    network.shuffle_batches = False

    def first_loss(class_weight):
        network.reset()
        return network.train(CASES[:2], epochs=1, class_weight=class_weight).history["loss"][0]

    plain = first_loss(None)
    assert first_loss({0: 1.0, 1: 1.0}) == pytest.approx(plain, rel=1e-4)
    assert first_loss({0: 1.0, 1: 20.0}) != pytest.approx(plain, rel=1e-3)
    assert first_loss(None) == pytest.approx(plain, rel=1e-6)
    with pytest.raises(ConfigurationError, match="class_weight"):
        first_loss({7: 2.0})


def test_callbacks_and_sample_lists_are_left_alone(make_network):
    samples, callbacks = list(CASES), [keras.callbacks.EarlyStopping("loss")]
    make_network().train(samples, epochs=1, callbacks=callbacks)
    assert samples == CASES
    assert len(callbacks) == 1


def test_bad_calls_are_refused_clearly(make_network):
    network = make_network()
    with pytest.raises(ConfigurationError, match="empty"):
        network.train([], epochs=1)
    with pytest.raises(ConfigurationError, match="epochs"):
        network.train(CASES, epochs=0)
    with pytest.raises(DataError, match="case_77"):
        network.train([*CASES, "case_77"])
    with pytest.raises(DataError, match=r"\.\./case_0"):
        network.predict("../case_0")


def test_a_workers_exception_reaches_the_user_with_the_samples_name(make_network):
    network = make_network()
    broken = network.preprocessor.prepare_sample_subfunctions

    def prepare(index, training=True, **options):
        if index == "case_2":
            raise OSError("the disk went away")
        return broken(index, training, **options)

    network.preprocessor.prepare_sample_subfunctions = prepare
    with pytest.raises(OSError, match="the disk went away") as caught:
        network.train(CASES, epochs=3)
    assert "while a patch of sample 'case_2' was made" in caught.value.__notes__


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_predicts_float32(make_network, precision):
    network = make_network(precision=precision, learning_rate=0.01)
    history = network.train(CASES[:2], epochs=1, iterations=3)
    assert np.isfinite(history.history["loss"]).all()
    (probabilities,) = network.predict("case_0", return_output=True, activation_output=True)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


# ---------------------------------------------------------------- prediction


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


def test_a_single_index_is_accepted(make_network):
    """Defect: a name was iterated over by its letters."""
    assert len(make_network().predict("case_1", return_output=True)) == 1


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


def test_the_training_graph_is_traced_once(make_network):
    traced = []

    def loss(y_true, y_pred):
        traced.append(y_pred)
        return dice_crossentropy(y_true, y_pred)

    network = make_network(loss=loss)
    network.train(CASES, epochs=2)
    assert len(traced) == 1


def test_the_prediction_graph_is_traced_once(make_network):
    network = make_network()
    network.predict(CASES[:2], return_output=True)
    predictor = network.window_predictor()  # which has one graph
    network.predict_augmentated("case_0")
    network.train(CASES[:2], epochs=1)
    network.predict_array(np.zeros((9, 30, 8), np.float32))
    assert network.window_predictor() is predictor


def test_batches_on_disk_are_removed_after_the_training_and_nothing_else(make_network, tmp_path):
    network = make_network(processing={"prepare_batches": True})
    io = network.preprocessor.data_io
    io.backup_sample(io.sample_loader("case_0"))
    network.evaluate(CASES[:3], CASES[3:], epochs=2)
    assert [path.name for path in (tmp_path / "batches").iterdir() if "batch" in path.name] == []
    assert io.load_sample_pickle("case_0").shape == (20, 22, 18, 1)


def test_the_training_pipeline_carries_labels_as_bytes(make_network):
    network = make_network(data={"classes": 3})
    batches = DataGenerator(CASES, network.preprocessor, training=True, labels=True)
    images, labels = Feed(batches, range(1), 1, 2).dataset.element_spec
    assert (images.dtype, labels.dtype) == ("float32", "uint8")
    assert tuple(labels.shape) == (2, 8, 8, 8)


def test_patience_ends_a_training(make_network):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    assert len(make_network().train(CASES[:2], epochs=50, callbacks=[stopping]).epoch) == 2


def test_two_networks_on_one_preprocessor_do_not_disturb_each_other(make_network):
    deep = make_network(data={"shape": (11, 13, 9)}, processing={"analysis": "fullimage", "patch_shape": None}, depth=3)
    flat = Neural_Network(deep.preprocessor, Architecture(n_filters=4, depth=1), precision="float32")
    for network in (deep, flat, deep):
        assert network.predict("case_0", return_output=True)[0].shape == (11, 13, 9)


def test_the_rate_that_a_callback_lowered_is_not_the_next_trainings(make_network):
    network = make_network(learning_rate=0.01)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = 1e-9
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network.train(CASES[:2], epochs=1, callbacks=[Interrupt()])
    rates = []

    class Rate(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    network.train(CASES[:2], epochs=1, callbacks=[Rate()])
    assert rates == [pytest.approx(0.01)]


def test_a_result_that_cannot_be_written_is_told_before_it_is_computed(make_network, tmp_path, monkeypatch):
    network = make_network(data={"shape": (8, 8)})
    monkeypatch.setattr(network, "_windows", lambda sample, flips: pytest.fail("predicted for nothing"))
    with pytest.raises(ConfigurationError, match=r"\.nrrd"):
        network.predict_file(tmp_path / "scan.nii.gz", tmp_path / "seg.nrrd")


def test_whole_images_of_any_size(make_network):
    network = make_network(
        data={"shape": (11, 13, 9)}, processing={"analysis": "fullimage", "patch_shape": None}, depth=2
    )
    network.train(CASES[:4], epochs=1)
    assert network.predict(["case_5"], return_output=True)[0].shape == (11, 13, 9)


def test_predictions_are_saved_by_the_interface_one_after_the_other(make_network, tmp_path):
    network = make_network()
    assert network.predict(CASES[:2]) is None
    saved = np.load(tmp_path / "predictions" / "case_1.npy")
    np.testing.assert_array_equal(saved[..., 0], network.predict("case_1", return_output=True)[0])


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


# ---------------------------------------------------------------- state


def test_reset_weights_also_resets_the_optimizer(make_network):
    """Defect: after reset_weights the optimizer kept its moments and its step count."""
    network = make_network(learning_rate=0.001)
    first = network.train(CASES[:4], epochs=2).history["loss"]
    network.reset_weights()
    assert same(weights_of(network), network.initialization_weights)
    assert network.model.optimizer.iterations.numpy() == 0
    assert network.model.optimizer.learning_rate.numpy() == pytest.approx(0.001)
    np.testing.assert_allclose(network.train(CASES[:4], epochs=2).history["loss"], first, rtol=1e-5)


def test_reset_also_resets_the_learning_rate(make_network):
    network = make_network(learning_rate=0.001)
    network.learning_rate = 0.5
    network.train(CASES[:2], epochs=1)
    network.reset()
    assert network.learning_rate == pytest.approx(0.001)
    assert network.model.optimizer.learning_rate.numpy() == pytest.approx(0.001)


def test_a_copy_has_the_weights_and_a_life_of_its_own(make_network):
    network = make_network(learning_rate=0.01)
    network.train(CASES[:2], epochs=1)
    twin = network.copy()
    assert same(weights_of(twin), weights_of(network))
    assert twin.id != network.id
    twin.train(CASES[:2], epochs=1)
    assert not same(weights_of(twin), weights_of(network))
    twin.reset()
    assert same(weights_of(twin), network.initialization_weights)


def test_a_users_architecture_and_a_plain_keras_model_work(make_network):
    class Mine:
        def create_model_3D(self, input_shape, n_labels=2):
            image = keras.Input(input_shape)
            return keras.Model(image, keras.layers.Conv3D(n_labels, 3, padding="same", activation="softmax")(image))

    network = make_network(architecture=Mine())
    network.train(CASES[:2], epochs=1)
    assert network.predict("case_0", return_output=True)[0].shape == (20, 22, 18)


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
