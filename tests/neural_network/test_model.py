from __future__ import annotations

import random

import keras
import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.metrics import ClassDice, dice_soft
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.processing.preprocessor import Preprocessor

CASES = [f"case_{number}" for number in range(6)]


def weights_of(network):
    return [weight.copy() for weight in network.model.get_weights()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


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


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ({"workers": "two"}, "workers must be a whole number of at least 1, got 'two'"),
        ({"batch_queue_size": 1.5}, r"batch_queue_size must be a whole number of at least 1, got 1\.5"),
        ({"seed": "x"}, "seed must be a whole number of at least 0, got 'x'"),
        ({"architecture": Architecture}, r"architecture must be .*, got <class .*>; add parentheses to the class"),
        ({"architecture": "standard"}, r"architecture must be an object with create_model_3D\(\), got 'standard'"),
        ({"metrics": "dice_soft"}, "metrics must be a list of metrics, got 'dice_soft'"),
        ({"metrics": [3]}, "metrics holds 3, which is not a metric"),
        ({"metrics": [ClassDice]}, "the metric ClassDice needs arguments: .*label"),
        ({"metrics": ["dice"]}, "the metric 'dice' is unknown..* Known: asym_unified_focal_loss, .*, dice_soft, "),
    ],
)
def test_an_argument_of_another_kind_is_refused_when_the_network_is_made(make_network, wrong, told):
    with pytest.raises(ConfigurationError, match=told):
        make_network(**wrong)


def test_a_preprocessor_is_needed():
    with pytest.raises(ConfigurationError, match="preprocessor must be a Preprocessor, got 3"):
        Neural_Network(3)


def test_numbers_of_workers_set_later_are_looked_at_before_the_training(make_network):
    network = make_network()
    network.workers = 0
    with pytest.raises(ConfigurationError, match="workers must be a whole number of at least 1, got 0"):
        network.train(CASES, epochs=1)


def test_metrics_go_by_name_or_class_too(make_network):
    network = make_network(metrics=["dice_soft", "accuracy", keras.metrics.CategoricalAccuracy])
    history = network.train(CASES, epochs=1).history
    assert {"dice_soft", "accuracy", "categorical_accuracy"} <= set(history)
    by_function = make_network(metrics=[dice_soft]).train(CASES, epochs=1).history
    assert history["dice_soft"] == pytest.approx(by_function["dice_soft"], abs=1e-6)


@pytest.mark.parametrize(
    ("callbacks", "told"),
    [
        (3, "got 3"),
        ("log.csv", "got 'log.csv'"),
        (["x"], "got 'x'"),
        ([keras.callbacks.TerminateOnNaN], "got <class '.*TerminateOnNaN'>; add parentheses to the class"),
    ],
)
def test_callbacks_are_keras_callbacks(make_network, callbacks, told):
    with pytest.raises(ConfigurationError, match=f"callbacks must be a list of Keras callbacks, {told}"):
        make_network().train(CASES, epochs=1, callbacks=callbacks)


def test_a_schedule_as_learning_rate_is_refused_with_what_does_its_work(make_network):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    told = r"got the schedule ExponentialDecay. Pass .*PolynomialDecay or keras.callbacks.LearningRateScheduler"
    with pytest.raises(ConfigurationError, match=told):
        make_network(learning_rate=schedule)
    network = make_network(learning_rate=0.01)
    with pytest.raises(ConfigurationError, match=told):
        network.learning_rate = schedule
    assert network.learning_rate == 0.01


def test_the_seed_makes_the_weights_and_leaves_the_global_state_alone(toy_io, make_network):
    before = (np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    first, second = make_network(), make_network()
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert random.getstate() == before[1]
    assert same(weights_of(first), weights_of(second))
    assert not same(weights_of(first), weights_of(make_network(seed=99)))


def test_bad_calls_are_refused_clearly(make_network):
    network = make_network()
    with pytest.raises(ConfigurationError, match="empty"):
        network.train([], epochs=1)
    with pytest.raises(ConfigurationError, match="epochs"):
        network.train(CASES, epochs=0)
    with pytest.raises(ConfigurationError, match="a list of sample names is needed"):
        network.evaluate(CASES[:2], None)
    with pytest.raises(DataError, match="case_77"):
        network.train([*CASES, "case_77"])
    with pytest.raises(DataError, match=r"\.\./case_0"):
        network.predict("../case_0")


def test_a_single_index_is_accepted(make_network):
    """Defect: a name was iterated over by its letters."""
    assert len(make_network().predict("case_1", return_output=True)) == 1


def test_a_result_that_cannot_be_written_is_told_before_it_is_computed(make_network, tmp_path, monkeypatch):
    network = make_network(data={"shape": (8, 8)})
    monkeypatch.setattr(network, "patch_predictor", lambda: pytest.fail("predicted for nothing"))
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 1), np.float32), np.eye(4)), scan)
    with pytest.raises(ConfigurationError, match=r"\.xyz"):
        network.predict_file(scan, tmp_path / "seg.xyz")


def test_predictions_are_saved_by_the_interface_one_after_the_other(make_network, tmp_path):
    network = make_network()
    assert network.predict(CASES[:2]) is None
    saved = np.load(tmp_path / "predictions" / "case_1.npy")
    np.testing.assert_array_equal(saved[..., 0], network.predict("case_1", return_output=True)[0])


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


def test_a_copy_has_the_settings_of_the_network(make_network):
    network = make_network(learning_rate=0.01, metrics=[], batch_queue_size=3, workers=2, jit_compile=False)
    network.learning_rate = 0.002
    network.shuffle_batches = False
    network.train(CASES[:2], epochs=1)
    twin = network.copy()
    for name in ("batch_queue_size", "workers", "jit_compile", "seed", "shuffle_batches", "verbose", "epochs_trained"):
        assert getattr(twin, name) == getattr(network, name), name
    assert twin.learning_rate == 0.002
    assert twin.model.optimizer.learning_rate.numpy() == pytest.approx(0.002)
    assert twin.model.optimizer.iterations.numpy() == 0
    twin.reset()
    assert twin.learning_rate == 0.01
    twin.metrics.append("accuracy")
    assert network.metrics == []
    assert twin.architecture is not network.architecture


class Labelled(Neural_Network):
    """A user's own network: its constructor takes what it likes, and it does something in its own way."""

    def __init__(self, label, preprocessor):
        super().__init__(preprocessor, Architecture(n_filters=4, depth=1), precision="float32")
        self.label = label

    def predict_sample(self, sample, activation_output, flips=None, *, memory_budget=None):
        return np.full(sample.img_data.shape[:-1], self.label)


def test_a_copy_is_of_the_users_own_class(make_network):
    network = Labelled(7, make_network().preprocessor)
    network.verbose = 0
    twin = network.copy()
    assert type(twin) is Labelled
    assert np.unique(twin.predict("case_0", return_output=True)).tolist() == [7]
    assert twin.model is not network.model
    before = weights_of(network)
    assert same(weights_of(twin), before)
    twin.train(CASES[:2], epochs=1)
    assert same(weights_of(network), before)
    assert not same(weights_of(twin), before)
    assert (network.epochs_trained, twin.epochs_trained) == (0, 1)


def test_a_users_architecture_and_a_plain_keras_model_work(make_network):
    class Mine:
        def create_model_3D(self, input_shape, n_labels=2):
            image = keras.Input(input_shape)
            return keras.Model(image, keras.layers.Conv3D(n_labels, 3, padding="same", activation="softmax")(image))

    network = make_network(architecture=Mine())
    network.train(CASES[:2], epochs=1)
    assert network.predict("case_0", return_output=True)[0].shape == (20, 22, 18)
