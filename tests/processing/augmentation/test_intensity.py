"""Intensity transforms against batchgenerators given the same draws."""

from __future__ import annotations

import random

import numpy as np
import pytest
from batchgenerators.augmentations import color_augmentations, noise_augmentations

from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Gamma, Noise

SHAPES = [(12, 14), (8, 9, 10)]


@pytest.fixture(params=SHAPES, ids=["2D", "3D"])
def image(request, rng):
    return rng.normal(3.0, 20.0, size=(*request.param, 3)).astype(np.float32)


def channels_first(image):
    """batchgenerators' axis order, in float64."""
    return np.moveaxis(image, -1, 0).astype(np.float64)


def assert_equal(ours, theirs):
    # A deviation is measured against the values' range: values near zero have no relative precision.
    np.testing.assert_allclose(ours, np.moveaxis(theirs, 0, -1), rtol=1e-5, atol=1e-5 * np.ptp(theirs))


def fixed_numbers(monkeypatch, values):
    """Let numpy's global `uniform` return `values` one after the other, and 0 for draws that ask "whether"."""
    values = iter(values)
    monkeypatch.setattr(np.random, "uniform", lambda low=None, high=None: 0.0 if low is None else next(values))


def test_brightness(image, monkeypatch):
    factors = (0.5, 1.3, 2.0)
    fixed_numbers(monkeypatch, [1.0, *factors])
    theirs = color_augmentations.augment_brightness_multiplicative(channels_first(image), (0.5, 2))
    Brightness(factors)(image)
    assert_equal(image, theirs)


@pytest.mark.parametrize("preserve_range", [True, False])
def test_contrast(image, preserve_range):
    factors = (0.3, 1.7, 3.0)
    draws = iter(factors)
    theirs = color_augmentations.augment_contrast(channels_first(image), lambda: next(draws), preserve_range)
    Contrast(factors, preserve_range)(image)
    assert_equal(image, theirs)


def test_contrast_preserves_the_range(image):
    values = image.reshape(-1, 3)
    least, greatest = values.min(axis=0), values.max(axis=0)
    Contrast((3.0,) * 3)(image)
    np.testing.assert_array_equal(values.min(axis=0), least)
    np.testing.assert_array_equal(values.max(axis=0), greatest)


@pytest.mark.parametrize("per_channel", [True, False])
def test_gamma(image, per_channel, monkeypatch):
    exponents = (0.7, 1.1, 1.5) if per_channel else (1.4,) * 3
    fixed_numbers(monkeypatch, exponents)
    theirs = color_augmentations.augment_gamma(channels_first(image), (0.7, 1.5), per_channel=per_channel)
    Gamma(exponents, per_channel)(image)
    assert_equal(image, theirs)


def test_noise(image, monkeypatch):
    sigma, seed = 0.04, 5
    numbers = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    drawn = iter(np.moveaxis(numbers, -1, 0))
    monkeypatch.setattr(random, "uniform", lambda low, high: sigma)
    monkeypatch.setattr(np.random, "normal", lambda mean, scale, size: mean + scale * next(drawn))
    theirs = noise_augmentations.augment_gaussian_noise(channels_first(image), (0, 0.05))
    Noise(sigma, seed)(image)
    assert_equal(image, theirs)


def test_noise_has_the_deviation_that_was_drawn():
    image = np.zeros((40, 40, 40, 2), np.float32)
    Noise(0.05, 3)(image)
    np.testing.assert_allclose(image.std(axis=(0, 1, 2)), 0.05, rtol=0.02)
    assert abs(np.corrcoef(image[..., 0].ravel(), image[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("value", [0.0, 7.3, -1024.0])
@pytest.mark.parametrize(
    "transform", [Gamma((0.7, 1.5)), Gamma((1.5, 1.5), per_channel=False), Contrast((0.3, 3.0))], ids=repr
)
def test_a_constant_image_stays_what_it_is(value, transform):
    image = np.full((9, 9, 9, 2), value, np.float32)
    transform(image)
    np.testing.assert_array_equal(image, np.float32(value))


def test_precision_of_a_large_offset():
    # A CT's mean is summed over millions of voxels: float32 sums alone would be off by whole units.
    image = np.random.default_rng(0).normal(-1000, 100, size=(64, 64, 64, 1)).astype(np.float32)
    expected = (image.astype(np.float64) - image.mean(dtype=np.float64)) * 0.3 + image.mean(dtype=np.float64)
    Contrast((0.3,), preserve_range=False)(image)
    np.testing.assert_allclose(image, expected, atol=1e-3)
