from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.datasets import BratsPhantom, make_brats_phantom, write_brats_phantoms
from miscnn_tf.datasets.brats_phantom import MODALITIES
from miscnn_tf.errors import ConfigurationError

SHAPE = (40, 40, 26)


@pytest.fixture(scope="module")
def phantoms() -> list[BratsPhantom]:
    return [make_brats_phantom([2, number], SHAPE) for number in range(8)]


def test_types_shape_labels_and_affine(phantoms):
    for image, labels, affine in phantoms:
        assert image.shape == (*SHAPE, 4)
        assert image.dtype == np.int16
        assert labels.shape == SHAPE
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1, 2, 4}
        assert nib.aff2axcodes(affine) == ("L", "P", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(affine), (6, 6, 155 / 26))


def test_the_skull_is_stripped_to_zero_and_the_brain_is_not_zero(phantoms):
    for image, labels, _ in phantoms:
        brain = image[..., 0] > 0
        for channel in range(1, 4):
            np.testing.assert_array_equal(image[..., channel] > 0, brain)
        assert np.all(brain[labels > 0])
        assert ndimage.label(brain)[1] == 1
        litres = brain.sum() * 6 * 6 * 155 / 26 / 1e6
        # An adult's brain.
        assert 1.0 < litres < 1.9, litres


def test_rim_encloses_the_core_and_oedema_both(phantoms):
    for _, labels, _ in phantoms:
        whole, core = labels > 0, np.isin(labels, (1, 4))
        assert ndimage.label(core)[1] == 1
        # Grown by a voxel, necrosis touches the rim and itself only.
        around = ndimage.binary_dilation(labels == 1) & (labels != 1)
        assert np.mean(labels[around] == 4) > 0.9
        assert 1.5 < whole.sum() / core.sum() < 12


def contrast(image: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    return float(np.median(image[one]) / np.median(image[other]))


def test_the_contrasts_are_those_of_the_sequences(phantoms):
    t1, t1ce, t2, flair = range(4)
    for image, labels, _ in phantoms:
        enhancing, oedema = labels == 4, labels == 2
        brain = (image[..., 0] > 0) & ~ndimage.binary_dilation(labels > 0, iterations=2)
        assert contrast(image[..., t1ce], enhancing, brain) > 1.2
        assert contrast(image[..., t1], enhancing, brain) < 1.05
        assert contrast(image[..., t2], oedema, brain) > 1.3
        assert contrast(image[..., flair], oedema, brain) > 1.5
        assert contrast(image[..., t1], oedema, brain) < 0.95
        assert contrast(image[..., t1ce], enhancing, oedema) > 1.5


def test_scanners_have_no_common_unit(phantoms):
    levels = [np.median(image[..., 0][image[..., 0] > 0]) for image, _, _ in phantoms]
    assert max(levels) / min(levels) > 1.5


def test_other_sizes_show_the_same_patient():
    coarse, fine = make_brats_phantom(5, (20, 20, 16)), make_brats_phantom(5, (60, 60, 48))
    blocks = (fine.labels > 0).reshape(20, 3, 20, 3, 16, 3).mean(axis=(1, 3, 5)) > 0.5
    both = np.sum(blocks & (coarse.labels > 0))
    assert 2 * both / (blocks.sum() + np.sum(coarse.labels > 0)) > 0.85


def digests(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*.nii.gz")}


def test_layout_bytes_and_more_cases_keep_the_first(tmp_path):
    small = (14, 14, 12)
    names = write_brats_phantoms(tmp_path / "a", cases=2, shape=small, seed=9, progress=False)
    assert names == ["BraTS20_Training_001", "BraTS20_Training_002"]
    write_brats_phantoms(tmp_path / "b", cases=3, shape=small, seed=9, progress=False)
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert {name: second[name] for name in first} == first
    assert len(first) == 10
    assert len(second) == 15
    assert len(set(second.values())) == 15
    phantom = make_brats_phantom([9, 1], small)
    for channel, modality in enumerate(MODALITIES):
        read = nib.load(tmp_path / "b" / names[1] / f"{names[1]}_{modality}.nii.gz")
        np.testing.assert_array_equal(np.asarray(read.dataobj), phantom.image[..., channel])
        np.testing.assert_allclose(read.affine, phantom.affine, atol=1e-4)
    read = nib.load(tmp_path / "b" / names[1] / f"{names[1]}_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(read.dataobj), phantom.labels)


def test_a_generator_can_be_passed_in_and_wrong_arguments_are_named(tmp_path):
    one, two = (make_brats_phantom(np.random.default_rng(8), (12, 12, 12)) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    with pytest.raises(ConfigurationError, match="shape"):
        make_brats_phantom(0, (12, 12))
    with pytest.raises(ConfigurationError, match="shape"):
        make_brats_phantom(0, (12, 12, 4))
    with pytest.raises(ConfigurationError, match="cases"):
        write_brats_phantoms(tmp_path, cases=0)
