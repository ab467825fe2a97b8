from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_checks import dicom_errors
from scipy import ndimage

from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.datasets import LCTSC_STRUCTURES, make_lctsc_phantom, write_lctsc_phantoms
from miscnn_tf.errors import ConfigurationError

SMALL = (16, 32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lctsc")
    names = write_lctsc_phantoms(path, cases=2, shape=SMALL, seed=5, progress=False)
    assert names == ["LCTSC-Train-S1-001", "LCTSC-Train-S1-002"]
    return path


def digests(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in path.rglob("*.dcm")}


def test_same_seed_same_bytes_and_more_cases_keep_the_first(folder: Path, tmp_path: Path) -> None:
    write_lctsc_phantoms(tmp_path, cases=3, shape=SMALL, seed=5, progress=False)
    again = digests(tmp_path)
    assert len(again) == 3 * 17
    assert {name: digest for name, digest in again.items() if "S1-003" not in name} == digests(folder)


def test_another_seed_makes_other_patients_with_uids_of_their_own(folder: Path, tmp_path: Path) -> None:
    write_lctsc_phantoms(tmp_path, cases=1, shape=SMALL, seed=6, progress=False)
    both = [*folder.rglob("*.dcm"), *tmp_path.rglob("*.dcm")]
    assert len({pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in both}) == 3 * 17


def test_the_layout_is_read_with_the_voxels_that_were_written(folder: Path) -> None:
    interface = DICOM_interface(classes=6, structure_dict=LCTSC_STRUCTURES, annotation_tag="simplified")
    for number, index in enumerate(interface.initialize(folder)):
        interface.check(index)
        phantom = make_lctsc_phantom([5, number], SMALL)
        image, extended = interface.load_image(index)
        np.testing.assert_array_equal(image, phantom.image)
        np.testing.assert_array_equal(interface.load_segmentation(index), phantom.labels)
        np.testing.assert_allclose(extended["affine"], phantom.affine, atol=1e-3)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(next((folder / str(index)).rglob("*-CT-*")))))
        corner = np.array(reader.Execute().TransformIndexToPhysicalPoint((3, 5, 7))) * (-1, -1, 1)
        np.testing.assert_allclose(corner, (phantom.affine @ (7, 5, 3, 1))[:3], atol=1e-2)


def test_the_files_are_valid_dicom(folder: Path) -> None:
    files = sorted(folder.rglob("*.dcm"))
    for path in (files[0], files[16]):
        assert dicom_errors(path) == []
    assert pydicom.dcmread(files[16]).Modality == "RTSTRUCT"


def test_each_structure_is_where_it_belongs() -> None:
    for number in range(2):
        image, labels, affine = make_lctsc_phantom([3, number], (40, 72, 72))
        assert set(np.unique(labels)) == {0, *LCTSC_STRUCTURES.values()}
        places = {
            name: (affine @ (*ndimage.center_of_mass(labels == label), 1))[:3]
            for name, label in LCTSC_STRUCTURES.items()
        }
        # x to the patient's right, y to the front.
        assert places["Lung_L"][0] < places["SpinalCord"][0] < places["Lung_R"][0]
        assert places["Heart"][0] < places["SpinalCord"][0]
        assert places["Heart"][1] > places["Esophagus"][1] > places["SpinalCord"][1]
        for name, low, high in (("Lung_L", -950, -650), ("Lung_R", -950, -650), ("Heart", 20, 220)):
            inner = ndimage.binary_erosion(labels == LCTSC_STRUCTURES[name])
            assert low < np.median(image[inner]) < high
        millilitres = np.bincount(labels.ravel()) * abs(np.linalg.det(affine[:3, :3])) / 1000
        assert 300 < millilitres[2] < 1000
        assert 900 < millilitres[3] < 4000
        assert 900 < millilitres[4] < 4000
        assert millilitres[5] > 10
        # The cord is in every slice, one piece.
        assert (labels == 5).any(axis=(1, 2)).all()


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        write_lctsc_phantoms(tmp_path, cases=0)
    with pytest.raises(ConfigurationError, match="3 sizes of at least 8"):
        make_lctsc_phantom(0, (4, 32, 32))
