"""Pixels: every encoding gives what SimpleITK reads, and damaged files are named."""

from __future__ import annotations

import dataclasses
import locale

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import enhanced, make_series, random_volume, save_series
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.series_grid import make_grid
from miscnn_tf.data_loading.dicom.volume import check_files, read_volume
from miscnn_tf.errors import DataError, MissingExtraError


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


def test_an_enhanced_ct_of_many_frames_is_a_volume(tmp_path, rng):
    stored = random_volume(rng)
    save_series(tmp_path, [enhanced(make_series(stored))])
    grid = grid_of_files([tmp_path])
    assert grid.spacing.tolist() == [2.5, 0.8, 0.6]
    wanted = stored - 1024 + np.arange(6)[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(ours(tmp_path), wanted)


@pytest.mark.parametrize("signed", [False, True])
def test_overlay_in_the_unused_high_bits_is_masked(tmp_path, rng, signed):
    stored = random_volume(rng) - 2048 * signed
    how = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    save_series(tmp_path, make_series((stored & 0xFFF) | 0x9000, **how))
    np.testing.assert_array_equal(ours(tmp_path), stored - 1024)
    np.testing.assert_array_equal(by_itk(tmp_path), stored - 1024)


@pytest.mark.usefixtures("kept_locale")
@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "JPEGLS"])
@pytest.mark.parametrize("signed", [False, True])
def test_overlay_in_the_unused_high_bits_of_jpeg_2000_is_masked(tmp_path, rng, compressor, signed):
    stored = random_volume(rng, (1, 64, 70)) - 2048 * signed
    image = sitk.GetImageFromArray(((stored & 0xFFF) | 0x9000).astype(np.uint16))
    for key, value in {"0008|0060": "CT", "0020|000e": "1.2.3.4", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(image)
    one = pydicom.dcmread(tmp_path / "a.dcm")
    one.BitsStored, one.HighBit, one.PixelRepresentation, one.RescaleIntercept = 12, 11, int(signed), -1024
    one.save_as(tmp_path / "a.dcm")
    assert one.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(ours(tmp_path), stored - 1024)


def test_a_high_bit_that_readers_understand_differently_is_refused(tmp_path, rng):
    save_series(tmp_path / "a", make_series(random_volume(rng) << 4, BitsStored=12, HighBit=15))
    with pytest.raises(DataError, match=r"\.dcm: HighBit is 15 and BitsStored 12, but only HighBit 11"):
        ours(tmp_path / "a")


def test_ct_stored_as_monochrome1_keeps_its_hounsfield_units(tmp_path, rng):
    stored = random_volume(rng)
    save_series(tmp_path, make_series(stored, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(ours(tmp_path), stored - 1024)


@pytest.mark.parametrize(("keyword", "bits"), [("FloatPixelData", 32), ("DoubleFloatPixelData", 64)])
def test_float_pixel_data_is_read_and_rescaled(tmp_path, rng, keyword, bits):
    stored = rng.normal(size=(6, 9, 7))
    series = make_series(np.zeros((6, 9, 7)), slope=2, intercept=1, BitsAllocated=bits)
    for one, plane in zip(series, stored, strict=True):
        del one.PixelData, one.BitsStored, one.HighBit, one.PixelRepresentation
        setattr(one, keyword, plane.astype(f"<f{bits // 8}").tobytes())
    save_series(tmp_path, series)
    volume = ours(tmp_path)
    assert volume.dtype == np.float32
    np.testing.assert_allclose(volume, stored * 2 + 1, atol=1e-6)


def test_a_slope_beyond_float32_is_refused(tmp_path, rng):
    save_series(tmp_path, make_series(random_volume(rng), slope="1e300", intercept=0))
    with pytest.raises(DataError, match=r"overflow float32 with the rescale slope 1e\+300"):
        ours(tmp_path)


def test_compressed_pixels_that_cannot_be_in_so_small_a_file_are_refused(tmp_path, rng):
    (one,) = make_series(random_volume(rng, (1, 16, 20)))
    one.compress(RLELossless, generate_instance_uid=False)
    one.Rows = one.Columns = 65535
    save_series(tmp_path, [one])
    with pytest.raises(DataError, match="its header declares 8589672450 of pixels"):
        read_volume(grid_of_files([tmp_path]))


def test_the_frames_of_an_enhanced_image_that_are_wanted_are_decoded_alone(tmp_path, rng, monkeypatch):
    stored = random_volume(rng, (3, 4, 5))
    save_series(tmp_path, [enhanced(make_series(stored))])
    grid = grid_of_files([tmp_path])
    asked = []
    decode = pydicom.pixels.iter_pixels
    monkeypatch.setattr(pydicom.pixels, "iter_pixels", lambda *a, **k: asked.append(k["indices"]) or decode(*a, **k))
    part = dataclasses.replace(grid, planes=grid.planes[:2], shape=(2, 4, 5))
    np.testing.assert_array_equal(read_volume(part), stored[:2] - 1024 + np.arange(2)[:, np.newaxis, np.newaxis])
    assert [len(indices) for indices in asked] == [2]


def test_a_compression_without_decoder_is_named_with_advice_that_helps(tmp_path, rng):
    (one,) = make_series(random_volume(rng, (1, 16, 20)))
    one.compress(RLELossless, generate_instance_uid=False)
    one.file_meta.TransferSyntaxUID = HTJ2K
    save_series(tmp_path, [one])
    if get_decoder(HTJ2K).is_available:
        pytest.skip("a decoder of HTJ2K is installed")
    with pytest.raises(MissingExtraError, match=r"High-Throughput JPEG 2000.*a decoder for it is not") as error:
        ours(tmp_path)
    # The extra has none.
    assert "miscnn_tf[dicom]" not in str(error.value)
    assert "pylibjpeg-openjpeg" in str(error.value)


def test_jpeg_of_12_bits_is_not_called_damaged():
    grid = make_grid([read_header(get_testdata_file("JPGExtended.dcm", download=False))], three_dim=False)
    with pytest.raises(DataError, match=r"JPGExtended\.dcm: its compression \(JPEG Extended.*is not supported"):
        read_volume(grid)


def test_more_pixels_than_the_header_says_are_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    series[3].PixelData *= 2
    save_series(tmp_path, series, order=range(6))
    with pytest.raises(DataError, match=r"000003\.dcm: .*it holds 126 bytes of pixels more than its header declares"):
        ours(tmp_path)


def test_compressed_pixels_without_their_transfer_syntax_are_refused(tmp_path, rng):
    (one,) = make_series(random_volume(rng, (1, 16, 20)))
    one.compress(RLELossless, generate_instance_uid=False)
    (path,) = save_series(tmp_path, [one])
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    with pytest.raises(DataError, match="its pixels are compressed, but TransferSyntaxUID is an uncompressed one"):
        ours(tmp_path)
