"""nnU-Net's loss by its formula in NumPy; ``benchmarks/parity.py`` compares it and its gradients with PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.label_target import compared
from miscnn_tf.neural_network.losses import get, losses, nnunet_loss


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def by_formula(t, p, batch_dice, background, mask=None, smooth=1e-5):
    mask = np.ones(t.shape[:-1]) if mask is None else mask
    first = 0 if background else 1
    axes = tuple(range(0 if batch_dice else 1, t.ndim - 1))
    t_, p_ = t[..., first:] * mask[..., None], p[..., first:] * mask[..., None]
    dice = (2 * (t_ * p_).sum(axes) + smooth) / (t_.sum(axes) + p_.sum(axes) + smooth)
    crossentropy = -(t * np.log(p)).sum(-1)[mask > 0].mean()
    return 1 - dice.mean() + crossentropy


@pytest.mark.parametrize("shape", [(2, 6, 5), (3, 4, 5, 3)])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_it_is_dice_and_crossentropy(rng, shape, batch_dice, background):
    p = softmax(rng.normal(size=(*shape, 3)).astype(np.float32))
    labels = rng.integers(0, 3, shape)
    labels[0][labels[0] == 2] = 0
    t = np.eye(3, dtype=np.float32)[labels]
    loss = nnunet_loss(batch_dice=batch_dice, background=background)
    assert float(loss(t, p)) == pytest.approx(by_formula(t, p, batch_dice, background), rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_voxels_without_annotation_do_not_count(rng, batch_dice):
    p = softmax(rng.normal(size=(2, 6, 5, 3)).astype(np.float32))
    labels = rng.integers(0, 4, (2, 6, 5))
    labels[1, :4] = 3  # another number in each sample
    target, output = compared(tf.constant(labels), tf.constant(p), LabelScheme(3, has_ignored=True))
    t = np.eye(4, dtype=np.float32)[labels][..., :3]
    expected = by_formula(t, p, batch_dice, False, mask=(labels < 3).astype(float))
    assert float(nnunet_loss(batch_dice=batch_dice)(target, output)) == pytest.approx(expected, rel=1e-5)
    # And if there is nothing else, the loss is finite and has no gradient.
    logits = tf.Variable(rng.normal(size=(1, 4, 4, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        target, output = compared(tf.fill((1, 4, 4), 3), tf.nn.softmax(logits), LabelScheme(3, has_ignored=True))
        value = nnunet_loss()(target, output)
    assert np.isfinite(float(value))
    assert not np.any(tape.gradient(value, logits))


def test_regions_have_the_binary_crossentropy_of_each_channel(rng):
    p = rng.uniform(0.01, 0.99, (2, 6, 5, 2)).astype(np.float32)
    t = (rng.random((2, 6, 5, 2)) < 0.4).astype(np.float32)
    dice = (2 * (t * p).sum((1, 2)) + 1e-5) / (t.sum((1, 2)) + p.sum((1, 2)) + 1e-5)
    expected = 1 - dice.mean() - (t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert float(nnunet_loss(regions=True)(t, p)) == pytest.approx(expected, rel=1e-5)


def test_regions_with_an_ignore_label_have_the_sum_over_the_channels(rng):
    """nnU-Net's DC_and_BCE_loss averages over the channels only without an ignore label."""
    p = rng.uniform(0.01, 0.99, (2, 6, 5, 2)).astype(np.float32)
    t = (rng.random((2, 6, 5, 2)) < 0.4).astype(np.float32)
    binary = -float((t * np.log(p) + (1 - t) * np.log(1 - p)).mean())
    averaged, summed = (float(nnunet_loss(regions=True, ignore=ignore)(t, p)) for ignore in (False, True))
    assert summed - averaged == pytest.approx(binary, rel=1e-4)
    assert nnunet_loss(ignore=True).get_config()["ignore"] is True


def test_a_voxel_that_is_very_wrong_keeps_its_gradient():
    """With a floor of 1e-7 in the logarithm, the gradient was 0 from a logit of 16 on."""
    for logit in (5.0, 20.0, 60.0):
        logits = tf.Variable([[[[logit, 0.0]]]])
        with tf.GradientTape() as tape:
            value = nnunet_loss()(tf.constant([[[[0.0, 1.0]]]]), tf.nn.softmax(logits))
        first, second = np.ravel(tape.gradient(value, logits))
        assert first == pytest.approx(1, abs=0.02)
        assert second == pytest.approx(-1, abs=0.02)


def test_class_weights_and_names():
    assert losses["nnunet_loss"] is get("nnunet_loss") is nnunet_loss
    t = np.eye(3, dtype=np.float32)[np.array([[[0, 1], [2, 2]]])]
    p = softmax(np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3))
    equal = float(np.mean(nnunet_loss.call(t, p, class_weights=(2, 2, 2))))
    assert equal == pytest.approx(float(nnunet_loss(t, p)), rel=1e-6)
    assert float(np.mean(nnunet_loss.call(t, p, class_weights=(1, 5, 1)))) != pytest.approx(equal, rel=1e-3)
    with pytest.raises(ConfigurationError, match="nnunet_loss needs a background"):
        nnunet_loss(t[..., :1], p[..., :1])
    with pytest.raises(ConfigurationError, match="batch_dice"):
        nnunet_loss(batch_dice="yes")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
