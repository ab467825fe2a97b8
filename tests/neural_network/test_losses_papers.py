"""The losses of the papers: values and gradients against `reference_losses`, for any classes, axes and settings."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_network import reference_losses as reference
from scipy.special import softmax

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.losses import (
    asym_unified_focal_loss,
    asymmetric_focal_loss,
    asymmetric_focal_tversky_loss,
    combo_loss,
    focal_tversky_loss,
    get,
    sym_unified_focal_loss,
    symmetric_focal_loss,
    symmetric_focal_tversky_loss,
    tversky_loss,
)

SPATIAL = {2: (3, 2), 3: (2, 2, 3)}
SHARE = st.floats(0.05, 0.95)
POWER = st.floats(0.1, 3)

# The loss, its formula, and settings that may be drawn.
PAPERS = {
    "combo_loss": (combo_loss, reference.combo, {"alpha": SHARE, "beta": SHARE, "smooth": POWER}),
    "focal_tversky_loss": (focal_tversky_loss, reference.focal_tversky, {"delta": SHARE, "gamma": POWER}),
    "symmetric_focal_loss": (symmetric_focal_loss, reference.symmetric_focal, {"delta": SHARE, "gamma": POWER}),
    "asymmetric_focal_loss": (asymmetric_focal_loss, reference.asymmetric_focal, {"delta": SHARE, "gamma": POWER}),
    "symmetric_focal_tversky_loss": (
        symmetric_focal_tversky_loss,
        reference.symmetric_focal_tversky,
        {"delta": SHARE, "gamma": SHARE},
    ),
    "asymmetric_focal_tversky_loss": (
        asymmetric_focal_tversky_loss,
        reference.asymmetric_focal_tversky,
        {"delta": SHARE, "gamma": SHARE},
    ),
    "sym_unified_focal_loss": (
        sym_unified_focal_loss,
        reference.sym_unified_focal,
        {"weight": SHARE, "delta": SHARE, "gamma": SHARE},
    ),
    "asym_unified_focal_loss": (
        asym_unified_focal_loss,
        reference.asym_unified_focal,
        {"weight": SHARE, "delta": SHARE, "gamma": SHARE},
    ),
}
AGAINST_BACKGROUND = sorted(set(PAPERS) - {"focal_tversky_loss"})


def case(rng, axes=3, classes=3, batch=2):
    labels = rng.integers(0, classes, (batch, *SPATIAL[axes]))
    return np.eye(classes)[labels], softmax(rng.normal(0, 1, (*labels.shape, classes)), -1)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", PAPERS)
def test_value_of_each_sample_is_the_papers(name, axes, classes, rng):
    loss, formula, _ = PAPERS[name]
    t, p = case(rng, axes, classes)
    expected = [formula(*sample) for sample in zip(t, p, strict=True)]
    value = loss.call(t.astype("uint8"), p.astype("float32"))
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert float(loss(t, p)) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("name", PAPERS)
def test_any_settings_are_the_papers(name):
    loss, formula, drawn = PAPERS[name]

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.fixed_dictionaries(drawn), st.integers(2, 5), st.sampled_from([2, 3]), st.integers(0, 99))
    def check(chosen, classes, axes, seed):
        t, p = case(np.random.default_rng(seed), axes, classes, batch=1)
        np.testing.assert_allclose(loss(**chosen).call(t, p), [formula(t[0], p[0], **chosen)], rtol=2e-5, atol=1e-6)

    check()


@pytest.mark.parametrize(("axes", "classes"), [(2, 2), (3, 2), (2, 5), (3, 3)])
@pytest.mark.parametrize("name", PAPERS)
def test_gradient_is_the_finite_difference(name, axes, classes, rng):
    loss, formula, _ = PAPERS[name]
    t, p = case(rng, axes, classes, batch=1)
    tensor = tf.constant(p, "float32")
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = loss.call(t, tensor)
    slopes = reference.gradient(lambda moved: formula(t[0], moved), p[0])
    # What the labels switch off has a gradient of zero, up to rounding.
    np.testing.assert_allclose(tape.gradient(value, tensor)[0], slopes, rtol=2e-4, atol=1e-5 * np.abs(slopes).max())


@pytest.mark.parametrize("axes", [2, 3])
def test_two_classes_are_the_binary_equations(axes, rng):
    t, p = case(rng, axes, classes=2, batch=1)
    foreground, probability = t[0, ..., 1], p[0, ..., 1]
    for loss, expected in [
        (combo_loss(0.3, 0.8), reference.binary_combo(foreground, probability, 0.3, 0.8, 1.0)),
        (
            asym_unified_focal_loss(0.3, 0.8, 0.2),
            reference.binary_asym_unified_focal(foreground, probability, 0.3, 0.8, 0.2),
        ),
        (sym_unified_focal_loss(0.3, 0.8), reference.binary_sym_unified_focal(foreground, probability, 0.3, 0.8)),
    ]:
        np.testing.assert_allclose(loss.call(t, p), [expected], rtol=1e-5)


# What the formulas have in common


def test_a_focal_tversky_loss_without_a_focus_is_the_tversky_loss(rng):
    t, p = case(rng)
    np.testing.assert_allclose(focal_tversky_loss(0.5, 1.0).call(t, p), tversky_loss(t, p), rtol=1e-5)
    expected = tversky_loss(t, p, alpha=0.3, beta=0.7)
    np.testing.assert_allclose(asymmetric_focal_tversky_loss(0.7, 0.0).call(t, p), expected, rtol=1e-5)


def test_beta_above_a_half_makes_misses_dearer_than_false_alarms():
    t = np.eye(2)[[[[0, 1]]]]
    missed, false_alarm = (np.array([[[[1 - a, a], [1 - b, b]]]]) for a, b in [(0.1, 0.2), (0.8, 0.9)])
    for beta, dearer, cheaper in [(0.9, missed, false_alarm), (0.1, false_alarm, missed)]:
        assert combo_loss(alpha=1.0, beta=beta)(t, dearer) > combo_loss(alpha=1.0, beta=beta)(t, cheaper)


@pytest.mark.parametrize("name", AGAINST_BACKGROUND)
def test_all_foreground_classes_count_alike_and_the_background_does_not(name, rng):
    loss = PAPERS[name][0](**{"combo_loss": {"beta": 0.8}}.get(name, {"delta": 0.8}))
    t, p = case(rng, classes=4)
    swapped = [0, 3, 1, 2]
    np.testing.assert_allclose(loss.call(t[..., swapped], p[..., swapped]), loss.call(t, p), rtol=1e-5)
    swapped = [1, 0, 2, 3]
    if name != "symmetric_focal_tversky_loss":
        assert not np.allclose(loss.call(t[..., swapped], p[..., swapped]), loss.call(t, p), rtol=1e-3)


@pytest.mark.parametrize("name", PAPERS)
def test_losses_ignore_classes_above_1_is_not_so(name):
    """MIScnn's defect: a prediction that takes class 2 for class 3 must cost more than the right one."""
    loss = PAPERS[name][0]
    labels = np.arange(8).reshape(1, 2, 2, 2) % 4
    t, confused = np.eye(4)[labels], np.eye(4)[np.choose(labels, [0, 1, 3, 2])]
    assert float(loss(t, 0.9 * confused + 0.025)) > float(loss(t, 0.9 * t + 0.025)) + 0.05


@pytest.mark.parametrize("name", PAPERS)
def test_a_volume_of_one_slice_is_the_image(name, rng):
    """MIScnn's defect: in 3D an axis was indexed as the class."""
    loss = PAPERS[name][0]
    t, p = case(rng, 2)
    expected = loss.call(t, p)
    for axis in (1, 2, 3):
        np.testing.assert_allclose(loss.call(np.expand_dims(t, axis), np.expand_dims(p, axis)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", PAPERS)
def test_a_perfect_prediction_is_the_minimum(name, rng):
    loss = PAPERS[name][0]
    t, p = case(rng, classes=4)
    least = -0.5 * 3 if name == "combo_loss" else 0.0
    np.testing.assert_allclose(loss.call(t, t), least, atol=1e-6)
    assert (np.asarray(loss.call(t, p)) > least + 0.01).all()
    assert (np.asarray(loss.call(t, 0.999 * t + 0.00025)) > least).all()


@pytest.mark.parametrize("name", PAPERS)
def test_class_weights_weight_terms_and_voxels(name, rng):
    loss, formula, _ = PAPERS[name]
    t, p = case(rng, classes=3, batch=1)
    weights = np.array([0.5, 1.0, 3.0])
    value = loss.call(t, p, class_weights=weights)
    # A weight is a slope: the loss is a sum of the classes' shares, each times its (scaled) weight.
    ones = np.eye(3)
    shares = [loss.call(t, p, class_weights=ones[c]) / 3 for c in range(3)]
    np.testing.assert_allclose(sum(shares), [formula(t[0], p[0])], rtol=1e-5)
    np.testing.assert_allclose(value, sum(s * w for s, w in zip(shares, weights / weights.mean(), strict=True)), 1e-5)
    assert len({round(float(share[0]), 6) for share in shares}) == 3


def test_class_weights_act_by_the_true_class_of_a_voxel_and_the_class_of_a_term(rng):
    t, p = case(rng, classes=3, batch=1)
    truth, sample = t[0].reshape(-1, 3), p[0].reshape(-1, 3)
    only_two = {"class_weights": [0, 0, 1]}  # scaled to a mean of one: 3
    is_two = truth[:, 2] == 1
    focal = 3 * 0.7 * np.mean(is_two * (1 - sample[:, 2]) ** 2 * -np.log(sample[:, 2]))
    np.testing.assert_allclose(symmetric_focal_loss.call(t, p, **only_two), [focal], rtol=1e-5)
    index = reference.tversky_index(truth[:, 2], sample[:, 2], 0.7, 1e-6)
    np.testing.assert_allclose(focal_tversky_loss.call(t, p, **only_two), [3 * (1 - index) ** 0.75], rtol=1e-5)
    one_against_rest = -0.5 * (np.log(1 - sample[is_two, 1]) + np.log(sample[is_two, 2]))
    crossentropy = 3 * np.sum(one_against_rest) / (2 * len(truth))
    dice = -reference.binary_combo(truth[:, 2], sample[:, 2], 0, 0.5, 1.0)
    np.testing.assert_allclose(combo_loss.call(t, p, **only_two), [0.5 * crossentropy - 0.5 * 3 * dice], rtol=1e-5)


# Edges


def certain(labels, classes):
    return np.eye(classes, dtype="float32")[labels]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", PAPERS)
def test_absent_classes_and_certain_predictions_stay_finite(name, axes, dtype, rng):
    loss = PAPERS[name][0]
    shape = (1, *SPATIAL[axes])
    mixed = rng.integers(0, 3, shape)
    background = np.zeros(shape, int)
    for labels in (background, background + 1, mixed):  # classes 1 and 2 absent; 0 and 2; none
        t = certain(labels, 3)
        predictions = [
            *(certain(background + c, 3) for c in range(3)),  # exactly 0 and 1, right and wrong
            certain(mixed, 3),
            *(np.full(t.shape, value, "float32") for value in (0, 1, 1e-7, 1e-5, 1 - 1e-7)),
            softmax(rng.normal(0, 20, t.shape), -1),
        ]
        for prediction in predictions:
            p = tf.cast(prediction, dtype)
            with tf.GradientTape() as tape:
                tape.watch(p)
                value = loss.call(t, p)
            assert np.isfinite(value).all()
            slopes = tape.gradient(value, p)
            assert slopes.dtype == dtype
            assert np.isfinite(tf.cast(slopes, "float32")).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", PAPERS)
def test_half_precision_is_computed_in_float32(name, dtype, rng):
    loss = PAPERS[name][0]
    t, p = case(rng)
    half = tf.cast(p, dtype)
    assert loss.call(tf.cast(t, dtype), half).dtype == "float32"
    np.testing.assert_array_equal(loss.call(tf.cast(t, dtype), half), loss.call(t, tf.cast(half, "float32")))


@pytest.mark.parametrize("name", PAPERS)
def test_half_precision_gradients_are_those_of_float32(name, rng):
    loss = PAPERS[name][0]
    t, p = case(rng)
    slopes = []
    for dtype in ("float16", "float32"):
        # The same numbers in both.
        tensor = tf.cast(tf.cast(p, "float16"), dtype)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = loss.call(t, tensor)
        slopes.append(tf.cast(tape.gradient(value, tensor), "float32"))
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", PAPERS)
def test_a_float32_gradient_step_from_certainty_does_not_jump(name):
    """Through a softmax the slope at certainty is small, whatever the exponent: the first step stays a step."""
    loss = PAPERS[name][0]
    labels = np.zeros((1, 4, 4), int)
    labels[0, 0, 0] = 1
    t = certain(labels, 3)
    for sharpness in (5.0, 20.0, 60.0, 200.0):
        logits = tf.constant(sharpness * t)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss.call(t, tf.nn.softmax(logits))
        assert np.abs(tape.gradient(value, logits)).max() < 1


def test_a_large_volume_is_summed_exactly(rng):
    labels = (rng.random((1, 96, 96, 96), dtype="float32") < 0.001).astype(int)
    t = certain(labels, 2)
    p = softmax(6 * t + rng.normal(0, 1, t.shape).astype("float32"), -1)
    for name in ("symmetric_focal_tversky_loss", "asym_unified_focal_loss", "combo_loss"):
        loss, formula, _ = PAPERS[name]
        if name == "combo_loss":  # its formula is a loop over the voxels
            truth, probability = t[0, ..., 1].astype("float64"), p[0, ..., 1].astype("float64")
            logs = truth * np.log(probability) + (1 - truth) * np.log1p(-probability)
            dice = (2 * np.sum(truth * probability) + 1) / (np.sum(truth) + np.sum(probability) + 1)
            expected = -0.5 * np.mean(0.5 * logs) - 0.5 * dice
        else:
            expected = formula(t[0], p[0])
        np.testing.assert_allclose(loss.call(t, p), [expected], rtol=1e-5)


# Bad input


@pytest.mark.parametrize("name", AGAINST_BACKGROUND)
def test_one_class_has_no_background(name):
    t = np.ones((1, 2, 2, 1))
    with pytest.raises(ConfigurationError, match=f"{name} needs a background.*classes=2"):
        get(name).call(t, t)


@pytest.mark.parametrize("name", PAPERS)
def test_settings_must_lie_in_their_range(name):
    loss, _, drawn = PAPERS[name]
    for setting in drawn:
        for wrong in (-0.1, float("nan"), float("inf"), "much", None, [1]):
            with pytest.raises(ConfigurationError, match=f"{name}: {setting}="):
                loss(**{setting: wrong})
    for setting in {"alpha", "beta", "delta", "weight"} & set(drawn):
        with pytest.raises(ConfigurationError, match="between 0 and 1"):
            loss(**{setting: 1.5})


@pytest.mark.parametrize("name", ["symmetric_focal_tversky_loss", "asym_unified_focal_loss"])
def test_a_gamma_that_leaves_a_constant_is_refused(name):
    with pytest.raises(ConfigurationError, match="but not 1"):
        get(name)(gamma=1)
