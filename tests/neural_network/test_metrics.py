"""Metrics against their formulas, and in training."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from miscnn_tf.evaluation.dice import compute_dice
from miscnn_tf.neural_network import losses, metrics
from miscnn_tf.neural_network.metrics import ClassDice, dice_coefficient, dice_soft


def case(rng, axes, batch=2, classes=4):
    labels = rng.integers(0, classes, (batch, 6, 5, 4)[: axes + 1])
    return np.eye(classes)[labels], softmax(rng.normal(0, 2, (*labels.shape, classes)), -1)


@pytest.mark.parametrize("axes", [2, 3])
def test_dice_coefficient_is_that_of_all_voxels_together(axes, rng):
    t, p = case(rng, axes)
    expected = 2 * np.sum(t * p) / (np.sum(t) + np.sum(p))
    assert float(dice_coefficient(t.astype("uint8"), p)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_dice_soft_is_the_mean_over_the_classes_of_each_sample(axes, rng):
    t, p = case(rng, axes)
    spatial = tuple(range(1, axes + 1))
    dice = (2 * (t * p).sum(spatial) + 1e-5) / (t.sum(spatial) + p.sum(spatial) + 1e-5)
    np.testing.assert_allclose(dice_soft(t, p), dice.mean(-1), rtol=1e-5)


def test_dice_of_labels_is_the_textbooks(rng):
    truth, prediction = rng.random((2, 8, 8, 8)) < 0.4
    sets = [np.flatnonzero(array) for array in (truth, prediction)]
    foreground = 2 * len(np.intersect1d(*sets)) / sum(map(len, sets))
    t, p = (np.eye(2)[array[np.newaxis].astype(int)] for array in (truth, prediction))
    background = 2 * (~truth & ~prediction).sum() / ((~truth).sum() + (~prediction).sum())
    np.testing.assert_allclose(dice_soft(t, p), [(foreground + background) / 2], rtol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_dice_of_a_class_is_that_of_the_evaluation(axes, rng):
    t, p = case(rng, axes)
    expected = np.array(
        [compute_dice(truth.argmax(-1), found.argmax(-1), 4) for truth, found in zip(t, p, strict=True)]
    )
    for label in range(4):
        np.testing.assert_allclose(ClassDice(label)(t, p), expected[:, label], atol=1e-4)
    unsure = 0.25 + 0.01 * p  # of the same opinion
    np.testing.assert_allclose(ClassDice(2)(t, unsure), expected[:, 2], atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(dtype, rng):
    t, p = case(rng, 3)
    half = keras.ops.cast(p, dtype)
    for metric in (dice_soft, dice_coefficient):
        assert metric(t, half).dtype == "float32"
        np.testing.assert_array_equal(metric(t, half), metric(t, keras.ops.cast(half, "float32")))


def test_an_absent_class_that_is_not_predicted_counts_as_found():
    t = np.zeros((1, 3, 3, 2))
    t[..., 0] = 1
    np.testing.assert_allclose(dice_soft(t, t), [1])


def test_metrics_average_over_samples_and_survive_a_file(tmp_path, rng):
    t, _ = case(rng, 2, batch=5)
    image = rng.normal(size=(*t.shape[:-1], 1)).astype("float32")
    model = keras.Sequential([keras.Input(image.shape[1:]), keras.layers.Conv2D(4, 1, activation="softmax")])
    chosen = [dice_soft, dice_coefficient, losses.dice_soft_loss, losses.dice_weighted([1, 2, 3, 4])]
    model.compile(loss=losses.tversky_loss, metrics=chosen)
    # Batches of 3 and 2: a mean over batches would not be the mean over samples.
    logs = model.evaluate(image, t, batch_size=3, verbose=0, return_dict=True)
    expected = np.mean(dice_soft(t, model(image)))
    assert logs["dice_soft"] == pytest.approx(expected, rel=1e-5)
    assert logs["dice_soft_loss"] == pytest.approx(1 - expected, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(image, t, batch_size=3, verbose=0, return_dict=True) == pytest.approx(logs)


def test_losses_are_found_where_miscnn_keeps_them():
    for name in losses.__all__:
        if name.islower() and name not in ("get", "losses"):
            assert getattr(metrics, name) is getattr(losses, name)
