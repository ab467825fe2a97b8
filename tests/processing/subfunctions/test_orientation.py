"""Against nibabel's closest canonical orientation, for all orders and directions of the axes."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions import Orientation, Resampling

ORIENTATIONS = [
    "".join(pair[pick] for pair, pick in zip(order, picks, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for picks in itertools.product((0, 1), repeat=3)
]


def affine_of(axes: str, oblique: bool = False) -> np.ndarray:
    """Voxels of 1, 2 and 3 mm along the first, second and third axis."""
    ornt = nib.orientations.axcodes2ornt(tuple(axes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, direction) in enumerate(ornt):
        affine[int(world), axis] = direction * (axis + 1)
    if oblique:
        angle = 0.3
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (10, -20, 30)
    return affine


def sample_of(rng, affine: np.ndarray) -> Sample:
    image = rng.integers(0, 99, (3, 4, 5, 2)).astype(np.int16)
    sample = Sample("a", image, 2, 3, {"affine": affine, "spacing": (1.0, 2.0, 3.0)}, three_dim=True)
    sample.add_segmentation(rng.integers(0, 3, (3, 4, 5)).astype(np.uint8))
    return sample


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_all_48_orientations_become_that_of_nibabel_and_return(rng, axes, oblique):
    affine = affine_of(axes, oblique)
    sample = sample_of(rng, affine)
    image, labels = sample.img_data, sample.seg_data
    step = Orientation()
    step.preprocessing(sample)
    expected = nib.as_closest_canonical(nib.Nifti1Image(image, affine))
    np.testing.assert_array_equal(sample.img_data, np.asarray(expected.dataobj))
    assert sample.spacing == pytest.approx(expected.header.get_zooms()[:3])
    expected = nib.as_closest_canonical(nib.Nifti1Image(labels[..., 0], affine))
    np.testing.assert_array_equal(sample.seg_data[..., 0], np.asarray(expected.dataobj))
    np.testing.assert_array_equal(step.postprocessing(sample, sample.seg_data[..., 0]), labels[..., 0])
    back = step.postprocessing(sample, sample.img_data.astype(np.float32), activation_output=True)
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("axes", ["LPS", "SAR", "AIR"])
def test_any_orientation_can_be_the_goal(rng, axes):
    sample = sample_of(rng, affine_of("RAS"))
    Orientation(axes).preprocessing(sample)
    volume = nib.Nifti1Image(sample_of(np.random.default_rng(0), affine_of("RAS")).img_data, affine_of("RAS"))
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("R", "A", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    assert sample.img_data.shape[:3] == volume.as_reoriented(change).shape[:3]
    # A second step sees the axes as the first one left them.
    Orientation("RAS").preprocessing(sample)
    np.testing.assert_array_equal(sample.img_data, sample_of(np.random.default_rng(0), affine_of("RAS")).img_data)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_step_after_it_sees_the_spacing_of_the_new_axes(rng):
    sample = sample_of(rng, affine_of("SAR"))
    steps = Orientation(), Resampling((3.0, 1.0, 1.0), order_img=1)
    shape = sample.img_data.shape[:-1]
    for step in steps:
        step.preprocessing(sample)
    assert sample.img_data.shape == (5, 8, 3, 2)
    labels = sample.seg_data[..., 0]
    for step in steps[::-1]:
        labels = step.postprocessing(sample, labels)
    assert labels.shape == shape


def test_what_it_cannot_do_is_an_error(rng):
    for axes in ("RAX", "RA", "RLS", "ras", None):
        with pytest.raises(ConfigurationError, match="three letters"):
            Orientation(axes)
    with pytest.raises(DataError, match="its orientation is unknown"):
        Orientation().preprocessing(Sample("a", np.zeros((3, 4)), 1, 2, three_dim=False))
    with pytest.raises(DataError, match="its orientation is unknown"):
        Orientation().preprocessing(Sample("a", np.zeros((3, 4, 5)), 1, 2, {"affine": np.zeros((4, 4))}))
