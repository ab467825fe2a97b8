"""Damaged slices of a series: read as pydicom or ITK reads them, or refused with the name of the file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from damaged_dicom import collected_warnings
from dicom_series import enhanced, make_series, random_volume, save_series
from fuzzing import fuzz, how_many, mutated, mutations
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from miscnn_tf.data_loading.dicom import header
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.volume import read_volume

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("kept_log_level"),
]
SLICES, ROWS, COLUMNS = 5, 6, 8


@pytest.fixture
def kept_log_level():
    """pydicom logs a traceback for each file that it cannot decode, and ITK prints a warning."""
    logger = pydicom.config.logger
    before = logger.level
    logger.setLevel("CRITICAL")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    yield
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    logger.setLevel(before)


def read(folder: Path):
    # The files of the next input may be of the same size, written within one tick of the clock.
    header._read_header.cache_clear()
    with collected_warnings() as messages:
        grid = grid_of_files([folder])
        volume = read_volume(grid)
    return volume, grid.affine, messages


def wrong(folder: Path, result) -> str | None:
    """Compare a result with pydicom and ITK."""
    volume, affine, messages = result
    if any("named like the slices" in one or "left out beside the series" in one for one in messages):
        return None  # one slice less, but not unnoticed
    if volume.shape != (SLICES, ROWS, COLUMNS):
        return f"shape {volume.shape}"
    try:
        datasets = [pydicom.dcmread(path, force=True) for path in sorted(folder.iterdir())]
        datasets = [one for one in datasets if "ImagePositionPatient" in one]
        datasets.sort(key=lambda one: float(one.ImagePositionPatient[2]))
        places = np.array([one.ImagePositionPatient for one in datasets], float) * (-1, -1, 1)
        values = [values_of(one) for one in datasets]
    except Exception as error:
        return f"pydicom cannot read it: {type(error).__name__}: {error}"
    if len(values) != SLICES:
        return f"pydicom finds {len(values)} slices with a position"
    if (away := np.abs(affine[:3, 3] + np.outer(np.arange(SLICES), affine[:3, 0]) - places).max()) > 0.3:
        return f"a slice is {away} mm from the position in its header"
    for number, (ours, theirs) in enumerate(zip(volume, values, strict=True)):
        if not np.allclose(ours, theirs, rtol=1e-6, equal_nan=True) and not like_itk(datasets[number], ours):
            return f"slice {number} is {ours.ravel()[:4]}, but pydicom gives {np.ravel(theirs)[:4]}"
    return None


def values_of(dataset) -> np.ndarray:
    values = np.asarray(apply_modality_lut(pixels_of(dataset), dataset), np.float64)
    if "RescaleSlope" in dataset and "RescaleIntercept" not in dataset:
        return values * float(dataset.RescaleSlope)
    if "RescaleIntercept" in dataset and "RescaleSlope" not in dataset:
        return values + float(dataset.RescaleIntercept)
    return values


def pixels_of(dataset) -> np.ndarray:
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else ExplicitVRBigEndian
        )
    pixels = dataset.pixel_array
    unused = 8 * pixels.dtype.itemsize - int(dataset.BitsStored)
    # pydicom 3.0.1 leaves the bits above BitsStored in what it decompresses. The shifts keep the sign.
    return pixels << unused >> unused if pixels.dtype.kind in "iu" and unused > 0 else pixels


def like_itk(dataset, ours: np.ndarray) -> bool:
    try:
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(dataset.filename))
    except RuntimeError:
        return False
    return theirs.size == ours.size and np.allclose(theirs.reshape(ours.shape), ours, rtol=1e-6)


def series_files(folder: Path, kind: str) -> dict[str, bytes]:
    """The files of a series of five slices, by their names."""
    stored = random_volume(np.random.default_rng(7), (SLICES, ROWS, COLUMNS))
    series = make_series(stored, BitsStored=12, HighBit=11)
    for one in series:
        if kind == "implicit":
            one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        elif kind == "big endian":
            one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
        elif kind == "RLE":
            one.compress(RLELossless, generate_instance_uid=False)
        elif kind == "JPEG-LS":
            one.compress(JPEGLSLossless, generate_instance_uid=False)
    paths = save_series(folder, series, order=range(SLICES))
    if kind != "no preamble":
        return {path.name: path.read_bytes() for path in paths}
    # The length of the file meta information depends on that of the random UIDs in it.
    return {
        path.stem: data[144 + int.from_bytes(data[140:144], "little") :]
        for path in paths
        if (data := path.read_bytes())
    }


@how_many
@pytest.mark.parametrize("kind", ["explicit", "implicit", "big endian", "no preamble", "RLE", "JPEG-LS"])
def test_a_damaged_slice_is_read_as_others_read_it_or_refused(tmp_path, number, kind):
    files = series_files(tmp_path / "whole", kind)
    draw = random.Random(11)

    def inputs():
        for _ in range(number // 5):
            name = draw.choice(list(files))
            yield {**files, name: mutated(files[name], draw)}

    fuzzed = fuzz(read, inputs(), tmp_path, "series", judge=wrong)
    assert not fuzzed.failures, fuzzed.failures[:5]
    assert fuzzed.results
    assert fuzzed.refused


@how_many
def test_a_damaged_enhanced_image_is_read_with_its_values_or_refused(tmp_path, number):
    stored = random_volume(np.random.default_rng(7), (SLICES, ROWS, COLUMNS))
    (path,) = save_series(tmp_path / "whole", [enhanced(make_series(stored))])

    def shape_is_wrong(folder: Path, result) -> str | None:
        (dataset,) = (pydicom.dcmread(one, force=True) for one in folder.iterdir())
        # Each slice is one of the frames, rescaled by its own group.
        try:
            groups = dataset.PerFrameFunctionalGroupsSequence
            frames = pixels_of(dataset).reshape(len(groups), dataset.Rows, dataset.Columns)
        except Exception as error:
            return f"pydicom cannot read it: {type(error).__name__}: {error}"
        order = np.argsort([float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in groups])
        for ours, at in zip(result[0], order, strict=True):
            rescale = groups[at].get("PixelValueTransformationSequence", [pydicom.Dataset()])[0]
            # An empty value is a missing one.
            slope, intercept = (
                default if rescale.get(name) in (None, "") else float(rescale.get(name))
                for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
            )
            if not np.allclose(ours, frames[at] * slope + intercept, rtol=1e-6):
                return f"frame {at} differs from pydicom's"
        return None

    inputs = ({"a.dcm": one} for one in mutations(path.read_bytes(), number // 2, 5))
    fuzzed = fuzz(read, inputs, tmp_path, "series", judge=shape_is_wrong)
    assert not fuzzed.failures, fuzzed.failures[:5]
    assert fuzzed.results
    assert fuzzed.refused
