"""A training, from the samples' names to the history."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.neural_network.data_generator import DataGenerator, Feed
from miscnn_tf.neural_network.optimizer import learning_rate_of

CASES = [f"case_{number}" for number in range(6)]


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
    # At such a rate no weight changes: only other crops give another loss.
    network = make_network(processing={"data_aug": None}, learning_rate=1e-30)
    network.shuffle_batches = False
    weights = [np.array(weight) for weight in network.model.trainable_weights]
    first, second = (network.train(CASES, epochs=1).history["loss"] for _ in range(2))
    for before, after in zip(weights, network.model.trainable_weights, strict=True):
        np.testing.assert_allclose(before, after, rtol=0, atol=1e-20)
    assert first != second


def test_callbacks_and_sample_lists_are_left_alone(make_network):
    samples, callbacks = list(CASES), [keras.callbacks.EarlyStopping("loss")]
    make_network().train(samples, epochs=1, callbacks=callbacks)
    assert samples == CASES
    assert len(callbacks) == 1


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


def test_batches_on_disk_are_removed_after_the_training_and_nothing_else(make_network, tmp_path):
    network = make_network(processing={"prepare_batches": True})
    io = network.preprocessor.data_io
    io.backup_sample(io.sample_loader("case_0"))
    network.evaluate(CASES[:3], CASES[3:], epochs=2)
    assert [path.name for path in (tmp_path / "batches").iterdir() if "batch" in path.name] == []
    assert io.load_sample_pickle("case_0").shape == (20, 22, 18, 1)


def test_batches_on_disk_are_removed_where_those_of_the_validation_cannot_be_written(make_network, tmp_path):
    network = make_network(processing={"prepare_batches": True})
    io, written = network.preprocessor.data_io, []
    write = io.backup_batches

    def until_full(images, labels, pointer):
        if len(written) == 3:
            raise OSError("no space left")
        written.append(pointer)
        write(images, labels, pointer)

    io.backup_batches = until_full
    with pytest.raises(OSError, match="no space left"):
        network.evaluate(CASES[:3], CASES[3:], epochs=1)
    assert len({pointer.partition("-")[0] for pointer in written}) == 2  # both were begun
    assert list((tmp_path / "batches").glob("*.batch_*")) == []


def test_the_training_pipeline_carries_labels_as_bytes(make_network):
    network = make_network(data={"classes": 3})
    batches = DataGenerator(CASES, network.preprocessor, training=True, labels=True)
    images, labels = Feed(batches, range(1), 1, 2).dataset.element_spec
    assert (images.dtype, labels.dtype) == ("float32", "uint8")
    assert tuple(labels.shape) == (2, 8, 8, 8)


def test_patience_ends_a_training(make_network):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    assert len(make_network().train(CASES[:2], epochs=50, callbacks=[stopping]).epoch) == 2


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


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_schedule_of_the_users_own_optimizer_is_followed(make_network, precision):
    network = make_network(precision=precision)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    network.model.compile(keras.optimizers.SGD(schedule), network.model.loss, jit_compile=False)
    rates = []

    class Rate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(learning_rate_of(self.model))

    network.train(CASES[:2], epochs=2, iterations=2, callbacks=[Rate()])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01])
    with pytest.raises(
        ConfigurationError, match=r"PolynomialDecay sets the learning rate, but .* LearningRateSchedule"
    ):
        network.train(CASES[:2], epochs=1, callbacks=[PolynomialDecay()])
    with pytest.raises(ConfigurationError, match=r"network.learning_rate = ... sets the learning rate, but"):
        network.learning_rate = 0.1
    network.reset()  # keeps the user's optimizer
    assert isinstance(network.optimizer.get_config()["learning_rate"], dict)
    network.optimizer = None  # Adam again
    network.learning_rate = 0.1
