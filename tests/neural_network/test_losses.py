"""Losses against their formulas in float64 numpy, at the edges, inside training, and through a file."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import losses as module
from miscnn_tf.neural_network.losses import (
    categorical_focal_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    dice_weighted,
    get,
    identify_axis,
    losses,
    tversky_crossentropy,
    tversky_loss,
)

SPATIAL = {2: (5, 4), 3: (3, 5, 4)}
WEIGHTS = [0.5, 1.0, 3.0]


# The formulas, voxel by voxel and class by class.


def soft_dice(t, p, c):
    t, p = t[..., c].ravel(), p[..., c].ravel()
    return (2 * (t @ p) + 1e-5) / (t.sum() + p.sum() + 1e-5)


def tversky_index(t, p, c, alpha=0.5, beta=0.5):
    t, p = t[..., c].ravel(), p[..., c].ravel()
    true_positive, false_positive, false_negative = t @ p, (1 - t) @ p, t @ (1 - p)
    return (true_positive + 1e-6) / (true_positive + alpha * false_positive + beta * false_negative + 1e-6)


def crossentropy(t, p):
    return -np.mean(np.log(p[t == 1]))


def focal(t, p, alpha, gamma):
    classes = np.argmax(t, -1).ravel()
    chosen = p[t == 1]
    return -np.mean(np.broadcast_to(alpha, 3)[classes] * (1 - chosen) ** gamma * np.log(chosen))


REFERENCES = {
    "dice_soft_loss": (dice_soft_loss, lambda t, p: 1 - np.mean([soft_dice(t, p, c) for c in range(3)])),
    "tversky_loss": (tversky_loss, lambda t, p: 3 - sum(tversky_index(t, p, c) for c in range(3))),
    "dice_crossentropy": (
        dice_crossentropy,
        lambda t, p: 1 - np.mean([soft_dice(t, p, c) for c in range(3)]) + crossentropy(t, p),
    ),
    "tversky_crossentropy": (
        tversky_crossentropy,
        lambda t, p: 3 - sum(tversky_index(t, p, c) for c in range(3)) + crossentropy(t, p),
    ),
    "categorical_focal_loss": (categorical_focal_loss.call, lambda t, p: focal(t, p, 0.25, 2)),
    "focal, alpha per class": (
        categorical_focal_loss([0.1, 0.2, 0.7], gamma=0.5).call,
        lambda t, p: focal(t, p, [0.1, 0.2, 0.7], 0.5),
    ),
    "dice_weighted": (
        dice_weighted(WEIGHTS).call,
        lambda t, p: -np.mean([weight * soft_dice(t, p, c) for c, weight in enumerate(WEIGHTS)]),
    ),
}
PER_SAMPLE = [pair[0] for pair in REFERENCES.values()]
ALL = [*PER_SAMPLE, dice_coefficient_loss]


def name_of(value):
    return getattr(value, "__qualname__", None)


def case(rng, axes, classes=3, batch=2):
    labels = rng.integers(0, classes, (batch, *SPATIAL[axes]))
    return np.eye(classes)[labels], softmax(rng.normal(0, 2, (*labels.shape, classes)), -1)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", REFERENCES)
def test_value_of_each_sample_is_the_formulas(name, axes, rng):
    loss, reference = REFERENCES[name]
    t, p = case(rng, axes)
    value = loss(t.astype("uint8"), p.astype("float32"))
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, [reference(*sample) for sample in zip(t, p, strict=True)], rtol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_dice_coefficient_loss_pools_the_batch(axes, rng):
    t, p = case(rng, axes)
    expected = 1 - (2 * np.sum(t * p) + 1e-5) / (np.sum(t) + np.sum(p) + 1e-5)
    np.testing.assert_allclose(dice_coefficient_loss(t, p), [expected] * 2, rtol=1e-5)


def test_tversky_with_unequal_weights_of_the_errors(rng):
    t, p = case(rng, 3, batch=1)
    expected = 3 - sum(tversky_index(t, p, c, alpha=0.3, beta=0.7) for c in range(3))
    np.testing.assert_allclose(tversky_loss(t, p, alpha=0.3, beta=0.7), [expected], rtol=1e-5)


def test_tversky_and_dice_agree_where_they_are_the_same(rng):
    t, p = case(rng, 3)
    np.testing.assert_allclose(tversky_loss(t, p), 3 * dice_soft_loss(t, p), rtol=1e-4)


def test_a_focal_loss_that_does_not_focus_is_the_crossentropy(rng):
    t, p = case(rng, 2, batch=1)
    np.testing.assert_allclose(categorical_focal_loss(alpha=1, gamma=0)(t, p), crossentropy(t, p), rtol=1e-5)


def test_keras_own_crossentropy_agrees(rng):
    t, p = case(rng, 3)
    expected = np.mean(keras.losses.categorical_crossentropy(t, p.astype("float32")), (1, 2, 3))
    np.testing.assert_allclose(dice_crossentropy(t, p) - dice_soft_loss(t, p), expected, rtol=1e-4)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_any_number_of_classes(classes, rng):
    t, p = case(rng, 2, classes)
    for loss in (dice_soft_loss, tversky_loss, dice_crossentropy, tversky_crossentropy, categorical_focal_loss.call):
        assert np.isfinite(loss(t, p)).all()


def test_a_perfect_prediction_costs_nothing(rng):
    t, _ = case(rng, 3)
    for loss in (dice_soft_loss, tversky_loss, dice_crossentropy, dice_coefficient_loss, categorical_focal_loss.call):
        np.testing.assert_allclose(loss(t, t), 0, atol=1e-6)
    np.testing.assert_allclose(dice_weighted(WEIGHTS)(t, t), -np.mean(WEIGHTS), rtol=1e-5)


def value_and_gradient(loss, t, p):
    p = tf.constant(p)
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = loss(tf.constant(t), p)
    return value.numpy(), tf.cast(tape.gradient(value, p), "float32").numpy()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_gradient_is_the_finite_difference(loss, axes, rng):
    t, p = case(rng, axes)
    direction = rng.normal(size=p.shape)
    _, gradient = value_and_gradient(loss, t.astype("float32"), p.astype("float32"))
    step = 1e-3 * p.min()
    ahead, behind = (np.sum(loss(t, p + sign * step * direction), dtype="float64") for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    # Values are float32: their rounding, divided by the step, is what a difference can resolve.
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-2, atol=4e-7 / step)


@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_absent_classes_and_certain_predictions_stay_finite(loss):
    shape = (1, 4, 4, 4)
    background, all_wrong = np.zeros((*shape, 3), "float32"), np.zeros((*shape, 3), "float32")
    background[..., 0] = 1
    all_wrong[..., 2] = 1
    for prediction in (background, all_wrong, np.zeros_like(background), np.ones_like(background)):
        for dtype in ("float32", "bfloat16", "float16"):
            value, gradient = value_and_gradient(loss, background, tf.cast(prediction, dtype))
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_the_gradient_of_a_weak_focus_is_finite_at_certainty(gamma):
    t = np.eye(2, dtype="float32")[np.zeros((1, 2, 2), int)]
    _, gradient = value_and_gradient(categorical_focal_loss(gamma=gamma).call, t, t)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_half_precision_is_computed_in_float32(loss, dtype, rng):
    t, p = case(rng, 3)
    half = tf.cast(p, dtype)
    expected = loss(t, tf.cast(half, "float32"))
    value = loss(tf.cast(t, dtype), half)
    assert value.dtype == "float32"
    np.testing.assert_array_equal(value, expected)


def test_two_million_voxels_are_summed_exactly_enough(rng):
    p = rng.random((1, 128, 128, 128, 2), dtype="float32")
    p[..., 1] = 1 - p[..., 0]
    t = np.eye(2, dtype="float32")[(rng.random(p.shape[:-1], dtype="float32") < 0.001).astype(int)]
    exact = 1 - np.mean([soft_dice(t.astype("float64"), p.astype("float64"), c) for c in range(2)])
    np.testing.assert_allclose(dice_soft_loss(t, p), [exact], rtol=1e-5)


# Class weights


@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_equal_class_weights_change_nothing(loss, rng):
    t, p = case(rng, 3)
    np.testing.assert_allclose(loss(t, p, class_weights=[4, 4, 4]), loss(t, p), rtol=1e-6)


def test_class_weights_weight_the_terms_and_the_voxels(rng):
    t, p = case(rng, 2, batch=1)
    dice = np.average([soft_dice(t, p, c) for c in range(3)], weights=WEIGHTS)
    np.testing.assert_allclose(dice_soft_loss(t, p, class_weights=WEIGHTS), [1 - dice], rtol=1e-5)
    tversky = np.average([tversky_index(t, p, c) for c in range(3)], weights=WEIGHTS)
    np.testing.assert_allclose(tversky_loss(t, p, class_weights=WEIGHTS), [3 * (1 - tversky)], rtol=1e-5)
    factors = np.array(WEIGHTS) / np.mean(WEIGHTS)
    voxels = -np.mean(np.sum(factors * t * np.log(p), -1))
    np.testing.assert_allclose(
        tversky_crossentropy(t, p, class_weights=WEIGHTS), [3 * (1 - tversky) + voxels], rtol=1e-5
    )
    pooled = 2 * np.sum(factors * t * p) / (np.sum(factors * t) + np.sum(factors * p))
    np.testing.assert_allclose(dice_coefficient_loss(t, p, class_weights=WEIGHTS), [1 - pooled], rtol=1e-4)
    expected = focal(t, p, 0.25 * factors, 2)
    np.testing.assert_allclose(categorical_focal_loss.call(t, p, class_weights=WEIGHTS), [expected], rtol=1e-5)


# Bad input


def test_labels_that_are_not_one_hot_are_refused():
    p = np.full((1, 4, 4, 4, 3), 1 / 3)
    for t in (np.zeros((1, 4, 4, 4, 1)), np.zeros((1, 4, 4, 4))):
        with pytest.raises(ConfigurationError, match="one-hot"):
            tversky_loss(t, p)


def test_weights_must_fit_the_classes(rng):
    t, p = case(rng, 2)
    with pytest.raises(ConfigurationError, match=r"alpha has shape \(2,\), but there are 3 classes"):
        categorical_focal_loss(alpha=[0.5, 0.5])(t, p)
    with pytest.raises(ConfigurationError, match="weights"):
        dice_weighted([1, 2])(t, p)


@pytest.mark.parametrize("weights", [[1, -1], [], [[1, 2]], ["a"], [float("nan")], None])
def test_weights_must_be_numbers(weights):
    with pytest.raises(ConfigurationError, match="weights"):
        dice_weighted(weights)
    with pytest.raises(ConfigurationError, match="alpha"):
        categorical_focal_loss(alpha=weights)
    with pytest.raises(ConfigurationError, match="gamma"):
        categorical_focal_loss(gamma=-1)


def test_identify_axis():
    assert identify_axis((None, 4, 4, 3)) == [1, 2]
    assert identify_axis((2, 4, 4, 4, 3)) == [1, 2, 3]
    with pytest.raises(ValueError, match="batch"):
        identify_axis((4, 4, 3))


# Finding and configuring


def test_losses_are_found_by_name():
    assert get("tversky_loss") is tversky_loss
    assert get("categorical_crossentropy") is keras.losses.categorical_crossentropy
    assert get(keras.losses.Dice).name == "dice"
    assert get(dice_crossentropy) is dice_crossentropy
    assert set(losses) >= {"tversky_loss", "dice_soft_loss", "categorical_focal_loss"}
    for wrong in ("tverski_loss", 3):
        with pytest.raises(ConfigurationError, match=str(wrong)):
            get(wrong)


def test_a_loss_class_that_needs_arguments_says_so():
    with pytest.raises(ConfigurationError, match="weights"):
        get(module.DiceWeighted)


def test_plain_or_configured_a_loss_is_the_same(rng):
    t, p = case(rng, 3)
    plain, configured = categorical_focal_loss(t, p), categorical_focal_loss(alpha=0.25, gamma=2.0)(t, p)
    assert float(plain) == float(categorical_focal_loss()(t, p)) == float(configured)
    assert float(categorical_focal_loss(0.5)(y_true=t, y_pred=p)) == pytest.approx(2 * float(plain))
    assert categorical_focal_loss.__name__ == "categorical_focal_loss"
    assert dice_weighted([1, 2]).__name__ == "dice_weighted"


# In training


def tiny(axes):
    convolution = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[axes]
    return keras.Sequential([keras.Input((*SPATIAL[axes], 1)), convolution(3, 1, activation="softmax")])


COMPILED = {
    "tversky_loss": tversky_loss,
    "dice_soft_loss": dice_soft_loss,
    "dice_coefficient_loss": dice_coefficient_loss,
    "dice_crossentropy": dice_crossentropy,
    "tversky_crossentropy": tversky_crossentropy,
    "focal_plain": categorical_focal_loss,
    "focal_called": categorical_focal_loss(),
    "focal_configured": categorical_focal_loss(alpha=[0.1, 0.2, 0.7], gamma=3.0),
    "dice_weighted": dice_weighted(WEIGHTS),
}


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", COMPILED)
def test_fit_reports_the_mean_over_the_samples(name, axes, rng):
    image = rng.normal(size=(2, *SPATIAL[axes], 1)).astype("float32")
    t, _ = case(rng, axes)
    model = tiny(axes)
    loss = COMPILED[name]
    expected = np.mean(loss(t, model(image)))
    model.compile("sgd", loss=loss, run_eagerly=name != "focal_configured")
    assert model.fit(image, t, verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_compiled_losses_are_saved_and_loaded_in_a_new_process(tmp_path, rng):
    image = rng.normal(size=(2, *SPATIAL[3], 1)).astype("float32")
    t, _ = case(rng, 3)
    np.savez(tmp_path / "data.npz", image=image, t=t)
    expected = []
    for index, loss in enumerate(COMPILED.values()):
        model = tiny(3)
        model.compile("sgd", loss=loss)
        model.save(tmp_path / f"{index}.keras")
        if index == 0 or index == len(COMPILED) - 1:
            model.save(tmp_path / f"{index}.h5")
        expected.append(np.mean(loss(t, model(image))))
    script = """
import pathlib, keras, numpy as np, miscnn_tf.neural_network.losses
data = np.load("data.npz")
for path in pathlib.Path().glob("*.*5"):
    keras.saving.load_model(path).loss
values = []
for index in range(len(list(pathlib.Path().glob("*.keras")))):
    model = keras.saving.load_model(f"{index}.keras")
    values.append(np.mean(model.loss(data["t"], model(data["image"]))))
np.save("values.npy", values)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), expected, rtol=1e-6)
