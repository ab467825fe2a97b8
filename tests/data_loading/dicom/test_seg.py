"""Segments of a SEG on the voxels of a series, whatever the order and direction of their frames."""

from __future__ import annotations

import copy
import warnings

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_series import ORIENTATIONS, make_rtstruct, make_series, random_volume, save_series
from pydicom.sr.codedict import codes

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.dicom.seg import read_seg, segment_masks, segment_names
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError

SHAPE = (6, 20, 24)


def write(path, sources, pixels, kind="BINARY", names=("Heart", "Lung"), **how):
    """A SEG by highdicom alone."""
    described = [
        hd.seg.SegmentDescription(number, name, codes.SCT.AnatomicalStructure, codes.SCT.Organ, "MANUAL")
        for number, name in enumerate(names, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        **how,
    )
    segmentation.save_as(path)
    return path


@pytest.fixture
def labels(rng):
    return rng.integers(0, 3, SHAPE).astype(np.uint8)


@pytest.fixture
def series(tmp_path, rng):
    datasets = make_series(random_volume(rng, SHAPE), ORIENTATIONS["oblique"])
    save_series(tmp_path / "ct", datasets)
    return datasets, grid_of_files([tmp_path / "ct"])


def read(path, grid):
    segmentation = read_seg(path)
    masks = segment_masks(segmentation, grid, path)
    labels = np.zeros(grid.shape, np.uint8)
    for number, mask in masks.items():
        labels[mask] = number
    return segment_names(segmentation), labels


def test_segments_that_highdicom_wrote(tmp_path, series, labels):
    names, found = read(write(tmp_path / "seg.dcm", series[0], labels), series[1])
    assert names == {1: "Heart", 2: "Lung"}
    np.testing.assert_array_equal(found, labels)


def test_only_wanted_segments_take_memory(tmp_path, series, labels):
    path = write(tmp_path / "seg.dcm", series[0], labels)
    masks = segment_masks(read_seg(path), series[1], path, wanted={2})
    assert list(masks) == [2]
    np.testing.assert_array_equal(masks[2], labels == 2)


def test_the_order_of_the_frames_says_nothing(tmp_path, series, labels):
    order = [3, 1, 5, 0, 2, 4]
    path = write(tmp_path / "seg.dcm", [series[0][number] for number in order], labels[order])
    np.testing.assert_array_equal(read(path, series[1])[1], labels)


def test_frames_may_be_flipped_and_lie_across_the_slices(tmp_path, series, labels):
    _, grid = series
    # The same voxels, stored as sagittal planes that run the other way: (column, row, slice), columns reversed.
    turned = labels.transpose(2, 1, 0)[::-1]
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    steps = lps[:3, :3] / grid.spacing
    positions = [
        hd.PlanePositionSequence("PATIENT", (lps @ (0, 0, column, 1))[:3])
        for column in reversed(range(labels.shape[2]))
    ]
    path = write(
        tmp_path / "seg.dcm",
        series[0],
        turned,
        plane_positions=positions,
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [*steps[:, 0], *steps[:, 1]]),
        pixel_measures=hd.PixelMeasuresSequence([0.8, 2.5], 0.6, 0.6),
    )
    np.testing.assert_array_equal(read(path, grid)[1], labels)


def test_of_a_fractional_segment_half_counts(tmp_path, series, rng):
    shares = rng.choice([0.0, 0.2, 0.49, 0.51, 1.0], SHAPE)
    path = write(tmp_path / "seg.dcm", series[0], shares, "FRACTIONAL", ["Heart"], fractional_type="PROBABILITY")
    np.testing.assert_array_equal(read(path, series[1])[1], shares > 0.5)


def test_a_label_map_segmentation(tmp_path, series, labels):
    if not hasattr(hd.seg.SegmentationTypeValues, "LABELMAP"):
        pytest.skip("this highdicom writes no label maps")
    path = write(tmp_path / "seg.dcm", series[0], labels, "LABELMAP")
    np.testing.assert_array_equal(read(path, series[1])[1], labels)


def test_segments_on_other_voxels_are_refused(tmp_path, series, rng, labels):
    finer = make_series(random_volume(rng, SHAPE), ORIENTATIONS["oblique"], spacing=(0.4, 0.3))
    path = write(tmp_path / "seg.dcm", finer, labels)
    with pytest.raises(DataError, match="the voxels of the SEG do not match"):
        read(path, series[1])
    aside = make_series(random_volume(rng, SHAPE), ORIENTATIONS["oblique"], origin=(-40.3, -55.5, 120.25))
    path = write(tmp_path / "aside.dcm", aside, labels)
    with pytest.raises(DataError, match="voxels off"):
        read(path, series[1])


def test_what_lies_outside_the_series_is_told(tmp_path, rng):
    datasets = make_series(random_volume(rng, SHAPE))
    save_series(tmp_path / "ct", datasets[1:5])
    labels = np.ones(SHAPE, np.uint8)
    path = write(tmp_path / "seg.dcm", datasets, labels, names=["Heart"])
    with pytest.warns(UserWarning, match="960 voxels are outside"):
        _, found = read(path, grid_of_files([tmp_path / "ct"]))
    assert found.all()
    assert found.shape == (4, 20, 24)


def test_damaged_files_are_named(tmp_path, series, labels):
    path = write(tmp_path / "seg.dcm", series[0], labels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 200])
    with pytest.raises(DataError, match=r"seg\.dcm: the SEG is truncated or damaged"):
        read(path, series[1])
    dataset = pydicom.dcmread(write(tmp_path / "seg.dcm", series[0], labels))
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match=r"seg\.dcm: the SEG"):
        read(path, series[1])


# ---------------------------------------------------------------- files by other programs


def changed(path, sources, pixels, change, kind="BINARY", **how):
    """A SEG by highdicom that is changed afterwards."""
    dataset = pydicom.dcmread(write(path, sources, pixels, kind, **how))
    change(dataset)
    dataset.save_as(path)
    return path


def without(name):
    """Delete an attribute of the file or of its segments."""

    def change(dataset):
        for one in [dataset, *dataset.SegmentSequence]:
            if name in one:
                delattr(one, name)

    return change


def strip(dataset):
    """All but segment number and label, segment of the frame, plane and pixels."""
    for item in dataset.SegmentSequence:
        for element in list(item):
            if element.keyword not in ("SegmentNumber", "SegmentLabel"):
                del item[element.tag]
    for item in dataset.PerFrameFunctionalGroupsSequence:
        for element in list(item):
            if element.keyword not in ("PlanePositionSequence", "SegmentIdentificationSequence"):
                del item[element.tag]
    for name in ("DimensionIndexSequence", "DimensionOrganizationSequence", "ReferencedSeriesSequence"):
        if name in dataset:
            del dataset[name]


def test_seg_without_codes_algorithm_type_or_framecontent_is_read(tmp_path, series, labels):
    path = changed(tmp_path / "seg.dcm", series[0], labels, strip)
    with pytest.raises(AttributeError):
        hd.seg.segread(path)
    names, found = read(path, series[1])
    assert names == {1: "Heart", 2: "Lung"}
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("name", ["SegmentLabel", "SegmentationType", "SegmentsOverlap", "SegmentAlgorithmType"])
def test_seg_without_what_no_voxel_depends_on_is_read(tmp_path, series, labels, name):
    names, found = read(changed(tmp_path / "seg.dcm", series[0], labels, without(name)), series[1])
    assert names == ({1: "", 2: ""} if name == "SegmentLabel" else {1: "Heart", 2: "Lung"})
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("shape", [(6, 7, 9), (3, 8, 16)])
def test_seg_has_the_pixels_that_highdicom_and_pydicom_find(tmp_path, rng, kind, shape):
    sources = make_series(random_volume(rng, shape))
    save_series(tmp_path / "ct", sources)
    pixels = rng.integers(0, 3, shape).astype(np.uint8)
    how = {"fractional_type": "OCCUPANCY"} if kind == "FRACTIONAL" else {}
    path = write(tmp_path / "seg.dcm", sources, pixels, kind, **how)
    _, found = read(path, grid_of_files([tmp_path / "ct"]))
    np.testing.assert_array_equal(found, pixels)
    if kind != "LABELMAP":
        volume = hd.seg.segread(path).get_volume(combine_segments=kind == "BINARY", skip_overlap_checks=True)
        array = volume.array if kind == "BINARY" else (volume.array > 0.5) @ np.array([1, 2])
        # Its slices may be in the other order.
        downwards = volume.affine[2, 0] < 0
        np.testing.assert_array_equal(found, array[::-1] if downwards else array)
    dataset = pydicom.dcmread(path)
    total = np.count_nonzero(dataset.pixel_array)
    assert total == np.count_nonzero(found)


def test_seg_segment_numbers_may_have_gaps(tmp_path, series, labels):
    def change(dataset):
        dataset.SegmentSequence[1].SegmentNumber = 7
        for item in dataset.PerFrameFunctionalGroupsSequence:
            one = item.SegmentIdentificationSequence[0]
            one.ReferencedSegmentNumber = {1: 1, 2: 7}[one.ReferencedSegmentNumber]

    names, found = read(changed(tmp_path / "seg.dcm", series[0], labels, change), series[1])
    assert names == {1: "Heart", 7: "Lung"}
    np.testing.assert_array_equal(found, np.array([0, 1, 7])[labels])


def test_seg_segments_may_overlap(tmp_path, series, rng):
    both = rng.integers(0, 2, (*SHAPE, 2)).astype(np.uint8)
    path = write(tmp_path / "seg.dcm", series[0], both)
    masks = segment_masks(read_seg(path), series[1], path)
    np.testing.assert_array_equal(np.stack([masks[1], masks[2]], axis=-1), both)


def test_seg_frames_of_a_segment_that_is_not_described_are_told(tmp_path, series, labels):
    path = changed(tmp_path / "seg.dcm", series[0], labels, lambda dataset: dataset.SegmentSequence.pop(0))
    with pytest.warns(UserWarning, match=rf"{path}: the voxels of segment 1 are left out, as SegmentSequence does not"):
        _, found = read(path, series[1])
    np.testing.assert_array_equal(found, np.where(labels == 2, 2, 0))
    path = changed(tmp_path / "map.dcm", series[0], labels, lambda one: one.SegmentSequence.pop(1), "LABELMAP")
    with pytest.warns(UserWarning, match=r"the voxels of segment 1 are left out"):
        _, found = read(path, series[1])
    np.testing.assert_array_equal(found, np.where(labels == 2, 2, 0))


def test_seg_label_map_may_have_another_background(tmp_path, series, labels):
    def change(dataset):
        dataset.PixelPaddingValue = 255
        dataset.SegmentSequence[0].SegmentNumber = 255
        dataset.PixelData = dataset.PixelData.replace(b"\0", b"\xff")

    path = changed(tmp_path / "seg.dcm", series[0], labels, change, "LABELMAP")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names, found = read(path, series[1])
    assert names == {1: "Heart", 2: "Lung"}
    np.testing.assert_array_equal(found, labels)


def test_seg_voxels_in_several_frames_of_one_segment_are_told(tmp_path, series, labels):
    def change(dataset):
        items = dataset.PerFrameFunctionalGroupsSequence
        items[1].PlanePositionSequence = items[0].PlanePositionSequence

    path = changed(tmp_path / "seg.dcm", series[0], np.minimum(labels, 1), change, names=["Heart"])
    with pytest.warns(UserWarning, match=rf"{path}: \d+ voxels of the segment 'Heart' are in several frames"):
        _, found = read(path, series[1])
    assert not found.any(axis=(1, 2)).all()


def test_seg_frame_beside_the_grid_is_refused(tmp_path, series, labels):
    def change(dataset):
        position = dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
        position.ImagePositionPatient = [float(value) + 0.3 for value in position.ImagePositionPatient]

    path = changed(tmp_path / "seg.dcm", series[0], labels, change)
    with pytest.raises(DataError, match=rf"{path}: the voxels of the SEG do not match"):
        read(path, series[1])


def of_frame(frame, name, change):
    def changing(dataset):
        change(dataset.PerFrameFunctionalGroupsSequence[frame], name)

    return changing


REFUSED = {
    "no plane of a frame": (of_frame(3, "PlanePositionSequence", delattr), "position.*for instance of frame 4"),
    "no segment of a frame": (
        of_frame(2, "SegmentIdentificationSequence", delattr),
        "frame 3 has no ReferencedSegmentN",
    ),
    "fewer frames": (lambda one: one.PerFrameFunctionalGroupsSequence.pop(), "frames"),
    "SegmentSequence is missing": (lambda one: delattr(one, "SegmentSequence"), "SegmentSequence is missing"),
    "no SegmentNumber": (lambda one: delattr(one.SegmentSequence[1], "SegmentNumber"), "'Lung' has no SegmentNumber"),
    "two of one number": (
        lambda one: setattr(one.SegmentSequence[1], "SegmentNumber", 1),
        "'Heart' and 'Lung' have the same SegmentNumber 1",
    ),
    "another type": (lambda one: setattr(one, "SegmentationType", "CONTOUR"), "SegmentationType is 'CONTOUR'"),
    "half of the pixels": (
        lambda one: setattr(one, "PixelData", one.PixelData[:300]),
        "PixelData has 300 bytes, but its 12 frames need 720",
    ),
    "no sample per pixel": (lambda one: setattr(one, "SamplesPerPixel", 0), "0 of each"),
    "signed pixels": (lambda one: setattr(one, "PixelRepresentation", 1), "PixelRepresentation is 1"),
    "inverted pixels": (lambda one: setattr(one, "PhotometricInterpretation", "MONOCHROME1"), "is 'MONOCHROME1'"),
    "bits that are not all stored": (lambda one: setattr(one, "BitsStored", 7), "pixels have 7 of 1 bits"),
    "no pixels": (lambda one: delattr(one, "PixelData"), "PixelData"),
    "another kind of file": (lambda one: setattr(one, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "SOPClassUID"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_seg_whose_header_does_not_determine_its_voxels_is_refused_by_name(tmp_path, series, labels, what):
    change, reason = REFUSED[what]
    path = changed(tmp_path / "seg.dcm", series[0], labels, change)
    with pytest.raises(DataError, match=reason) as caught:
        read(path, series[1])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_seg_with_more_positions_than_frames_is_refused(tmp_path, series, labels, kind):
    """Defect: a label map's frames were placed at the positions of their neighbours."""

    def change(dataset):
        items = dataset.PerFrameFunctionalGroupsSequence
        extra = copy.deepcopy(items[0])
        del extra.PlanePositionSequence
        dataset.PerFrameFunctionalGroupsSequence = [extra, *items]

    path = changed(tmp_path / "seg.dcm", series[0], labels, change, kind)
    with pytest.raises(DataError, match=r"seg\.dcm.*PerFrameFunctionalGroupsSequence has \d+ items for \d+ frames"):
        read(path, series[1])


def test_fractional_seg_without_its_highest_value_is_refused(tmp_path, series, rng):
    def write_with(change):
        shares = rng.choice([0.0, 0.2, 1.0], SHAPE)
        how = {"names": ["Heart"], "fractional_type": "PROBABILITY"}
        return changed(tmp_path / "seg.dcm", series[0], shares, change, "FRACTIONAL", **how)

    with pytest.raises(DataError, match="MaximumFractionalValue"):
        read(write_with(lambda one: delattr(one, "MaximumFractionalValue")), series[1])
    with pytest.raises(DataError, match="above MaximumFractionalValue 100"):
        read(write_with(lambda one: setattr(one, "MaximumFractionalValue", 100)), series[1])
    # Its pixels could be anything, and 51 of 255 is not one half.
    with pytest.raises(DataError, match="SegmentationType is ''"):
        read(write_with(lambda one: delattr(one, "SegmentationType")), series[1])
    with pytest.raises(DataError, match="binary segmentation holds the values 51, 255"):
        read(write_with(lambda one: setattr(one, "SegmentationType", "BINARY")), series[1])


def test_what_is_left_out_of_a_seg_is_in_the_verification_too(tmp_path, rng):
    datasets = make_series(random_volume(rng, SHAPE))
    save_series(tmp_path / "data" / "a", datasets)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    changed(tmp_path / "data" / "a" / "seg.dcm", datasets, labels, lambda one: one.SegmentSequence.pop(0))
    found = verify(Data_IO(DICOM_interface(classes=3, structure_dict={"Lung": 2}), tmp_path / "data"))
    assert any("the voxels of segment 1 are left out" in finding.message for finding in found.findings)


def test_another_kind_of_annotation_is_not_a_seg(tmp_path, series):
    (path,) = save_series(tmp_path / "rt", [make_rtstruct(series[0], {})])
    with pytest.raises(DataError, match="SOPClassUID is not that of a segmentation"):
        read_seg(path)
