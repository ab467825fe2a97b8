"""Damaged SEG files: the voxels that pydicom finds in them, or one error."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from damaged_dicom import altered_files, collected_warnings, content, write_blank_series
from dicom_series import DISTANCE, ORIGIN, SPACING
from fuzzing import fuzz, how_many, mutations, truncations
from pydicom.sr.codedict import codes

from miscnn_tf.data_loading.dicom.seg import read_seg, segment_masks, segment_names

SHAPE = (3, 5, 7)
NAME = "seg.dcm"
KINDS = ["BINARY", "FRACTIONAL", "LABELMAP"]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_blank_series(tmp_path_factory.mktemp("series"), SHAPE, fixed_instances=True)


def make_seg(sources, kind):
    rng = np.random.default_rng(3)
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=rng.integers(0, 3, SHAPE).astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(number, name, codes.SCT.AnatomicalStructure, codes.SCT.Organ, "MANUAL")
            for number, name in enumerate(("Heart", "Lung"), start=1)
        ],
        series_instance_uid="1.2.3.4",
        series_number=2,
        sop_instance_uid="1.2.3.5",
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        **({"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}),
    )
    # Remove elements that do not affect the voxels, which are most of the file, and the date.
    for element in list(segmentation):
        if element.keyword in ("SourceImageSequence", "ContributingEquipmentSequence", "ReferencedSeriesSequence"):
            del segmentation[element.tag]
        elif element.VR in ("DA", "TM"):
            element.value = "20200102" if element.VR == "DA" else "101112"
        elif "DimensionOrganization" in element.keyword or element.keyword == "DimensionIndexSequence":
            del segmentation[element.tag]
    return pydicom.dcmread(io.BytesIO(content(segmentation)))


def reader(grid):
    def read(path: Path):
        with collected_warnings() as messages:
            segmentation = read_seg(path)
            masks = segment_masks(segmentation, grid, path)
        return segment_names(segmentation), masks, messages

    return read


def judge(path: Path, result) -> str | None:
    """Compare the masks with pydicom's array of all frames, frame by frame and voxel by voxel."""
    names, masks, messages = result
    dataset = pydicom.dcmread(path, force=True)
    kind = dataset.get("SegmentationType")
    listed = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in dataset.SegmentSequence}
    if kind == "LABELMAP":
        listed.pop(dataset.get("PixelPaddingValue"), None)
    if listed != names:
        return f"the names are {names}, not {listed}"
    # pydicom requires these, although their values are not ambiguous.
    dataset.setdefault("SamplesPerPixel", 1)
    dataset.setdefault("BitsStored", dataset.BitsAllocated)
    dataset.setdefault("PhotometricInterpretation", "MONOCHROME2")
    dataset.setdefault("PixelRepresentation", 0)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    wanted = {number: np.zeros(SHAPE, bool) for number in listed}
    unknown = False
    for frame, item in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        groups = [item, *dataset.get("SharedFunctionalGroupsSequence", [])]

        def value(sequence, name, groups=groups):
            found = [group[sequence][0] for group in groups if group.get(sequence)]
            return [float(one) for part in found if part.get(name) for one in part[name].value]

        measures, position = (
            value("PixelMeasuresSequence", "PixelSpacing"),
            value("PlanePositionSequence", "ImagePositionPatient"),
        )
        orientation = value("PlaneOrientationSequence", "ImageOrientationPatient")
        for row, column in np.argwhere(frame):
            place = np.array(position[:3])
            place = (
                place
                + row * measures[0] * np.array(orientation[3:6])
                + column * measures[1] * np.array(orientation[:3])
            )
            voxel = np.rint((place - ORIGIN)[::-1] / (DISTANCE, *SPACING)).astype(int)
            if kind == "LABELMAP":
                number = int(frame[row, column])
                if number == dataset.get("PixelPaddingValue"):
                    continue
            else:
                identified = next(group for group in groups if group.get("SegmentIdentificationSequence"))
                number = int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
                if kind == "FRACTIONAL" and frame[row, column] < dataset.MaximumFractionalValue / 2:
                    continue
            unknown |= number not in listed
            if number in listed and (voxel >= 0).all() and (voxel < SHAPE).all():
                wanted[number][tuple(voxel)] = True
    if 0 in listed and kind == "LABELMAP":
        del wanted[0]  # a segment of zeros, which are looked at above as nothing
    for number, mask in wanted.items():
        if not np.array_equal(mask, masks[number]):
            return f"segment {number} has {masks[number].sum()} voxels, not {mask.sum()}"
    if unknown and not any("does not describe" in one for one in messages):
        return "voxels of an unknown segment are left out without a warning"
    return None


@how_many
def test_damaged_bytes_give_the_voxels_of_pydicom_or_an_error(tmp_path, series, number):
    inputs = [one for kind in KINDS for one in mutations(content(make_seg(series[0], kind)), number // 3, 21)]
    fuzzed = fuzz(reader(series[1]), inputs, tmp_path, NAME, judge=judge)
    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10


@how_many
def test_missing_and_other_elements_give_the_voxels_of_pydicom_or_an_error(tmp_path, series, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = [one for kind in KINDS for one in altered_files(make_seg(series[0], kind), number // 3, 22)]
        fuzzed = fuzz(reader(series[1]), inputs, tmp_path, NAME, judge=judge)
    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10


@pytest.mark.parametrize("kind", KINDS)
def test_truncations_are_errors(tmp_path, series, kind):
    whole = content(make_seg(series[0], kind))
    (tmp_path / NAME).write_bytes(whole)
    assert len(reader(series[1])(tmp_path / NAME)[1]) == 2
    # The last byte may be there for an even length only. Reading takes long, and most places are like their neighbours.
    last = len(whole) - (np.prod(SHAPE) % 2 + 2)
    cut = [one for one in truncations(whole) if len(one) < last and (len(one) % 19 == 0 or len(one) > last - 100)]
    fuzzed = fuzz(reader(series[1]), cut, tmp_path / "cut", NAME)
    assert not fuzzed.failures, "\n".join(fuzzed.failures[:20])
    assert fuzzed.results == 0
