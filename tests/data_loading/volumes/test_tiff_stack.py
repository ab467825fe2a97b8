"""TIFF stacks as volumes: voxels as tifffile and SimpleITK read them, voxel sizes by ImageJ and OME-TIFF."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.volumes import is_volume, read_info, read_voxels, write_volume
from miscnn_tf.errors import DataError

SHAPE = (6, 5, 7)  # columns, rows, pages
IMAGEJ = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
OME = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}


def stack(dtype: type = np.uint16, shape: tuple[int, ...] = SHAPE[::-1]) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 37 % 251).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"truncate": True},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"truncate": True, "byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"rowsperstrip": 2},
        {"tile": (16, 16)},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"metadata": None},
    ],
    ids=str,
)
def test_stacks_of_tifffile(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), photometric="minisblack", **options)
    info = read_info(path)
    found = read_voxels(info)
    assert (info.shape, info.form(), info.affine) == (SHAPE, (1, True), None)
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, tifffile.imread(path).T)
    assert is_volume(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_every_type(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", stack(dtype))
    found = read_voxels(read_info(tmp_path / "a.tif"))
    np.testing.assert_array_equal(found, stack(dtype).T)
    assert found.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)


def test_stacks_of_itk(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(stack()), str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "a.tif")), stack().T)


@pytest.mark.parametrize(("unit", "mm"), [("um", 1e-3), ("\\u00B5m", 1e-3), ("micron", 1e-3), ("mm", 1), ("cm", 10)])
def test_voxel_size_of_imagej(tmp_path, unit, mm):
    tifffile.imwrite(
        tmp_path / "a.tif", stack(), imagej=True, resolution=(1 / 0.5, 1 / 0.25), metadata={**IMAGEJ, "unit": unit}
    )
    info = read_info(tmp_path / "a.tif")
    np.testing.assert_allclose(info.spacing, np.array([0.5, 0.25, 2.0]) * mm, rtol=1e-6)
    np.testing.assert_allclose(info.affine, np.diag([-0.5 * mm, -0.25 * mm, 2 * mm, 1]), rtol=1e-6)


def test_no_voxel_size_without_a_unit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True, resolution=(2, 4), metadata={**IMAGEJ, "unit": "pixel"})
    assert read_info(tmp_path / "a.tif").spacing is None


@pytest.mark.parametrize(("units", "mm"), [({}, 1e-3), (dict.fromkeys(("X", "Y", "Z"), "mm"), 1)])
def test_voxel_size_of_ome(tmp_path, units, mm):
    known = {f"PhysicalSize{axis}Unit": unit for axis, unit in units.items()}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(), ome=True, metadata={**OME, **known})
    np.testing.assert_allclose(read_info(tmp_path / "a.ome.tif").spacing, np.array([0.5, 0.25, 2.0]) * mm, rtol=1e-6)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_channels_are_the_last_axis(tmp_path, kind):
    array = stack(shape=(7, 2, 5, 6))
    axes = {"axes": "ZCYX"}
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=axes, **{kind: True})
    info = read_info(tmp_path / "a.tif")
    assert info.form() == (2, True)
    np.testing.assert_array_equal(read_voxels(info), array.transpose(3, 2, 0, 1))


def test_channels_that_are_slower_than_slices(tmp_path):
    array = stack(shape=(2, 7, 5, 6))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", ome=True, metadata={"axes": "CZYX"})
    np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "a.tif")), array.transpose(3, 2, 1, 0))


def test_pages_in_colours(tmp_path):
    array = stack(np.uint8, (7, 5, 6, 3))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    info = read_info(tmp_path / "a.tif")
    assert info.form() == (3, True)
    np.testing.assert_array_equal(read_voxels(info), array.transpose(2, 1, 0, 3))


def test_slices_that_are_declared_as_channels_are_warned_of(tmp_path):
    """The default of tifffile.imwrite(…, imagej=True)."""
    tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True)
    with pytest.warns(UserWarning, match="names 7 channels and one slice; they are read as 7 slices"):
        info = read_info(tmp_path / "a.tif")
    assert info.shape == SHAPE


def test_time_series_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(shape=(3, 7, 5, 6)), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(DataError, match="the stack has 3 frames"):
        read_info(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("spacing", [None, (0.5, 0.25, 2.0)])
def test_what_is_written_is_read_by_others(tmp_path, dtype, spacing):
    array = stack(dtype).T
    write_volume(tmp_path / "a.tif", array, {} if spacing is None else {"spacing": np.array(spacing)})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array.T)
    if np.dtype(dtype).kind == "u":  # SimpleITK's TIFF has few types
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif"))), array.T)
    info = read_info(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_voxels(info), array)
    assert (None if info.spacing is None else info.spacing.tolist()) == (None if spacing is None else list(spacing))


def test_probabilities_are_written_as_channels(tmp_path):
    array = np.random.default_rng(0).random((*SHAPE, 3), np.float32)
    write_volume(tmp_path / "a.tif", array, {})
    np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "a.tif")), array)


def test_a_damaged_stack_gives_one_error(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    for size in range(8, len(content) - 8, 97):
        (tmp_path / "b.tif").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"b\.tif"):
            read_voxels(read_info(tmp_path / "b.tif"))
    tifffile.imwrite(tmp_path / "c.tif", stack(), truncate=True)
    content = (tmp_path / "c.tif").read_bytes()
    (tmp_path / "c.tif").write_bytes(content[:-1])
    with pytest.raises(DataError, match="the file is truncated: 7 pages need 420 bytes"):
        read_info(tmp_path / "c.tif")


def test_pages_of_different_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((5, 6), np.uint8), metadata=None)
        writer.write(np.zeros((5, 7), np.uint8), metadata=None)
    with pytest.raises(DataError, match="the pages of a volume have one size and type"):
        read_info(tmp_path / "a.tif")


def test_single_images_are_no_stacks(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack()[0])
    assert not is_volume(tmp_path / "a.tif")
    assert image_file.image_size(tmp_path / "a.tif") == (5, 6)
    (tmp_path / "b.tif").write_bytes(b"II*\0 not a TIFF")
    assert not is_volume(tmp_path / "b.tif")
