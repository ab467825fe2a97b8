"""Segments of a SEG on the voxels of a series, whatever the order and direction of their frames."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_series import ORIENTATIONS, make_series, random_volume, save_series
from pydicom.sr.codedict import codes

from miscnn_tf.data_loading.dicom.seg import read_seg, segment_masks, segment_names
from miscnn_tf.data_loading.dicom.series import grid_of_files
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
    with pytest.raises(DataError, match="the voxels of the SEG are not those of"):
        read(path, series[1])
    aside = make_series(random_volume(rng, SHAPE), ORIENTATIONS["oblique"], origin=(-40.3, -55.5, 120.25))
    path = write(tmp_path / "aside.dcm", aside, labels)
    with pytest.raises(DataError, match="voxels beside them"):
        read(path, series[1])


def test_what_lies_outside_the_series_is_told(tmp_path, rng):
    datasets = make_series(random_volume(rng, SHAPE))
    save_series(tmp_path / "ct", datasets[1:5])
    labels = np.ones(SHAPE, np.uint8)
    path = write(tmp_path / "seg.dcm", datasets, labels, names=["Heart"])
    with pytest.warns(UserWarning, match="960 voxels lie outside"):
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
