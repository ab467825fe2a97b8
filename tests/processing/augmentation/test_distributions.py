"""What is drawn, against what batchgenerators' transforms draw: how often, and from which distribution."""

from __future__ import annotations

import numpy as np
import pytest
from batchgenerators.augmentations import spatial_transformations
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform
from scipy import stats

from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Gamma, Noise
from miscnn_tf.processing.data_augmentation import Data_Augmentation

DRAWS = 1500
SHAPE = (6, 6, 6)
IMAGE = np.linspace(1, 2, 216, dtype=np.float32).reshape(1, 1, *SHAPE)


def same(ours, theirs):
    """Whether two sets of numbers may come from one distribution, and are as many but for chance."""
    expected = DRAWS * Data_Augmentation().config_p_per_sample
    for drawn in (ours, theirs):
        assert abs(len(drawn) - expected) < 5 * np.sqrt(expected)
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def plans():
    augmentation = Data_Augmentation(mirror=True)
    rng = np.random.default_rng(0)
    return [augmentation.draw(rng, SHAPE, 1) for _ in range(DRAWS)]


@pytest.fixture(autouse=True)
def their_seed():
    state = np.random.get_state()  # noqa: NPY002 (batchgenerators draws from it)
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


def results(transform):
    """The images that batchgenerators changed."""
    made = [transform(data=IMAGE.copy())["data"] for _ in range(DRAWS)]
    return [image[0, 0] for image in made if not np.array_equal(image, IMAGE)]


def drawn(kind):
    return [transform for plan in plans() for transform in plan.intensity if isinstance(transform, kind)]


def test_brightness():
    theirs = results(BrightnessMultiplicativeTransform((0.5, 2), p_per_sample=0.15))
    same([one.factors[0] for one in drawn(Brightness)], [image[0, 0, 0] / IMAGE[0, 0, 0, 0, 0] for image in theirs])


def test_contrast():
    theirs = results(ContrastAugmentationTransform((0.3, 3.0), preserve_range=False, p_per_sample=0.15))
    same([one.factors[0] for one in drawn(Contrast)], [np.ptp(image) for image in theirs])


def test_gamma():
    theirs = results(GammaTransform((0.7, 1.5), per_channel=True, p_per_sample=0.15))
    middle = float(IMAGE.flat[100]) - 1
    exponents = [np.log(image.flat[100] - 1) / np.log(middle) for image in theirs]
    same([one.exponents[0] for one in drawn(Gamma)], exponents)


def test_noise():
    theirs = results(GaussianNoiseTransform((0, 0.05), p_per_sample=0.15))
    # The spread of 216 numbers is the deviation that was drawn, within 5 %.
    ours = []
    for one in drawn(Noise):
        image = np.zeros((*SHAPE, 1), np.float32)
        one(image)
        ours.append(image.std())
    same(ours, [(image - IMAGE[0, 0]).std() for image in theirs])


@pytest.mark.parametrize("axes", [2, 3])
def test_rotation_and_scaling(axes, monkeypatch):
    turned, scaled = [], []
    name = f"rotate_coords_{axes}d"
    rotate, scale = getattr(spatial_transformations, name), spatial_transformations.scale_coords
    monkeypatch.setattr(
        spatial_transformations, name, lambda coords, *angles: turned.append(angles) or rotate(coords, *angles)
    )
    monkeypatch.setattr(
        spatial_transformations, "scale_coords", lambda coords, factor: scaled.append(factor) or scale(coords, factor)
    )
    limits = Data_Augmentation().config_rotations_angleX
    transform = SpatialTransform(
        SHAPE[:axes],
        do_elastic_deform=False,
        angle_x=limits,
        angle_y=limits,
        angle_z=limits,
        scale=(0.85, 1.25),
        random_crop=False,
        order_data=0,
        p_rot_per_sample=0.15,
        p_scale_per_sample=0.15,
    )
    for _ in range(DRAWS):
        transform(data=IMAGE[..., 0] if axes == 2 else IMAGE)
    augmentation, rng = Data_Augmentation(), np.random.default_rng(1)
    ours = [augmentation.draw(rng, SHAPE[:axes], 1).spatial for _ in range(DRAWS)]
    angles = np.array([one.angles for one in ours if one is not None and one.angles is not None])
    assert angles.shape[1] == len(turned[0]) == (1 if axes == 2 else 3)
    for axis in range(angles.shape[1]):
        same(angles[:, axis], np.array(turned)[:, axis])
    same([one.scale for one in ours if one is not None and one.scale is not None], scaled)


def test_mirrors():
    transform = MirrorTransform((0, 1, 2))
    theirs = np.zeros(3)
    for _ in range(DRAWS):
        image = transform(data=IMAGE, seg=None)["data"][0, 0]
        # Values rise along every axis.
        theirs += [image[1, 0, 0] < image[0, 0, 0], image[0, 1, 0] < image[0, 0, 0], image[0, 0, 1] < image[0, 0, 0]]
    ours = np.sum([[axis in plan.mirror for axis in range(3)] for plan in plans()], axis=0)
    for count in (*ours, *theirs):
        assert abs(count - DRAWS / 2) < 5 * np.sqrt(DRAWS / 4)
