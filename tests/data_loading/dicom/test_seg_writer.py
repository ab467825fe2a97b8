"""SEG out: highdicom and SimpleITK read the same voxels over the series, and it is valid DICOM."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_checks import dicom_errors
from dicom_series import ORIENTATIONS, make_series, random_volume, save_series
from pydicom.sr.codedict import codes
from skimage.color import lab2rgb

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.data_loading.dicom import write_rtstruct, write_seg
from miscnn_tf.errors import DataError

SHAPE = (6, 20, 24)
NAMES = {1: "Lung_L", 2: "Größe"}


@pytest.fixture
def labels(rng):
    return rng.integers(0, 3, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_highdicom_finds_the_labels_on_their_images(tmp_path, rng, labels, name):
    series = make_series(random_volume(rng, SHAPE), ORIENTATIONS[name])
    save_series(tmp_path / "ct", series)
    path = write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", NAMES)
    segmentation = hd.seg.segread(path)
    found = segmentation.get_pixels_by_source_instance([one.SOPInstanceUID for one in series], combine_segments=True)
    # highdicom is asked in the order of the positions along the normal, which is ours.
    np.testing.assert_array_equal(found, labels)
    assert dicom_errors(path) == []


def test_simpleitk_lays_it_over_the_series(tmp_path, rng, labels):
    labels[:] = 0
    labels[1:4, 3:12, 5:20] = 1
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE), ORIENTATIONS["coronal"]))
    path = write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", {1: "Heart"})
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image, segments = reader.Execute(), sitk.ReadImage(str(path))
    # The file holds the slices that have voxels; each voxel finds its label through the world.
    for index in zip(*np.nonzero(labels), strict=True):
        point = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        # GDCM reads one bit as 0 and 255.
        assert segments[segments.TransformPhysicalPointToIndex(point)] > 0
    assert np.count_nonzero(sitk.GetArrayFromImage(segments)) == np.count_nonzero(labels)


def test_segments_are_described(tmp_path, rng, labels):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE)))
    path = write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", NAMES)
    one = pydicom.dcmread(path)
    assert str(one.PatientName) == "Test^Ünal"
    lung, other = one.SegmentSequence
    assert [lung.SegmentLabel, other.SegmentLabel] == list(NAMES.values())
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    assert other.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert lung.SegmentAlgorithmType == "AUTOMATIC"
    assert lung.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "miscnn_tf"


@pytest.mark.parametrize(
    ("name", "category", "kind"),
    [
        ("SpinalCord", "Anatomical Structure", "Spinal cord"),
        ("right kidney", "Anatomical Structure", "Kidney"),
        ("tumour", "Morphologically Abnormal Structure", "Neoplasm"),
        ("7", "Anatomical Structure", "Anatomical Structure"),
    ],
)
def test_codes_are_looked_up_by_the_name(tmp_path, rng, labels, name, category, kind):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE)))
    (segment,) = pydicom.dcmread(
        write_seg(tmp_path / "seg.dcm", labels > 0, tmp_path / "ct", {1: name})
    ).SegmentSequence
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning.lower() == category.lower()
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == kind


def test_codes_may_be_given_and_labels_need_not_be_consecutive(tmp_path, rng, labels):
    series = make_series(random_volume(rng, SHAPE))
    save_series(tmp_path / "ct", series)
    given = {5: (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion)}
    path = write_seg(
        tmp_path / "seg.dcm", np.array([0, 2, 5], np.uint8)[labels], tmp_path / "ct", {2: "a", 5: "b"}, codes=given
    )
    segmentation = hd.seg.segread(path)
    assert segmentation.get_segment_description(2).segmented_property_type.meaning == "Lesion"
    found = segmentation.get_pixels_by_source_instance([one.SOPInstanceUID for one in series], combine_segments=True)
    np.testing.assert_array_equal(found, labels)


def test_an_empty_label_map_is_written(tmp_path, rng):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE)))
    path = write_seg(tmp_path / "seg.dcm", np.zeros(SHAPE, np.uint8), tmp_path / "ct", NAMES)
    assert not hd.seg.segread(path).pixel_array.any()
    assert dicom_errors(path) == []


def test_labels_without_a_name_are_refused(tmp_path, rng, labels):
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE)))
    with pytest.raises(DataError, match=r"holds \[2\], but names"):
        write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", {1: "Heart"})
    assert not (tmp_path / "seg.dcm").exists()


def test_segments_have_the_colours_of_pictures_and_reports(tmp_path, rng):
    labels = rng.integers(0, 10, SHAPE).astype(np.uint8)
    save_series(tmp_path / "ct", make_series(random_volume(rng, SHAPE)))
    names = {label: f"Structure {label}" for label in range(1, 10)}
    file = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", names))
    contours = pydicom.dcmread(write_rtstruct(tmp_path / "rt.dcm", labels, tmp_path / "ct", names))
    colours = class_colours(10)
    for label, segment, roi in zip(names, file.SegmentSequence, contours.ROIContourSequence, strict=True):
        stored = np.array(segment.RecommendedDisplayCIELabValue) / 65535
        lab = stored * (100, 255, 255) - (0, 128, 128)
        np.testing.assert_allclose(255 * lab2rgb(lab), colours[label], atol=1)
        assert list(roi.ROIDisplayColor) == colours[label].tolist()
