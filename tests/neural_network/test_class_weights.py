"""Class weights: checked, and applied to every kind of loss."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.class_weights import apply_class_weight, class_weight_vector
from miscnn_tf.neural_network.losses import (
    categorical_focal_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    dice_weighted,
    tversky_loss,
)

CROSSENTROPIES = [
    "categorical_crossentropy",
    keras.losses.CategoricalCrossentropy(),
    keras.losses.CategoricalCrossentropy,
]
LOSSES = [
    "tversky_loss",
    dice_crossentropy,
    dice_coefficient_loss,
    categorical_focal_loss,
    categorical_focal_loss(alpha=[0.1, 0.2, 0.7]),
    dice_weighted([1, 2, 3]),
    *CROSSENTROPIES,
]


@pytest.fixture(params=[2, 3])
def case(request, rng):
    labels = rng.integers(0, 3, (2, 3, 4, 5)[: request.param + 1])
    return np.eye(3, dtype="float32")[labels], softmax(rng.normal(size=(*labels.shape, 3)), -1).astype("float32")


def test_weights_are_scaled_to_a_mean_of_one():
    assert class_weight_vector({0: 1.0, 1: 5.0}, 2) == pytest.approx((1 / 3, 5 / 3))
    assert class_weight_vector([2, 2, 2], 3) == (1.0, 1.0, 1.0)
    assert class_weight_vector({2: 4}, 3) == pytest.approx((0.5, 0.5, 2.0))  # those left out weigh 1
    assert class_weight_vector({0: 0, 1: 3}, 2) == (0.0, 2.0)


def name_of(loss):
    """The same in every process, unlike its text."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", None) or loss.name


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({3: 1.0}, "class 3, but the classes are 0 to 2"),
        ({"1": 2.0}, "'1'"),
        ({0: -1.0}, "class 0 is -1"),
        ({1: float("nan")}, "class 1 is nan"),
        ({1: "big"}, "'big'"),
        ([1, 2], "2 weights, but there are 3 classes"),
        ([0, 0, 0], "0 for every class"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(class_weight, message):
    with pytest.raises(ConfigurationError, match=message):
        apply_class_weight(tversky_loss, class_weight, 3)


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_equal_weights_change_nothing(loss, case):
    plain, weighted = (apply_class_weight(loss, [weight] * 3, 3)(*case) for weight in (1, 7))
    np.testing.assert_allclose(weighted, plain, rtol=1e-6)
    unweighted = loss if isinstance(loss, str) else None
    if unweighted is None and not isinstance(loss, type):
        np.testing.assert_allclose(np.mean(weighted), np.mean(loss(*case)), rtol=1e-5)


def test_region_losses_weight_the_classes(case):
    t, p = case
    spatial = tuple(range(1, t.ndim - 1))
    dice = 2 * (t * p).sum(spatial) / (t.sum(spatial) + p.sum(spatial))
    expected = 1 - np.average(dice, axis=-1, weights=[1, 1, 5])
    np.testing.assert_allclose(apply_class_weight(dice_soft_loss, {2: 5}, 3)(t, p), expected, rtol=1e-4)


@pytest.mark.parametrize("loss", CROSSENTROPIES, ids=name_of)
def test_a_loss_per_voxel_is_weighted_by_the_true_class(loss, case):
    t, p = case
    expected = -np.log((t * p).sum(-1)) * np.array([3, 3, 15])[t.argmax(-1)] / 7
    weighted = apply_class_weight(loss, [1, 1, 5], 3)
    np.testing.assert_allclose(weighted(t.astype("uint8"), p), expected, rtol=1e-4)


def test_a_weight_of_zero_takes_a_class_out(case):
    t, p = case
    changed = p.copy()
    changed[..., 1] *= 0.5
    weighted = apply_class_weight(tversky_loss, [1, 0, 1], 3)
    np.testing.assert_allclose(weighted(t, p), weighted(t, changed), rtol=1e-6)


def test_a_users_loss_with_the_keyword_gets_the_weights(case):
    def own(y_true, y_pred, class_weights=None):
        return keras.ops.sum(keras.ops.convert_to_tensor(class_weights))

    weighted = apply_class_weight(own, {1: 5}, 3)
    assert float(weighted(*case)) == pytest.approx(3)
    assert weighted.__name__ == "weighted_own"


def test_class_weight_with_a_loss_that_cannot_take_it_is_refused_before_the_first_step(rng):
    def scalar(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred))

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 1, activation="softmax")])
    model.compile("sgd", loss=apply_class_weight(scalar, {1: 5.0}, 2))
    before = model.get_weights()
    with pytest.raises(ConfigurationError, match="class_weight cannot be used with the loss scalar"):
        model.fit(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4, 2)), verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_class_weight_raises_no_more_and_moves_the_network_towards_the_rare_class():
    # The defect: MIScnn's class_weight raises. One voxel in eight is of class 1, and the image does not tell which.
    t = np.eye(2, dtype="float32")[np.tile([1, 0, 0, 0, 0, 0, 0, 0], (80, 1, 1))]
    image = np.ones((80, 1, 8, 1), "float32")
    rare = {}
    for weight in (1.0, 7.0):
        model = keras.Sequential([keras.Input((1, 8, 1)), keras.layers.Conv2D(2, 1, activation="softmax")])
        loss = apply_class_weight("categorical_crossentropy", {0: 1.0, 1: weight}, 2)
        model.compile(keras.optimizers.Adam(0.3), loss=loss)
        model.fit(image, t, batch_size=1, shuffle=False, verbose=0)
        rare[weight] = float(model(image)[0, 0, 0, 1])
    # The minimum of the weighted cross-entropy: w / (w + 7).
    assert rare[1.0] == pytest.approx(1 / 8, abs=0.01)
    assert rare[7.0] == pytest.approx(1 / 2, abs=0.01)
