"""Losses, metrics and augmentations that a model file cannot name do not cost a finished training."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf import Data_Augmentation
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
from miscnn_tf.neural_network.losses import dice_crossentropy
from miscnn_tf.neural_network.metrics import dice_soft
from miscnn_tf.processing.data_augmentation import augmentations

CASES = [f"case_{number}" for number in range(4)]


def gone(text):
    """A lambda without a source, as of ``python -c`` or a console."""
    return eval(compile(text, "<gone>", "eval"), {"keras": keras, "dice": dice_crossentropy})


def gone_loss():
    return gone("lambda t, p: dice(t, p)")


def gone_metric():
    return gone("lambda t, p: keras.ops.mean(p)")


class Unwilling(keras.losses.Loss):
    """Its configuration cannot be had."""

    def call(self, y_true, y_pred):
        return dice_crossentropy(y_true, y_pred)

    def get_config(self):
        raise OSError("no configuration")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    "parts",
    [
        lambda: {"loss": gone_loss()},
        lambda: {"metrics": [gone_metric(), dice_soft]},
        lambda: {"loss": lambda t, p: dice_crossentropy(t, p)},
        lambda: {"loss": functools.partial(gone_loss())},
        lambda: {"loss": Unwilling()},
    ],
)
def test_a_lambda_whose_source_is_gone_does_not_keep_a_model_from_being_written(
    make_tiny_network, tmp_path, caplog, parts, ending
):
    """Defect: dump raised OSError after the training."""
    parts = parts()
    network = make_tiny_network(data={"shape": (12, 12)}, **parts)
    network.evaluate(CASES[:2], CASES[2:], epochs=1, callbacks=[BestModel(network, tmp_path / "best.keras")])
    if getattr(next(iter(parts.values())), "__name__", None) == "<lambda>":
        assert "the loss: a lambda cannot be stored in a model file" in caplog.text
    network.dump(tmp_path / f"model{ending}")
    image = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    for path in (tmp_path / "best.keras", tmp_path / f"model{ending}"):
        loaded = miscnn_tf.load_model(path)
        np.testing.assert_array_equal(loaded.predict_array(image), network.predict_array(image))
    if "metrics" in parts:
        assert loaded.metrics == [dice_soft]
    else:
        assert "does not hold its loss: set .loss before training on" in caplog.text


def test_a_lambda_is_named_in_a_warning_before_the_first_step(make_tiny_network, caplog):
    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            assert "the loss, metric 2: a lambda cannot be stored" in caplog.text

    network = make_tiny_network(data={"shape": (12, 12)}, loss=gone_loss(), metrics=[dice_soft, gone_metric()])
    network.train(CASES[:2], epochs=1, callbacks=[Look()])


def test_cross_validation_and_interrupted_trainings_work_with_a_lambda(make_tiny_network, tmp_path):
    """Defect: cross_validation raised OSError after the training."""
    network = make_tiny_network(data={"shape": (12, 12)}, loss=gone_loss(), metrics=[gone_metric()])
    cross_validation(CASES, network, 2, 1, 1, tmp_path, run_detailed_evaluation=True)
    assert (tmp_path / "fold_1" / "model.keras").is_file()
    network.train(CASES, epochs=1, callbacks=[TrainingState(tmp_path / "state")])


# ---------------------------------------------------------------- augmentation


class Darker(Data_Augmentation):
    """A subclass with an argument of its own."""

    def __init__(self, factor=0.5, **settings):
        super().__init__(**settings)
        self.factor = factor

    def run(self, img, seg):
        return super().run(img * self.factor, seg)


class Lossy(Data_Augmentation):
    """A subclass that does not keep its argument."""

    def __init__(self, factor=0.5, **settings):
        super().__init__(**settings)


@pytest.fixture
def dumped(make_tiny_network, tmp_path):
    def dump(augmentation):
        network = make_tiny_network(data={"shape": (12, 12)}, processing={"data_aug": augmentation})
        network.dump(tmp_path / "model.keras")
        return tmp_path / "model.keras"

    return dump


def test_a_subclass_of_data_augmentation_is_found_by_custom_objects(dumped):
    """Defect: plain after load_model, silently."""
    path = dumped(Darker(0.25, mirror=True))
    loaded = miscnn_tf.load_model(path, custom_objects={"Darker": Darker}).preprocessor.data_augmentation
    assert isinstance(loaded, Darker)
    assert (loaded.factor, loaded.mirror) == (0.25, True)


def test_a_registered_subclass_of_data_augmentation_is_found_by_itself(dumped):
    augmentations.register("darker", Darker)
    try:
        loaded = miscnn_tf.load_model(dumped(Darker(0.25))).preprocessor.data_augmentation
    finally:
        del augmentations["darker"]
    assert isinstance(loaded, Darker)
    assert loaded.factor == 0.25


def test_a_subclass_of_data_augmentation_that_is_not_known_is_named_in_a_warning(dumped, caplog):
    loaded = miscnn_tf.load_model(dumped(Darker(0.25, mirror=True))).preprocessor.data_augmentation
    assert type(loaded) is Data_Augmentation
    assert loaded.mirror is True
    assert "the augmentation 'Darker' is unknown" in caplog.text


def test_a_subclass_of_data_augmentation_that_does_not_keep_its_argument_is_named_when_it_is_written(dumped, caplog):
    dumped(Lossy(mirror=True))
    assert "will not hold all settings of Lossy: Lossy does not keep its constructor argument 'factor'" in caplog.text


def test_the_argument_of_a_subclass_of_data_augmentation_counts_among_the_settings_of_folds(
    make_tiny_network, tmp_path
):
    def run(factor):
        network = make_tiny_network(data={"shape": (12, 12)}, processing={"data_aug": Darker(factor)})
        cross_validation(CASES, network, 2, 1, 1, tmp_path)

    run(0.5)
    with pytest.raises(ConfigurationError, match=r"data_augmentation.config.factor was 0.5, now 0.25"):
        run(0.25)
