"""Against float64 numpy."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions import Normalization


def normalized(image, channels=1, **arguments):
    sample = Sample("case", image, channels=channels, classes=2)
    Normalization(**arguments).preprocessing(sample)
    assert sample.img_data.dtype == np.float32
    return sample.img_data


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 5)])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_z_score(rng, shape, kind):
    image = rng.integers(0, 200, shape).astype(kind)
    result = normalized(image)[..., 0]
    exact = image.astype(np.float64)
    np.testing.assert_allclose(result, (exact - exact.mean()) / exact.std(), atol=1e-6)


def test_modes_minmax_and_grayscale(rng):
    image = rng.normal(50, 20, (8, 9, 10))
    scaled = (image - image.min()) / (image.max() - image.min())
    minmax = normalized(image, mode="minmax")
    np.testing.assert_allclose(minmax[..., 0], scaled, atol=1e-6)
    assert (minmax.min(), minmax.max()) == (0, 1)
    gray = normalized(image, mode="grayscale")[..., 0]
    assert (gray.min(), gray.max()) == (0, 255)
    assert np.array_equal(gray, np.rint(gray))
    np.testing.assert_allclose(gray, scaled * 255, atol=0.5 + 1e-4)


def test_channels_have_their_own_units(rng):
    t1, adc = rng.normal(800, 100, (6, 7, 8)), rng.normal(1.0, 0.1, (6, 7, 8))
    result = normalized(np.stack([t1, adc], axis=-1), channels=2)
    for channel, image in enumerate((t1, adc)):
        np.testing.assert_allclose(result[..., channel], (image - image.mean()) / image.std(), atol=1e-4)


@pytest.mark.parametrize("mode", ["z-score", "minmax", "grayscale"])
@pytest.mark.parametrize("value", [0, -1024, 0.1, 1000.1, 1e30])
@pytest.mark.parametrize("smooth", [1e-6, 0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_collapse__constant_images_give_zeros_and_no_nan(mode, value, smooth, kind, caplog):
    image = np.full((31, 17, 13), value, kind)
    assert not normalized(image, mode=mode, smooth=smooth).any()
    assert not caplog.records


@pytest.mark.parametrize("mode", ["z-score", "minmax", "grayscale"])
@pytest.mark.filterwarnings("error")
def test_nan__statistics_are_those_of_the_finite_voxels(rng, mode):
    image = rng.normal(10, 3, (9, 9))
    spoiled = image.copy()
    spoiled[0, :4] = [np.nan, np.inf, -np.inf, np.nan]
    result = normalized(spoiled, mode=mode)[..., 0]
    assert (result[0, :4] == 0).all()
    finite = np.isfinite(spoiled)
    expected = normalized(image[finite][np.newaxis], mode=mode)[0, :, 0]
    np.testing.assert_allclose(result[finite], expected, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_nothing_but_nan():
    assert not normalized(np.full((3, 3), np.nan)).any()


def test_an_offset_far_above_the_contrast_does_not_cancel(rng):
    image = 1e6 + rng.integers(0, 3, (20, 20, 20))
    result = normalized(image)
    assert abs(result.mean(dtype=np.float64)) < 1e-6
    assert abs(result.std(dtype=np.float64) - 1) < 1e-5


def test_many_slabs_are_as_one(rng, monkeypatch):
    image = rng.normal(size=(40, 6, 5)).astype(np.float32)
    whole = {mode: normalized(image, mode=mode) for mode in ("z-score", "minmax")}
    monkeypatch.setattr("miscnn_tf.processing.subfunctions.normalization._SLAB_BYTES", 700)
    for mode, expected in whole.items():
        np.testing.assert_allclose(normalized(image, mode=mode), expected, atol=1e-6)


def test_smooth_is_added_to_the_standard_deviation_and_its_effect_is_said(caplog):
    image = np.array([[0.0, 2.0]])
    np.testing.assert_allclose(normalized(image, smooth=1.0).ravel(), [-0.5, 0.5])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        normalized(image * 1e-9)
    assert "smaller smooth" in caplog.text
    assert "'case'" in caplog.text
    np.testing.assert_allclose(normalized(image * 1e-9, smooth=0).ravel(), [-1, 1], atol=1e-6)


@pytest.mark.parametrize("arguments", [{"mode": "zscore"}, {"smooth": -1}, {"smooth": float("nan")}, {"smooth": "no"}])
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match="Normalization"):
        Normalization(**arguments)


def test_ct_is_clipped_and_scaled_by_the_statistics_of_the_data_set(rng):
    image = rng.integers(-1024, 2000, (6, 7, 8)).astype(np.int16)
    result = normalized(image, mode="ct", statistics=(-75, 300, 60, 40))[..., 0]
    np.testing.assert_allclose(result, (np.clip(image.astype(float), -75, 300) - 60) / 40, rtol=1e-6)
    # The source is not changed, also if it is float64 already.
    image = image.astype(np.float64)
    before = image.copy()
    normalized(image, mode="ct", statistics=(-75, 300, 60, 40))
    np.testing.assert_array_equal(image, before)


def test_a_mode_per_channel(rng):
    image = np.stack([rng.integers(0, 256, (9, 8)), rng.normal(50, 9, (9, 8)), rng.normal(5, 2, (9, 8))], -1)
    sample = Sample("a", image, channels=3, classes=2, three_dim=False)
    Normalization(("rgb", "ct", "none"), statistics=[(0, 99, 40, 8)]).preprocessing(sample)
    np.testing.assert_allclose(sample.img_data[..., 0], image[..., 0] / 255, rtol=1e-6)
    np.testing.assert_allclose(sample.img_data[..., 1], (np.clip(image[..., 1], 0, 99) - 40) / 8, rtol=1e-5)
    np.testing.assert_allclose(sample.img_data[..., 2], image[..., 2], rtol=1e-6)
    with pytest.raises(DataError, match="2 channels, but Normalization has 3 modes"):
        Normalization(("rgb", "z-score", "none")).preprocessing(
            Sample("a", image[..., :2], channels=2, classes=2, three_dim=False)
        )


def test_statistics_within_what_is_not_zero(rng):
    image = np.zeros((12, 12, 2))
    image[3:9, 3:9] = rng.normal(100, 10, (6, 6, 2))
    image[5, 5] = 0  # enclosed: a voxel of the patient
    image[4, 4, 1] = 0  # zero in one channel only
    sample = Sample("a", image, channels=2, classes=2, three_dim=False)
    Normalization("z-score", smooth=0, nonzero=True).preprocessing(sample)
    for channel in range(2):
        inside = image[3:9, 3:9, channel]
        expected = (inside - inside.mean()) / inside.std()
        np.testing.assert_allclose(sample.img_data[3:9, 3:9, channel], expected, rtol=1e-5)
    assert np.count_nonzero(sample.img_data) == 2 * 36


def test_what_the_new_modes_need_is_checked():
    with pytest.raises(ConfigurationError, match="'ct' needs statistics"):
        Normalization(("z-score", "ct"))
    for bad in ((1, 2, 3), (5, 2, 3, 4), (1, 2, 3, -4), (1, 2, float("nan"), 4)):
        with pytest.raises(ConfigurationError, match="statistics"):
            Normalization("ct", statistics=bad)
    for value in (-1, 256):
        with pytest.raises(DataError, match="for 0 to 255"):
            normalized(np.array([[0, value], [1, 2]]), mode="rgb")
