from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_data import AFFINE

from miscnn_tf import __version__
from miscnn_tf.data_loading.formats import authorship, image_file, nifti_writer
from miscnn_tf.errors import DataError


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("shape", "dtype"), [((5, 6, 7), np.uint8), ((5, 6), np.uint16), ((4, 5, 6, 3), np.float32)])
@pytest.mark.parametrize("facts", [{}, {"affine": AFFINE}, {"affine": AFFINE, "qform_code": 0, "sform_code": 0}])
def test_our_nifti_files_are_known_again(
    tmp_path: Path, ending: str, order: Any, shape: tuple[int, ...], dtype: type, facts: dict[str, Any]
) -> None:
    path = tmp_path / f"x{ending}"
    array = np.asarray(np.random.default_rng(0).integers(0, 200, shape).astype(dtype), order=order)
    nifti_writer.write_nifti(path, array, facts)
    assert nifti_writer.was_written_here(path)
    assert nib.load(path).header["descrip"].item().decode().startswith(f"miscnn_tf {__version__} ")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), array)


def test_a_corrected_label_map_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    nifti_writer.write_nifti(path, np.zeros((5, 6, 7), np.uint8), {"affine": AFFINE})
    original = path.read_bytes()

    image = nib.load(path)
    labels = np.array(image.dataobj)
    labels[1, 2, 3] = 1
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    # The line is kept, as by today's ITK, and so it alone would be no evidence.
    assert b"miscnn_tf" in nib.load(path).header["descrip"].item()
    assert not nifti_writer.was_written_here(path)

    path.write_bytes(original)
    moved = nib.load(path)
    affine = AFFINE.copy()
    affine[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine, moved.header), path)
    assert not nifti_writer.was_written_here(path)


def test_other_peoples_files_are_not_ours(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), AFFINE), tmp_path / "x.nii.gz")
    assert not nifti_writer.was_written_here(tmp_path / "x.nii.gz")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "x.png")
    assert not image_file.was_written_here(tmp_path / "x.png")
    (tmp_path / "y.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError):
        nifti_writer.was_written_here(tmp_path / "y.nii.gz")


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_are_known_again_until_somebody_changes_them(tmp_path: Path, ending: str, dtype: type) -> None:
    path = tmp_path / f"x.{ending}"
    labels = np.random.default_rng(0).integers(0, 200, (7, 9)).astype(dtype)
    image_file.write_mask(path, labels)
    assert image_file.was_written_here(path)
    np.testing.assert_array_equal(image_file.read_mask(path), labels)
    line = image_file.written_by(path)
    assert line is not None
    assert line.startswith(f"miscnn_tf {__version__} ")
    labels[0, 0] += 1
    image_file.write_mask(path, labels)
    assert image_file.written_by(path) != line


def test_bmp_has_no_room_for_a_mark(tmp_path: Path) -> None:
    image_file.write_mask(tmp_path / "x.bmp", np.zeros((3, 3), np.uint8))
    assert image_file.written_by(tmp_path / "x.bmp") is None
    assert not image_file.was_written_here(tmp_path / "x.bmp")


def test_the_checksum_is_crc_32_of_the_bytes_as_a_file_has_them() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    expected = zlib.crc32(b"head" + array.tobytes(order="F"))
    assert authorship.checksum_of([b"head", array]) == expected
    assert authorship.checksum_of([b"head", np.asfortranarray(array)]) == expected


@pytest.mark.parametrize(
    "line", [None, "", "FSL 6.0", "miscnn_tf 0.1.0", "miscnn_tf 0.1.0 0000000g", "x miscnn_tf 1 0"]
)
def test_other_lines_are_no_mark(line: str | None) -> None:
    assert not authorship.is_mark(line)
    assert not authorship.matches(line, 0)
