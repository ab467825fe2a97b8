"""A network is compiled anew where its loss, metrics or class weights changed, and only there."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.losses import categorical_focal_loss, dice_crossentropy, tversky_crossentropy
from miscnn_tf.neural_network.metrics import dice_coefficient

CASES = [f"case_{number}" for number in range(6)]


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


def test_the_training_graph_is_traced_once(make_network):
    traced = []

    def loss(y_true, y_pred):
        traced.append(y_pred)
        return dice_crossentropy(y_true, y_pred)

    network = make_network(loss=loss)
    network.train(CASES, epochs=2)
    assert len(traced) == 1
