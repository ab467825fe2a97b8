"""The augmentation of nnU-Net's trainer: what is drawn, settings, and use through `Preprocessor` and model files."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

from miscnn_tf import Data_Augmentation, NnUNetAugmentation
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.schema import Augmentation
from miscnn_tf.processing.augmentation.drawn_augmentation import Augmentation as Drawn
from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Noise
from miscnn_tf.processing.augmentation.linear_spatial import LinearSpatial
from miscnn_tf.processing.augmentation.nnunet_intensity import Blur, KeptGamma, LowResolution

DRAWS = 3000
SHAPE = (12, 12, 12)


@pytest.fixture(scope="module")
def drawn():
    rng, augmentation = np.random.default_rng(1), NnUNetAugmentation()
    return [augmentation.draw(rng, SHAPE, 2) for _ in range(DRAWS)]


def found(drawn, kind):
    return [one for each in drawn for one in each.intensity if isinstance(one, kind)]


def assert_probability(count, probability, of=DRAWS):
    assert abs(count - of * probability) < 5 * math.sqrt(of * probability * (1 - probability))


def assert_uniform(values, low, high):
    assert low <= min(values)
    assert max(values) <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def assert_around_one(values, low, high):
    values = np.array(values)
    assert_probability((values < 1).sum(), 0.5, of=len(values))
    assert_uniform(values[values < 1], low, 1)
    assert_uniform(values[values >= 1], 1, high)


def test_rotation_and_scaling(drawn):
    spatial = [one.spatial for one in drawn if one.spatial is not None]
    angles = [one.angles for one in spatial if one.angles]
    scales = [one.scale for one in spatial if one.scale != 1]
    assert_probability(len(angles), 0.2)
    assert_probability(len(scales), 0.2)
    assert_probability(len(spatial), 1 - 0.8**2)
    for axis in range(3):
        assert_uniform([one[axis] for one in angles], -math.pi / 6, math.pi / 6)
    assert_uniform(scales, 0.7, 1.4)


def test_noise_and_blur(drawn):
    noise, blur = found(drawn, Noise), found(drawn, Blur)
    assert_probability(len(noise), 0.1)
    assert_uniform([one.sigma for one in noise], 0, 0.1)
    assert_probability(len(blur), 0.2)
    sigmas = [each for one in blur for each in one.sigmas if each]
    assert_probability(len(sigmas), 0.5, of=2 * len(blur))
    for axis in range(3):
        assert_uniform([each[axis] for each in sigmas], 0.5, 1)


@pytest.mark.parametrize("kind", [Brightness, Contrast])
def test_brightness_and_contrast(drawn, kind):
    records = found(drawn, kind)
    assert_probability(len(records), 0.15)
    for channel in range(2):
        assert_around_one([one.factors[channel] for one in records], 0.75, 1.25)


def test_low_resolution(drawn):
    records = found(drawn, LowResolution)
    assert_probability(len(records), 0.25)
    scales = [each for one in records for each in one.scales if each]
    assert_probability(len(scales), 0.5, of=2 * len(records))
    assert all(len(set(each)) == 1 for each in scales)
    assert_uniform([each[0] for each in scales], 0.5, 1)


@pytest.mark.parametrize(("invert", "probability"), [(True, 0.1), (False, 0.3)])
def test_gamma(drawn, invert, probability):
    records = [one for one in found(drawn, KeptGamma) if one.invert == invert]
    assert_probability(len(records), probability)
    assert_around_one([one.exponents[0] for one in records], 0.7, 1.5)


def test_mirrors_and_order(drawn):
    for axis in range(3):
        assert_probability(sum(axis in one.mirror for one in drawn), 0.5)
    assert all(one.mirror_last for one in drawn)
    order = [Noise, Blur, Brightness, Contrast, LowResolution, KeptGamma]
    places = [[order.index(type(one)) for one in each.intensity] for each in drawn]
    assert all(each == sorted(each) for each in places)
    both = [[one.invert for one in each.intensity if isinstance(one, KeptGamma)] for each in drawn]
    assert [True, False] in both
    assert [False, True] not in both


@pytest.mark.parametrize(
    ("shape", "across", "degrees"),
    [
        ((64, 64, 64), None, 30),
        ((90, 64, 30), None, 30),
        ((91, 64, 30), 2, 180),
        ((16, 128, 128), 0, 180),
        ((64, 64), None, 180),
        ((96, 64), None, 180),
        ((97, 64), None, 15),
    ],
)
def test_rotation_follows_the_shape_of_the_patch(shape, across, degrees):
    augmentation = NnUNetAugmentation()
    assert augmentation.slice_axis(shape) == across
    assert math.degrees(augmentation.rotation_limit(shape)) == pytest.approx(degrees)


def test_thick_slices_are_transformed_one_by_one():
    rng, augmentation = np.random.default_rng(0), NnUNetAugmentation(within_slices=2)
    drawn = [augmentation.draw(rng, (12, 12, 12), 1) for _ in range(500)]
    spatial = [one.spatial for one in drawn if one.spatial is not None]
    assert {one.slices_along for one in spatial} == {2}
    assert {len(one.angles) for one in spatial} == {0, 1}
    assert max(abs(angle) for one in spatial for angle in one.angles) > math.radians(150)
    scales = [each for one in found(drawn, LowResolution) for each in one.scales if each]
    assert all(each[2] == 1 and each[0] == each[1] < 1 for each in scales)
    assert NnUNetAugmentation(within_slices="never").slice_axis((64, 64, 8)) is None


def test_samples_differ_and_the_same_seed_gives_the_same_result_in_any_thread(rng):
    images = np.repeat(rng.normal(size=(1, 16, 16, 16, 1)).astype(np.float32), 8, axis=0)
    labels = np.repeat(rng.integers(0, 3, (1, 16, 16, 16, 1)).astype(np.uint8), 8, axis=0)
    augmentation = NnUNetAugmentation()

    def run(seed):
        return augmentation.run(images, labels, rng=np.random.default_rng(seed))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, [5] * 4))
    for image, label in results[1:]:
        np.testing.assert_array_equal(image, results[0][0])
        np.testing.assert_array_equal(label, results[0][1])
    assert len({one.tobytes() for one in results[0][0]}) == 8
    assert set(np.unique(results[0][1])) <= {0, 1, 2}


def test_labels_and_image_move_together(rng):
    blocks = rng.integers(0, 2, (5, 5)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
    plan = Drawn((30, 30), (1,), LinearSpatial((30, 30), (0.7,), 0.9), mirror_last=True)
    _, shape = plan.region((30, 30))
    region = np.pad(blocks, 20, mode="wrap")[tuple(map(slice, shape))]
    image, labels = plan.apply(region[..., np.newaxis].astype(np.float32), region, (30, 30))
    assert labels is not None
    np.testing.assert_array_equal(labels[np.abs(image[..., 0] - 0.5) > 1e-3], image[np.abs(image - 0.5) > 1e-3] > 0.5)


def test_masked_channels_are_zero_again_outside_of_the_body():
    image = np.full((10, 10, 2), 3.0, np.float32)
    image[:4] = 0
    plan = Drawn((10, 10), (0,), None, (Noise(0.1, 1),), mirror_last=True, masked_channels=(0,))
    result = plan.apply_to_image(image)
    np.testing.assert_array_equal(result[6:, :, 0], 0)
    assert (result[:6, :, 0] != 0).all()
    assert (result[6:, :, 1] != 0).all()


def test_masked_channels_must_exist():
    with pytest.raises(ConfigurationError, match=r"masked_channels=\(1,\): the image has 1 channels"):
        NnUNetAugmentation(masked_channels=(1,)).draw(np.random.default_rng(0), SHAPE, 1)


def test_config_builds_an_equal_augmentation():
    augmentation = NnUNetAugmentation(2, within_slices=1, masked_channels=(0,), config_mirror_axes=(0, 2))
    again = NnUNetAugmentation.from_config(augmentation.get_config())
    assert again == augmentation
    assert again != NnUNetAugmentation()
    assert again != Data_Augmentation(2, mirror=True)


@pytest.mark.parametrize("name", ["rotations", "config_gamma_range", "config_p_per_sample"])
def test_settings_without_effect_are_errors(name):
    with pytest.raises(ConfigurationError, match=f"has no setting '{name}'"):
        NnUNetAugmentation(**{name: 0})
    augmentation = NnUNetAugmentation()
    setattr(augmentation, name, 0.5)
    with pytest.raises(ConfigurationError, match=f"has no setting '{name}'"):
        augmentation.draw(np.random.default_rng(0), SHAPE, 1)


@pytest.mark.parametrize("value", [3, -1, True, "always", 1.5])
def test_within_slices_is_checked(value):
    with pytest.raises(ConfigurationError, match="within_slices"):
        NnUNetAugmentation(within_slices=value)


def test_slices_need_three_axes():
    with pytest.raises(ConfigurationError, match="needs patches of three axes"):
        NnUNetAugmentation(within_slices=0).draw(np.random.default_rng(0), (8, 8), 1)


def test_configuration_file():
    table = Augmentation(recipe="nnunet", within_slices=2, mirror_axes=[0, 1], infaug=True)
    assert table.make() == NnUNetAugmentation(within_slices=2, config_mirror_axes=(0, 1), infaug=True)
    assert Augmentation(recipe="nnunet").make() == NnUNetAugmentation()
    assert type(Augmentation().make()) is Data_Augmentation


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"within_slices": 2}, "within_slices = 2 needs recipe = 'nnunet'"),
        ({"recipe": "nnunet", "gamma": False}, "has no setting 'gamma'"),
        ({"recipe": "nnunet", "scaling_range": [0.5, 2.0]}, "has no setting 'scaling_range'"),
        ({"recipe": "nnunett"}, "nnunet"),
    ],
)
def test_configuration_file_with_a_mistake(keys, message):
    with pytest.raises((ConfigurationError, ValueError), match=message):
        Augmentation(**keys)


def test_a_single_slice_of_a_volume_is_augmented_as_an_image() -> None:
    slices = NnUNetAugmentation(within_slices=1)
    for flat in ((64, 64), (64, 32), (40, 64)):
        deep = (flat[0], 1, flat[1])
        assert slices.rotation_limit(deep) == NnUNetAugmentation().rotation_limit(flat)
    assert slices.rotation_limit((64, 4, 32)) == pytest.approx(np.pi)


def test_the_other_slices_of_a_volume_do_not_matter_to_a_patch_of_one() -> None:
    augmentation = NnUNetAugmentation(within_slices=2)
    volume = np.random.default_rng(0).normal(size=(80, 80, 31, 1)).astype(np.float32)
    other = volume.copy()
    other[:, :, :15], other[:, :, 16:] = 1000, -1000
    changed = 0
    for seed in range(80):
        drawn = augmentation.draw(np.random.default_rng(seed), (16, 16, 1), 1)
        start, shape = drawn.region((16, 16, 1))
        where = tuple(slice(p + s, p + s + n) for p, s, n in zip((32, 32, 15), start, shape, strict=True))
        seen = [drawn.apply(image[where].copy(), None, (16, 16, 1))[0] for image in (volume, other)]
        assert seen[0].shape == (16, 16, 1, 1)
        np.testing.assert_allclose(*seen, atol=1e-4)
        changed += not np.array_equal(seen[0], volume[32:48, 32:48, 15:16])
    assert changed > 60
