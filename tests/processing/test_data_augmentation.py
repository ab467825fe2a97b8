"""The public class: what is drawn, what a batch becomes, and that MIScnn's defects are not here."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import miscnn_tf
from miscnn_tf._base import configuration
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Gamma, Noise
from miscnn_tf.processing.data_augmentation import SWITCHES, Data_Augmentation

OFF = {name: False for name in SWITCHES if name != "cycles"}
SHAPES = [(14, 18), (12, 14, 10)]


@pytest.fixture(params=SHAPES, ids=["2D", "3D"])
def batch(request, rng):
    """Images, labels and one-hot segmentations of three samples, two channels and three classes."""
    images = rng.normal(size=(3, *request.param, 2)).astype(np.float32)
    labels = rng.integers(3, size=(3, *request.param))
    return images, labels, np.eye(3, dtype=np.float32)[labels]


def everything(**settings):
    """All switches on and certain."""
    return Data_Augmentation(**{**dict.fromkeys(OFF, True), "config_p_per_sample": 1.0, **settings})


class TestInterface:
    def test_defaults(self):
        fifteen = 15 / 360 * 2 * math.pi
        augmentation = Data_Augmentation()
        assert vars(augmentation) == {
            "cycles": 1,
            "scaling": True,
            "rotations": True,
            "elastic_deform": False,
            "mirror": False,
            "brightness": True,
            "contrast": True,
            "gamma": True,
            "gaussian_noise": True,
            "config_p_per_sample": 0.15,
            "config_mirror_axes": (0, 1, 2),
            "config_contrast_range": (0.3, 3.0),
            "config_brightness_range": (0.5, 2),
            "config_gamma_range": (0.7, 1.5),
            "config_gaussian_noise_range": (0, 0.05),
            "config_elastic_deform_alpha": (0, 900),
            "config_elastic_deform_sigma": (9, 13),
            "config_rotations_angleX": (-fifteen, fifteen),
            "config_rotations_angleY": (-fifteen, fifteen),
            "config_rotations_angleZ": (-fifteen, fifteen),
            "config_scaling_range": (0.85, 1.25),
            "coloraug_per_channel": True,
            "config_contrast_preserverange": True,
            "cropping": False,
            "cropping_patch_shape": None,
            "seg_augmentation": True,
            "infaug": False,
            "infaug_all": False,
            "infaug_flip_current": None,
            "infaug_flip_list": [1, 2, 3],
        }

    def test_positional_arguments_in_the_documented_order(self):
        augmentation = Data_Augmentation(2, False, True, False, True, False, True, False, True)
        assert [getattr(augmentation, name) for name in SWITCHES] == [
            2,
            False,
            True,
            False,
            True,
            False,
            True,
            False,
            True,
        ]
        assert miscnn_tf.Data_Augmentation is Data_Augmentation

    def test_equality_compares_the_switches(self):
        assert Data_Augmentation() == Data_Augmentation(config_p_per_sample=0.9)
        for name in OFF:
            assert Data_Augmentation() != Data_Augmentation(**{name: not getattr(Data_Augmentation(), name)})
        assert Data_Augmentation() != Data_Augmentation(cycles=2)
        assert Data_Augmentation() != "default"

    def test_configuration_round_trip_through_json(self, rng):
        made = Data_Augmentation(cycles=3, elastic_deform=True, gamma=False)
        made.config_scaling_range = [0.5, 2.0]
        made.cropping, made.cropping_patch_shape = True, (8, 8, 8)
        made.seg_augmentation = False
        config = json.loads(json.dumps(made.get_config()))
        again = Data_Augmentation.from_config(config)
        assert again == made
        assert again.get_config() == made.get_config()
        assert again.draw(np.random.default_rng(4), (8, 8, 8), 2) == made.draw(np.random.default_rng(4), (8, 8, 8), 2)
        described = configuration.describe(made)
        built = configuration.build(described, {"Data_Augmentation": Data_Augmentation})
        assert built.get_config() == made.get_config()

    @pytest.mark.parametrize("cycles", [0, -1, 1.5, True, "2", None])
    def test_cycles_below_one_are_an_error(self, cycles):
        with pytest.raises(ConfigurationError, match="cycles="):
            Data_Augmentation(cycles=cycles)

    def test_cycles_set_to_zero_later_are_an_error(self, batch):
        augmentation = Data_Augmentation()
        augmentation.cycles = 0
        with pytest.raises(ConfigurationError, match="cycles=0"):
            augmentation.run(batch[0], batch[2])

    def test_unknown_settings_are_named(self):
        with pytest.raises(ConfigurationError, match="Did you mean 'config_scaling_range'"):
            Data_Augmentation(config_scale_range=(1, 2))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("config_p_per_sample", 1.5),
            ("config_p_per_sample", "often"),
            ("config_scaling_range", (0, 1)),
            ("config_scaling_range", (1.2, 0.8)),
            ("config_scaling_range", 1.2),
            ("config_gamma_range", (-1, 1)),
            ("config_gaussian_noise_range", (-0.1, 0.1)),
            ("config_rotations_angleY", (0, math.nan)),
            ("config_brightness_range", (0.5, 1, 2)),
            ("config_elastic_deform_sigma", None),
            ("config_mirror_axes", (1, 2, 3)),
            ("config_mirror_axes", 1),
        ],
    )
    def test_settings_that_cannot_work_are_named(self, name, value):
        augmentation = everything()
        setattr(augmentation, name, value)
        with pytest.raises(ConfigurationError, match=name):
            augmentation.draw(np.random.default_rng(0), (8, 8, 8), 1)

    def test_settings_of_what_is_switched_off_do_not_matter(self):
        Data_Augmentation(**OFF, config_scaling_range=None).draw(np.random.default_rng(0), (8, 8), 1)


class TestDraw:
    def plans(self, augmentation, shape=(8, 8, 8), channels=2, number=3000):
        rng = np.random.default_rng(7)
        return [augmentation.draw(rng, shape, channels) for _ in range(number)]

    def test_how_often_each_is_drawn(self):
        # No deformation here: its field would be made 450 times.
        plans = self.plans(Data_Augmentation(mirror=True))
        shares = {
            "rotations": np.mean([plan.spatial is not None and plan.spatial.angles is not None for plan in plans]),
            "scaling": np.mean([plan.spatial is not None and plan.spatial.scale is not None for plan in plans]),
            **{
                kind.__name__: np.mean([any(isinstance(step, kind) for step in plan.intensity) for plan in plans])
                for kind in (Brightness, Contrast, Gamma, Noise)
            },
        }
        for name, share in shares.items():
            assert share == pytest.approx(0.15, abs=0.025), name
        for axis in range(3):
            assert np.mean([axis in plan.mirror for plan in plans]) == pytest.approx(0.5, abs=0.04)
        # Rotation and scaling are drawn independently, as SpatialTransform does.
        assert np.mean([plan.spatial is not None for plan in plans]) == pytest.approx(1 - 0.85**2, abs=0.03)
        both = [plan.spatial is not None and None not in (plan.spatial.angles, plan.spatial.scale) for plan in plans]
        assert np.mean(both) == pytest.approx(0.15**2, abs=0.012)

    def test_what_is_drawn(self):
        plans = self.plans(everything(elastic_deform=False), number=1500)
        angles = np.array([plan.spatial.angles for plan in plans])
        fifteen = math.radians(15)
        assert angles.shape == (1500, 3)
        np.testing.assert_allclose(np.abs(angles).max(axis=0), fifteen, rtol=0.02)
        np.testing.assert_allclose(angles.std(axis=0), fifteen / math.sqrt(3), rtol=0.06)
        assert np.abs(np.corrcoef(angles.T) - np.eye(3)).max() < 0.1
        scales = np.array([plan.spatial.scale for plan in plans])
        assert (scales < 1).mean() == pytest.approx(0.5, abs=0.05)
        assert (scales.min(), scales.max()) == (pytest.approx(0.85, abs=0.005), pytest.approx(1.25, abs=0.005))
        brightness = np.array([plan.intensity[0].factors for plan in plans])
        assert brightness.shape == (1500, 2)
        assert brightness.mean() == pytest.approx(1.25, abs=0.05)
        contrast = np.array([plan.intensity[1].factors for plan in plans])
        assert (contrast < 1).mean() == pytest.approx(0.5, abs=0.05)
        gamma = np.array([plan.intensity[2].exponents for plan in plans])
        assert (gamma.min(), gamma.max()) == (pytest.approx(0.7, abs=0.01), pytest.approx(1.5, abs=0.01))
        assert (gamma < 1).mean() == pytest.approx(0.5, abs=0.05)
        sigma = np.array([plan.intensity[3].sigma for plan in plans])
        assert (sigma.min(), sigma.max()) == (pytest.approx(0, abs=0.001), pytest.approx(0.05, abs=0.001))
        # No two samples get the same noise.
        assert len({plan.intensity[3].seed for plan in plans}) == 1500

    def test_deformations_are_drawn_from_their_ranges(self):
        plans = self.plans(
            Data_Augmentation(**{**OFF, "elastic_deform": True}, config_p_per_sample=1.0), (4, 4), 1, 800
        )
        elastic = np.array([(plan.spatial.elastic.alpha, plan.spatial.elastic.sigma) for plan in plans])
        np.testing.assert_allclose(elastic.min(axis=0), (0, 9), atol=5)
        np.testing.assert_allclose(elastic.max(axis=0), (900, 13), atol=5)
        assert ((elastic[:, 1] >= 9) & (elastic[:, 1] <= 13)).all()

    def test_order_of_the_intensity_transforms(self):
        plan = everything().draw(np.random.default_rng(0), (8, 8), 1)
        assert [type(step) for step in plan.intensity] == [Brightness, Contrast, Gamma, Noise]

    def test_two_dimensions_have_one_angle_and_two_mirror_axes(self):
        plans = self.plans(everything(config_rotations_angleX=(0.1, 0.2)), (8, 8), number=100)
        assert {len(plan.spatial.angles) for plan in plans} == {1}
        assert all(0.1 <= plan.spatial.angles[0] <= 0.2 for plan in plans)
        assert {axis for plan in plans for axis in plan.mirror} == {0, 1}

    def test_each_axis_has_its_own_range_of_angles(self):
        ranges = {"X": (0.1, 0.2), "Y": (0.3, 0.4), "Z": (-0.6, -0.5)}
        settings = {f"config_rotations_angle{axis}": limits for axis, limits in ranges.items()}
        angles = np.array([plan.spatial.angles for plan in self.plans(everything(**settings), (4, 4, 4), number=50)])
        for drawn, (low, high) in zip(angles.T, ranges.values(), strict=True):
            assert low <= drawn.min() < drawn.max() <= high

    def test_only_the_axes_that_were_asked_for_are_mirrored(self):
        plans = self.plans(Data_Augmentation(**{**OFF, "mirror": True}, config_mirror_axes=(0, 2)), number=100)
        assert {plan.mirror for plan in plans} == {(), (0,), (2,), (0, 2)}

    @pytest.mark.parametrize("preserved", [True, False])
    def test_whether_contrast_keeps_the_range_can_be_chosen(self, preserved):
        plan = everything(config_contrast_preserverange=preserved).draw(np.random.default_rng(0), (8, 8), 1)
        assert plan.intensity[1].preserve_range is preserved

    def test_one_factor_for_all_channels_on_request(self):
        plan = everything(coloraug_per_channel=False).draw(np.random.default_rng(0), (8, 8), 3)
        brightness, contrast, gamma, _ = plan.intensity
        for values in (brightness.factors, contrast.factors, gamma.exponents):
            assert len(set(values)) == 1
        assert not gamma.per_channel
        plan = everything().draw(np.random.default_rng(0), (8, 8), 3)
        assert len(set(plan.intensity[0].factors)) == 3

    def test_same_generator_state_same_plan_in_every_thread(self):
        augmentation = everything()

        def draw(seed):
            return augmentation.draw(np.random.default_rng(seed), (8, 9, 7), 2)

        alone = [draw(seed) for seed in range(24)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(draw, range(24))) == alone
        assert len(set(alone)) == 24

    @pytest.mark.parametrize("shape", [(8,), (8, 8, 8, 8), (0, 8)])
    def test_impossible_patch_shapes_are_refused(self, shape):
        with pytest.raises(ConfigurationError, match="patch_shape"):
            Data_Augmentation().draw(np.random.default_rng(0), shape, 1)


class TestRun:
    def test_shapes_and_types(self, batch):
        images, _, one_hot = batch
        out, segs = everything(cycles=2).run(images, one_hot)
        assert out.shape == (6, *images.shape[1:])
        assert segs.shape == (6, *one_hot.shape[1:])
        assert out.dtype == segs.dtype == np.float32
        assert np.isfinite(out).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int16])
    @pytest.mark.parametrize("switches", [OFF, {}], ids=["off", "not drawn"])
    def test_nothing_drawn_changes_no_bit(self, batch, dtype, switches):
        images = (batch[0] * 50).astype(dtype)
        out, segs = Data_Augmentation(2, **switches, config_p_per_sample=0.0).run(images, batch[2])
        for part in (slice(0, 3), slice(3, 6)):
            np.testing.assert_array_equal(out[part], images)
            np.testing.assert_array_equal(segs[part], batch[2])
        assert out.dtype == (dtype if np.issubdtype(dtype, np.floating) else np.float32)

    def test_samples_of_a_batch_that_were_not_drawn_are_unchanged(self):
        images = np.random.default_rng(0).normal(size=(40, 16, 16, 1))
        out, _ = Data_Augmentation().run(images, rng=np.random.default_rng(1))
        same = [np.array_equal(one, other) for one, other in zip(out, images, strict=True)]
        assert 5 < sum(same) < 30

    def test_the_callers_arrays_are_not_changed(self, batch):
        images, _, one_hot = batch
        before = images.copy(), one_hot.copy()
        everything().run(images, one_hot)
        np.testing.assert_array_equal(images, before[0])
        np.testing.assert_array_equal(one_hot, before[1])

    def test_defect_voxels_without_class(self, rng):
        # MIScnn: 4.8 % of voxels have no class after the default augmentation. The object fills the image, so that the
        # border is where the background has to come from.
        images = rng.normal(size=(20, 16, 16, 16, 1)).astype(np.float32)
        one_hot = np.eye(3, dtype=np.float32)[np.full((20, 16, 16, 16), 2)]
        augmentation = everything(config_rotations_angleX=(0.2, 0.26), config_scaling_range=(1.1, 1.25))
        _, segs = augmentation.run(images, one_hot)
        np.testing.assert_array_equal(segs.sum(axis=-1), 1)
        assert set(np.unique(segs)) == {0, 1}
        assert 0.05 < segs[..., 0].mean() < 0.8
        assert segs[..., 1].sum() == 0
        assert segs[:, 8, 8, 8, 2].all()

    @given(st.integers(0, 2**32), st.sampled_from(SHAPES), st.integers(2, 5))
    @settings(max_examples=30, deadline=None)
    def test_exactly_one_class_per_voxel(self, seed, shape, classes):
        rng = np.random.default_rng(seed)
        one_hot = np.eye(classes)[rng.integers(classes, size=(2, *shape))]
        augmentation = Data_Augmentation(2, elastic_deform=True, mirror=True, config_p_per_sample=0.6)
        _, segs = augmentation.run(rng.normal(size=(2, *shape, 1)), one_hot, rng)
        np.testing.assert_array_equal(segs.sum(axis=-1), 1)
        assert set(np.unique(segs)) <= {0, 1}

    def test_label_maps_become_what_one_hot_becomes(self, batch):
        images, labels, one_hot = batch
        _, segs = everything().run(images, one_hot, np.random.default_rng(3))
        _, moved = everything().run(images, labels[..., np.newaxis].astype(np.uint8), np.random.default_rng(3))
        assert moved.dtype == np.uint8
        assert moved.shape == (*labels.shape, 1)
        np.testing.assert_array_equal(moved[..., 0], segs.argmax(axis=-1))

    def test_image_and_segmentation_move_together(self):
        # A ball that is its own segmentation stays so.
        places = np.indices((32, 32, 32)) - 15.5
        ball = ((places - np.array([4.0, -3.0, 2.0]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 36
        images = np.repeat(ball[np.newaxis, ..., np.newaxis].astype(np.float32), 12, axis=0)
        spatial = Data_Augmentation(
            **{**OFF, "rotations": True, "scaling": True, "mirror": True}, config_p_per_sample=1.0
        )
        out, segs = spatial.run(images, np.concatenate([1 - images, images], axis=-1), np.random.default_rng(0))
        overlap = (
            2 * ((out[..., 0] > 0.5) & (segs[..., 1] > 0.5)).sum() / ((out[..., 0] > 0.5).sum() + segs[..., 1].sum())
        )
        assert overlap > 0.97
        assert np.mean([(seg[..., 1] == images[0, ..., 0]).mean() for seg in segs]) < 0.98

    def test_a_mirrored_segmentation_is_that_of_the_mirrored_image(self, batch):
        _, labels, one_hot = batch
        images = labels[..., np.newaxis].astype(np.float32)
        mirror = Data_Augmentation(4, **{**OFF, "mirror": True})
        for segs in (one_hot, labels[..., np.newaxis].astype(np.uint8)):
            out, moved = mirror.run(images, segs, np.random.default_rng(0))
            followed = moved.argmax(axis=-1) if moved.shape[-1] > 1 else moved[..., 0]
            np.testing.assert_array_equal(followed, out[..., 0])
            assert not np.array_equal(out, np.concatenate([images] * 4))

    def test_beyond_the_border_the_image_goes_on(self):
        spatial = Data_Augmentation(
            **{**OFF, "rotations": True, "scaling": True}, config_p_per_sample=1.0, config_scaling_range=(1.2, 1.25)
        )
        out, _ = spatial.run(np.full((5, 12, 12, 12, 1), 100, np.float32))
        np.testing.assert_allclose(out, 100, rtol=1e-5)

    def test_without_a_segmentation(self, batch):
        out, segs = everything().run(batch[0])
        assert segs is None
        assert out.shape == batch[0].shape

    def test_seg_augmentation_false_leaves_the_target_alone(self, batch):
        target = np.eye(5)[[0, 2, 4]]
        augmentation = everything(cycles=2)
        augmentation.seg_augmentation = False
        _, targets = augmentation.run(batch[0], target)
        np.testing.assert_array_equal(targets, np.concatenate([target, target]))

    def test_same_generator_same_result(self, batch):
        one, other, another = (everything().run(batch[0], batch[2], np.random.default_rng(seed)) for seed in (5, 5, 6))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert not np.array_equal(one[0], another[0])

    def test_without_a_generator_every_run_differs(self, batch):
        assert not np.array_equal(everything().run(batch[0])[0], everything().run(batch[0])[0])

    def test_numpys_global_random_state_is_neither_used_nor_changed(self, batch):
        results = []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002 - this is the state in question
            before = np.random.get_state()[1].copy()  # noqa: NPY002
            results.append(everything().run(batch[0], batch[2], np.random.default_rng(0))[0])
            np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
            assert np.random.get_state()[2] == 624  # noqa: NPY002 - nothing drawn since the seed
        np.testing.assert_array_equal(*results)

    @pytest.mark.parametrize("value", [0.0, -1024.0, 255.0])
    def test_constant_images_give_no_nan(self, value):
        images = np.full((4, 12, 12, 12, 1), value, np.float32)
        out, _ = everything().run(images)
        assert np.isfinite(out).all()

    def test_bad_input_is_named(self, batch):
        images, _, one_hot = batch
        with pytest.raises(ConfigurationError, match="batch"):
            Data_Augmentation().run(images[0, 0])
        with pytest.raises(DataError, match="seg has shape"):
            Data_Augmentation().run(images, one_hot[:2])
        with pytest.raises(DataError, match="seg has shape"):
            Data_Augmentation().run(images, one_hot[..., 0])


class TestCropping:
    def crop(self, shape, **switches):
        augmentation = Data_Augmentation(**{**OFF, **switches}, config_p_per_sample=1.0)
        augmentation.cropping, augmentation.cropping_patch_shape = True, shape
        return augmentation

    def test_crops_lie_at_random_places(self):
        images = np.arange(40 * 20 * 24, dtype=np.float64).reshape(40, 20, 24, 1)
        labels = (images % 251).astype(np.uint8)
        out, segs = self.crop((8, 24)).run(images, labels, np.random.default_rng(0))
        assert out.shape == segs.shape == (40, 8, 24, 1)
        starts = [int(crop[0, 0, 0] - image[0, 0, 0]) // 24 for crop, image in zip(out, images, strict=True)]
        assert set(starts) == set(range(13))
        for crop, seg, image, start in zip(out, segs, images, starts, strict=True):
            np.testing.assert_array_equal(crop, image[start : start + 8])
            np.testing.assert_array_equal(seg, crop % 251)

    def test_a_turned_crop_uses_its_surroundings(self):
        # The image is foreground throughout, so that background can only come from outside of it.
        images, labels = np.ones((10, 60, 60, 1), np.float32), np.ones((10, 60, 60, 1), np.uint8)
        augmentation = self.crop((8, 8), rotations=True)
        _, segs = augmentation.run(images[:, 20:40, 20:40], labels[:, 20:40, 20:40], np.random.default_rng(0))
        assert segs.mean() > 0.95

    def test_an_image_smaller_than_the_crop_is_padded(self):
        images = np.ones((2, 5, 12, 1), np.float32)
        one_hot = np.eye(2)[np.ones((2, 5, 12), int)]
        out, segs = self.crop((8, 8)).run(images, one_hot)
        assert out.shape == (2, 8, 8, 1)
        np.testing.assert_array_equal(segs.sum(axis=-1), 1)
        # The larger half of an odd difference at the end, as everywhere else.
        assert segs[:, 1:6, :, 1].all()
        assert segs[..., 1].sum() == 2 * 5 * 8

    @pytest.mark.parametrize("shape", [None, (8,), (8, 8, 8), (0, 8), 8])
    def test_a_shape_that_does_not_fit_is_named(self, shape):
        with pytest.raises(ConfigurationError, match="cropping_patch_shape"):
            self.crop(shape).run(np.ones((1, 16, 16, 1)))


class TestSharedState:
    def test_defect_shared_default_instance(self, batch):
        # MIScnn: after another object cropped, full images came out as crops.
        one, other = Data_Augmentation(), Data_Augmentation()
        one.cropping, one.cropping_patch_shape = True, (4,) * (batch[0].ndim - 2)
        one.config_scaling_range = (0.1, 0.2)
        one.infaug_flip_list.append(9)
        one.run(batch[0], batch[2])
        assert vars(other) == vars(Data_Augmentation())
        assert other.run(batch[0], batch[2])[0].shape == batch[0].shape

    def test_the_class_has_no_attributes_as_state(self):
        public = {name for name in vars(Data_Augmentation) if not name.startswith("_")}
        assert public == {"draw", "run", "run_infaug", "get_config", "from_config", "validate"}

    def test_running_changes_no_attribute(self, batch):
        augmentation = everything()
        before = augmentation.get_config()
        augmentation.run(batch[0], batch[2])
        assert augmentation.get_config() == before


class TestInferenceAugmentation:
    def test_flips_are_involutions(self, batch):
        augmentation = Data_Augmentation()
        for axis in augmentation.infaug_flip_list[: batch[0].ndim - 2]:
            augmentation.infaug_flip_current = axis
            flipped = augmentation.run_infaug(batch[0])
            assert not np.array_equal(flipped, batch[0])
            np.testing.assert_array_equal(np.swapaxes(flipped, 0, axis)[0], np.swapaxes(batch[0], 0, axis)[-1])
            np.testing.assert_array_equal(augmentation.run_infaug(flipped), batch[0])
            np.testing.assert_array_equal(Data_Augmentation().run_infaug(batch[0], axis), flipped)

    def test_no_axis_no_flip(self, batch):
        assert Data_Augmentation().run_infaug(batch[0]) is batch[0]

    @pytest.mark.parametrize("axis", [0, -1, 3, 4])
    def test_only_spatial_axes_can_be_flipped(self, axis):
        augmentation = Data_Augmentation()
        augmentation.infaug_flip_current = axis
        with pytest.raises(ConfigurationError, match="spatial axis"):
            augmentation.run_infaug(np.ones((1, 4, 4, 2)))
