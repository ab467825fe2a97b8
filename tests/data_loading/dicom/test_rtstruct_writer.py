"""RTSTRUCT out: read again it is the same label map, and it is valid DICOM."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pydicom
import pytest
from dicom_checks import dicom_errors
from dicom_series import ORIENTATIONS, make_series, random_volume, save_series
from pydicom.values import converters
from scipy.ndimage import gaussian_filter

from miscnn_tf.data_loading.dicom import write_rtstruct
from miscnn_tf.data_loading.dicom.rtstruct import read_rtstruct, roi_mask, roi_names
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.errors import ConfigurationError, DataError, StorageError

SHAPE = (6, 30, 36)
NAMES = {1: "Heart", 2: "Größe/Lung L"}


@pytest.fixture
def labels(rng) -> np.ndarray:
    """Blobs with holes, islands in them, and voxels at the border."""
    field = gaussian_filter(rng.standard_normal(SHAPE), (1, 2, 2))
    labels = np.zeros(SHAPE, np.uint8)
    labels[field > 0.3 * field.std()] = 1
    labels[field < -1.0 * field.std()] = 2
    labels[0, 0, 0] = labels[5, 29, 35] = 2
    return labels


@pytest.fixture
def series(tmp_path, rng):
    paths = save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), ORIENTATIONS["oblique"]))
    return tmp_path / "ct", paths


def read_back(path, folder, shape=SHAPE):
    dataset, grid = read_rtstruct(path), grid_of_files([folder])
    labels = np.zeros(shape, np.uint8)
    for number in roi_names(dataset):
        labels[roi_mask(dataset, number, grid, path)] = number
    return labels


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_label_map_comes_back_voxel_by_voxel(tmp_path, rng, labels, name):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), ORIENTATIONS[name]))
    path = write_rtstruct(tmp_path / "rt.dcm", labels, tmp_path / "ct", NAMES)
    np.testing.assert_array_equal(read_back(path, tmp_path / "ct"), labels)


def test_so_it_does_with_a_tilted_gantry(tmp_path, rng, labels):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), shift=(0, 0.7, 0)))
    with pytest.warns(UserWarning, match="tilted"):
        path = write_rtstruct(tmp_path / "rt.dcm", labels, tmp_path / "ct", NAMES)
    with pytest.warns(UserWarning, match="tilted"):
        found = read_back(path, tmp_path / "ct")
    np.testing.assert_array_equal(found, labels)


def test_it_is_valid_dicom(tmp_path, series, labels):
    assert dicom_errors(write_rtstruct(tmp_path / "rt.dcm", labels, series[0], NAMES)) == []
    assert dicom_errors(write_rtstruct(tmp_path / "no.dcm", labels * 0, series[0], NAMES)) == []


def test_it_belongs_to_the_patient_study_and_images(tmp_path, series, labels):
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, series[1])}
    first = next(iter(images.values()))
    one = pydicom.dcmread(write_rtstruct(tmp_path / "rt.dcm", labels, series[1], NAMES))
    assert (one.PatientID, one.StudyInstanceUID) == (first.PatientID, first.StudyInstanceUID)
    assert str(one.PatientName) == "Test^Ünal"
    assert one.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert one.SeriesInstanceUID != first.SeriesInstanceUID
    study = one.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    referenced = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced} == set(images)
    assert [item.ROIName for item in one.StructureSetROISequence] == list(NAMES.values())
    for contour in one.ROIContourSequence[0].ContourSequence:
        # Each contour lies in the plane of the image that it names.
        image = images[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        normal = np.cross(image.ImageOrientationPatient[:3], image.ImageOrientationPatient[3:])
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        np.testing.assert_allclose((points - image.ImagePositionPatient) @ normal, 0, atol=1e-4)


def test_an_empty_label_keeps_its_name(tmp_path, series, labels):
    path = write_rtstruct(tmp_path / "rt.dcm", np.where(labels == 1, 1, 0), series[0], NAMES)
    assert roi_names(read_rtstruct(path)) == {1: "Heart", 2: "Größe/Lung L"}
    np.testing.assert_array_equal(read_back(path, series[0]), labels == 1)


def test_a_seed_and_a_moment_make_the_same_bytes(tmp_path, series, labels):
    how = {"uid_seed": "a", "moment": datetime(2020, 1, 2)}
    first = write_rtstruct(tmp_path / "1.dcm", labels, series[0], NAMES, **how).read_bytes()
    assert write_rtstruct(tmp_path / "2.dcm", labels, series[0], NAMES, **how).read_bytes() == first
    assert write_rtstruct(tmp_path / "3.dcm", labels, series[0], NAMES).read_bytes() != first


def test_labels_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, series, labels):
    path = tmp_path / "out" / "rt.dcm"
    with pytest.raises(DataError, match=r"shape \(5, 30, 36\), .* has \(6, 30, 36\)"):
        write_rtstruct(path, labels[1:], series[0], NAMES)
    with pytest.raises(DataError, match=r"holds \[2\], but names are given for \[1\]"):
        write_rtstruct(path, labels, series[0], {1: "Heart"})
    with pytest.raises(ConfigurationError, match="must be different and not empty"):
        write_rtstruct(path, labels, series[0], {1: "Heart", 2: "Heart"})
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_rtstruct(tmp_path / "file" / "rt.dcm", labels, series[0], NAMES)


def test_coordinates_are_in_the_file_as_pydicom_would_write_them(tmp_path, rng):
    # More than 64 KiB of text, which is written in another way.
    volume = rng.random((1, 90, 90)) > 0.3
    save_series(tmp_path / "ct", make_series(random_volume(rng, volume.shape)))
    path = write_rtstruct(tmp_path / "rt.dcm", volume.astype(np.uint8), tmp_path / "ct", {1: "Heart"})
    dataset = pydicom.dcmread(path)
    longest = 0
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        longest = max(longest, len(contour.get_item("ContourData").value))
        numbers = contour.ContourData
        assert len(numbers) == 3 * contour.NumberOfContourPoints
        assert all(str(number) == f"{float(number):.5f}".rstrip("0").rstrip(".") for number in numbers)
    assert longest > 2**16
    np.testing.assert_array_equal(read_back(path, tmp_path / "ct", volume.shape), volume)
    assert not dicom_errors(path)


def test_pydicom_neither_makes_nor_parses_the_numbers_which_would_take_twenty_seconds(
    tmp_path, series, labels, monkeypatch
):
    # Long enough for what only contours hold.
    parsed = []
    for vr in ("DS", "SQ"):
        before = converters[vr]

        def watched(raw, *rest, before=before, vr=vr):
            if len(getattr(raw, "value", raw) or b"") > 200:
                parsed.append(vr)
            return before(raw, *rest)

        monkeypatch.setitem(converters, vr, watched)
    path = write_rtstruct(tmp_path / "rt.dcm", labels, series[0], NAMES)
    assert not parsed
    assert [len(item.ContourSequence) > 3 for item in pydicom.dcmread(path).ROIContourSequence] == [True, True]
    assert "SQ" in parsed  # by reading it


def test_the_bytes_of_the_contours_are_those_that_pydicom_writes(tmp_path, series, labels):
    path = write_rtstruct(tmp_path / "rt.dcm", labels, series[0], NAMES)
    dataset = pydicom.dcmread(path)
    numbers = [contour.NumberOfContourPoints for item in dataset.ROIContourSequence for contour in item.ContourSequence]
    dataset.save_as(tmp_path / "again.dcm", enforce_file_format=True)
    again = pydicom.dcmread(tmp_path / "again.dcm")
    assert again == pydicom.dcmread(path)
    assert len(numbers) > 10
    np.testing.assert_array_equal(read_back(tmp_path / "again.dcm", series[0]), labels)


def test_progress_is_shown_slice_by_slice(tmp_path, series, labels, monkeypatch):
    seen = {}

    def bar(items, **how):
        seen.update(how, items=list(items))
        return seen["items"]

    monkeypatch.setattr("miscnn_tf.data_loading.dicom.rtstruct_writer.tqdm", bar)
    write_rtstruct(tmp_path / "rt.dcm", labels, series[0], NAMES)
    assert len(seen["items"]) == sum((labels == value).any(axis=(1, 2)).sum() for value in NAMES)
    assert (seen["unit"], seen["delay"], seen["disable"]) == ("slice", 2.0, None)
