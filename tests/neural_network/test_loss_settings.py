"""Settings of losses: names, ranges, and telling settings from arrays."""

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_settings import ConfiguredLoss, non_negative, within


@keras.saving.register_keras_serializable(package="miscnn_tf_tests")
class HalfAbsoluteError(ConfiguredLoss):
    def __init__(self, factor=0.5, name=None, reduction="sum_over_batch_size"):
        super().__init__(name, reduction)
        self.factor = factor

    def call(self, y_true, y_pred, class_weights=None):
        return self.factor * keras.ops.mean(keras.ops.abs(y_true - y_pred), -1)


def test_a_loss_of_ones_own_is_called_with_arrays_or_settings():
    loss = HalfAbsoluteError()
    assert loss.name == loss.__name__ == "half_absolute_error"
    t, p = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
    assert float(loss(t, p)) == 0.5
    assert float(loss(2.0)(t, y_pred=p)) == float(loss(factor=2.0)(t, p)) == 2.0
    np.testing.assert_allclose(loss(reduction="none")(t, p), [0.5, 0.5])
    assert loss(name="mine").name == "mine"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss(0.25, name="mine")))
    assert again.get_config() == {"factor": 0.25, "name": "mine", "reduction": "sum_over_batch_size"}


def test_within_takes_its_limits():
    assert [within("x", value, 0, 1) for value in (0, 0.5, True, np.float32(1))] == [0.0, 0.5, 1.0, 1.0]
    assert within("x", 1e9, 0, float("inf")) == 1e9
    with pytest.raises(ConfigurationError, match=r"x=1 must be a number, between 0 and 1, but not 1"):
        within("x", 1, 0, 1, but=1)
    with pytest.raises(ConfigurationError, match=r"x=-1 must be a number, at least 0"):
        within("x", -1, 0, float("inf"))


def test_non_negative_takes_one_number_or_many():
    assert non_negative("w", 2) == [2.0]
    assert non_negative("w", np.array([0, 1])) == [0.0, 1.0]
    with pytest.raises(ConfigurationError, match="w="):
        non_negative("w", [1, float("inf")])
