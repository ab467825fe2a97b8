"""Pixels: every encoding gives what SimpleITK reads, and damaged files are named."""

from __future__ import annotations

import copy
import locale

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import make_series, random_volume, save_series
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from miscnn_tf.data_loading.dicom.grid import make_grid
from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.volume import check_files, read_volume
from miscnn_tf.errors import DataError


def by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def ours(folder):
    grid = grid_of_files([folder])
    check_files(grid)
    return read_volume(grid)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype", "low", "result"),
    [
        (1, -1024, np.uint16, 0, np.int16),
        (1, 0, np.int16, -1024, np.int16),
        (2, -1000, np.uint16, 0, np.int16),
        (20, 0, np.uint16, 0, np.int32),
        (0.5, -1024, np.uint16, 0, np.float32),
        (1, -1024, np.int16, -2000, np.int16),
    ],
)
def test_the_rescale_slope_and_intercept_are_applied(tmp_path, rng, slope, intercept, dtype, low, result):
    stored = random_volume(rng) + low
    save_series(tmp_path, make_series(stored, slope=slope, intercept=intercept, dtype=dtype))
    volume = ours(tmp_path)
    assert volume.dtype == result
    np.testing.assert_array_equal(volume, stored * slope + intercept)
    np.testing.assert_array_equal(volume, by_itk(tmp_path))


def test_each_slice_has_its_own_slope_as_in_pet(tmp_path, rng):
    stored = random_volume(rng)
    series = make_series(stored, intercept=0, Modality="PT")
    for number, one in enumerate(series):
        one.RescaleSlope = 0.25 * (number + 1)
    save_series(tmp_path, series)
    np.testing.assert_allclose(ours(tmp_path), stored * 0.25 * np.arange(1, 7)[:, np.newaxis, np.newaxis])


def test_whole_numbers_of_32_bits_beside_fractions_are_float32(tmp_path, rng):
    series = make_series(random_volume(rng), slope=20, intercept=0)
    series[0].RescaleSlope = series[3].RescaleSlope = 0.5
    save_series(tmp_path, series)
    assert ours(tmp_path).dtype == np.float32
    np.testing.assert_array_equal(ours(tmp_path), by_itk(tmp_path))


def test_a_header_that_asks_for_more_memory_than_there_is_gets_an_error(tmp_path, rng):
    series = make_series(random_volume(rng, (200, 4, 4)))
    for one in series:
        one.Rows = one.Columns = 65535
    save_series(tmp_path, series)
    with pytest.raises(DataError, match="needs 858"):
        read_volume(grid_of_files([tmp_path]))


def test_without_a_slope_the_values_are_as_stored(tmp_path, rng):
    stored = random_volume(rng)
    series = make_series(stored, Modality="MR")
    for one in series:
        del one.RescaleSlope, one.RescaleIntercept
    save_series(tmp_path, series)
    np.testing.assert_array_equal(ours(tmp_path), stored)


def test_twelve_signed_bits(tmp_path, rng):
    stored = random_volume(rng) - 2048
    series = make_series(stored, intercept=0, dtype=np.int16, BitsStored=12, HighBit=11)
    save_series(tmp_path, series)
    np.testing.assert_array_equal(ours(tmp_path), stored)
    np.testing.assert_array_equal(by_itk(tmp_path), stored)


def test_a_slope_that_cannot_be_is_refused(tmp_path, rng):
    save_series(tmp_path, make_series(random_volume(rng), slope=0))
    with pytest.raises(DataError, match="the rescale slope is 0"):
        ours(tmp_path)


def test_a_damaged_slope_is_an_error_that_names_the_file(tmp_path, rng):
    (path,) = save_series(tmp_path, make_series(random_volume(rng, (1, 4, 5)), intercept=-1234))
    path.write_bytes(path.read_bytes().replace(b"-1234", b"-1\x8134"))
    with pytest.raises(DataError, match=r"000000\.dcm: the file is truncated or damaged"):
        ours(tmp_path)


def test_a_lookup_table_stands_for_slope_and_intercept(tmp_path):
    stored = np.arange(12).reshape(1, 3, 4)
    (one,) = make_series(stored)
    del one.RescaleSlope, one.RescaleIntercept, one.RescaleType
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [16, 0, 16], "HU"
    table.add_new("LUTData", "US", [value * value for value in range(16)])
    one.ModalityLUTSequence = [table]
    save_series(tmp_path, [one])
    np.testing.assert_array_equal(ours(tmp_path), stored**2)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_byte_order(tmp_path, rng, syntax):
    stored = random_volume(rng)
    series = make_series(stored)
    for one in series:
        one.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
    save_series(tmp_path, series)
    assert ours(tmp_path).dtype.isnative
    np.testing.assert_array_equal(ours(tmp_path), stored - 1024)
    np.testing.assert_array_equal(by_itk(tmp_path), stored - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels(tmp_path, rng, syntax):
    stored = random_volume(rng, (3, 16, 20))
    series = make_series(stored)
    for one in series:
        one.compress(syntax, generate_instance_uid=False)
    save_series(tmp_path, series)
    np.testing.assert_array_equal(ours(tmp_path), stored - 1024)
    np.testing.assert_array_equal(by_itk(tmp_path), stored - 1024)


@pytest.fixture
def kept_locale():
    """ITK's writer of DICOM leaves the process in the locale "C", in which later tests read text as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("kept_locale")
@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "JPEGLS"])
def test_lossless_compression_by_another_program(tmp_path, rng, compressor):
    image = sitk.GetImageFromArray(random_volume(rng, (1, 16, 20)).astype(np.int16))
    image.SetSpacing((0.6, 0.8, 2.5))
    for key, value in {"0008|0060": "CT", "0020|000e": "1.2.3.4", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(image)
    written = pydicom.dcmread(tmp_path / "a.dcm")
    assert written.file_meta.TransferSyntaxUID.is_compressed
    values = ours(tmp_path)
    np.testing.assert_array_equal(values, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm"))))
    assert values.max() > 3000


@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"),
        *("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_padded.dcm", "MR_small_expb.dcm"),
    ],
)
def test_files_that_pydicom_ships(name):
    path = get_testdata_file(name, download=False)
    grid = make_grid([read_header(path)])
    check_files(grid)
    np.testing.assert_array_equal(read_volume(grid), sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a_truncated_file_is_named(tmp_path, rng, keep):
    paths = save_series(tmp_path, make_series(random_volume(rng, (4, 30, 30))), order=range(4))
    whole = paths[2].read_bytes()
    paths[2].write_bytes(whole[: int(len(whole) * keep)])
    grid = grid_of_files([tmp_path])
    with pytest.raises(DataError, match=r"000002\.dcm: the file is truncated or damaged"):
        check_files(grid)
    with pytest.raises(DataError, match=r"000002\.dcm: the file is truncated or damaged"):
        read_volume(grid)


def test_a_file_that_pydicom_ships_truncated_is_named():
    grid = make_grid([read_header(get_testdata_file("MR_truncated.dcm", download=False))])
    with pytest.raises(DataError, match=r"MR_truncated\.dcm: the file is truncated"):
        check_files(grid)


def enhanced(volume: np.ndarray) -> Dataset:
    """An enhanced CT: all slices in one file, in an order that is not theirs."""
    series = make_series(volume)
    one = copy.deepcopy(series[0])
    del one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing, one.RescaleSlope, one.RescaleIntercept
    one.SOPClassUID = EnhancedCTImageStorage
    one.NumberOfFrames = len(series)

    def group(**values):
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return [item]

    first = series[0]
    shared = group(
        PlaneOrientationSequence=group(ImageOrientationPatient=first.ImageOrientationPatient),
        PixelMeasuresSequence=group(PixelSpacing=first.PixelSpacing, SliceThickness=9),
    )
    order = np.random.default_rng(3).permutation(len(series))
    frames = [
        group(
            PlanePositionSequence=group(ImagePositionPatient=series[number].ImagePositionPatient),
            PixelValueTransformationSequence=group(
                RescaleSlope=1, RescaleIntercept=-1024 + int(number), RescaleType="HU"
            ),
        )[0]
        for number in order
    ]
    one.SharedFunctionalGroupsSequence, one.PerFrameFunctionalGroupsSequence = shared, frames
    one.PixelData = b"".join(series[number].PixelData for number in order)
    return one


def test_an_enhanced_ct_of_many_frames_is_a_volume(tmp_path, rng):
    stored = random_volume(rng)
    save_series(tmp_path, [enhanced(stored)])
    grid = grid_of_files([tmp_path])
    assert grid.spacing.tolist() == [2.5, 0.8, 0.6]
    wanted = stored - 1024 + np.arange(6)[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(ours(tmp_path), wanted)
