"""LCTSC: thoracic CT and RTSTRUCT from The Cancer Imaging Archive's folders, structure names as labels, DICOM out."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_checks import dicom_errors

from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.datasets import LCTSC_STRUCTURES, write_lctsc_phantoms

NAMES = [[number, name] for number, name in enumerate(LCTSC_STRUCTURES, start=1)]


@pytest.fixture(scope="module")
def lctsc(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lctsc")
    cases = write_lctsc_phantoms(folder / "data", 4, (20, 40, 40), seed=2, progress=False)
    return folder, cases, run_use("lctsc", folder)


def images_of(folder, case):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(next((folder / "data" / case).rglob("*-CT-*")))))
    return reader.Execute()


def test_the_structures_are_found_by_their_names(lctsc):
    _, cases, results = lctsc
    assert results["names"] == dict.fromkeys(cases, NAMES)
    assert results["classes"] == ["background", *LCTSC_STRUCTURES]


def test_the_lungs_are_learnt(lctsc):
    _, cases, results = lctsc
    assert list(results["dice"]) == cases[-1:]
    dice = results["dice"][cases[-1]]
    assert len(dice) == 6
    # Chance: a lung is about 7 % of the voxels.
    assert dice[0] > 0.8
    assert max(dice[3], dice[4]) > 0.4


def test_the_rtstruct_is_the_patients_and_valid(lctsc):
    folder, cases, _ = lctsc
    path = folder / "predictions" / f"{cases[-1]}.dcm"
    assert [one.name for one in (folder / "predictions").iterdir()] == [path.name]
    image = pydicom.dcmread(next((folder / "data" / cases[-1]).rglob("*-CT-*/000000.dcm")))
    written = pydicom.dcmread(path)
    assert written.Modality == "RTSTRUCT"
    assert [one.ROIName for one in written.StructureSetROISequence] == list(LCTSC_STRUCTURES)
    assert (written.PatientID, written.StudyInstanceUID) == (image.PatientID, image.StudyInstanceUID)
    assert written.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert dicom_errors(path) == []


def test_seg_nifti_and_rtstruct_say_the_same(lctsc):
    folder, cases, _ = lctsc
    interface = DICOM_interface(classes=6, structure_dict=LCTSC_STRUCTURES, prediction_format="rtstruct")
    interface.initialize(folder / "data")
    labels = interface.load_prediction(cases[-1], folder / "predictions")
    image, nifti = images_of(folder, cases[-1]), sitk.ReadImage(str(folder / "seg.nii.gz"))
    over = sitk.Resample(nifti, image, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(over), labels)
    segmentation = hd.seg.segread(folder / "seg.dcm")
    assert [segmentation.get_segment_description(n).segment_label for n in range(1, 6)] == list(LCTSC_STRUCTURES)
    files = sorted(next((folder / "data" / cases[-1]).rglob("*-CT-*")).iterdir())
    uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files]
    found = segmentation.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(found, labels)
    assert dicom_errors(folder / "seg.dcm") == []
