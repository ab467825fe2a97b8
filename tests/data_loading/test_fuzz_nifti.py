"""Damaged NIfTI files: what is read is what nibabel reads, or there is one error of ours."""

from __future__ import annotations

import gzip
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from miscnn_tf.data_loading.formats.nifti_reader import NiftiInfo, read_info
from miscnn_tf.data_loading.formats.volumes import check_size, read_voxels
from miscnn_tf.data_loading.formats.voxel_file import map_voxels, scaled_values
from tests.fuzzing import Fuzzed, bit_flips, fuzz, how_many, mutated, mutations, truncations

SHAPE = (3, 4, 5)
UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def voxels() -> np.ndarray:
    return (np.arange(60, dtype=np.int16) * 37 % 101 - 20).reshape(SHAPE)


def plain(folder: Path, kind: type = nibabel.Nifti1Image, order: str = "<") -> bytes:
    """A small file with both forms, which differ, and a scaling."""
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    image = kind(voxels(), None, header)
    image.header.set_qform(np.array([[0.0, 2, 0, 1], [-3, 0, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]]), 1)
    image.header.set_sform(np.array([[-2.0, 0, 0.1, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]]), 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, folder / "plain.nii")
    return (folder / "plain.nii").read_bytes()


def packed(folder: Path) -> bytes:
    return gzip.compress(plain(folder), mtime=0)


def read(path: Path) -> tuple[NiftiInfo, np.ndarray]:
    info = read_info(path)
    check_size(info)
    return info, read_voxels(info)


def read_mapped(path: Path) -> tuple[NiftiInfo, np.ndarray]:
    info = read_info(path)
    return info, scaled_values(map_voxels(info), info)


def against_nibabel(path: Path, result: tuple[NiftiInfo, np.ndarray]) -> str | None:
    info, found = result
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            image = nibabel.load(path)
            expected = np.asanyarray(image.dataobj).astype(np.float32)
            affine = np.diag([UNITS[int(image.header["xyzt_units"]) % 8]] * 3 + [1.0]) @ image.affine
    except ValueError as error:
        # A quaternion that was rounded: tests of the grid compare it with ITK.
        return None if "w2 should be positive" in str(error) else f"nibabel refuses it: {error}"
    except Exception as error:
        return f"nibabel refuses it: {type(error).__name__}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    if not np.array_equal(found.astype(np.float32).ravel("F"), expected.ravel("F"), equal_nan=True):
        return f"voxels differ from nibabel's: {found.ravel('F')[:4]} against {expected.ravel('F')[:4]}"
    if [size for size in found.shape if size > 1] != [size for size in expected.shape if size > 1]:
        return f"shape {found.shape} against {expected.shape}"
    if not np.allclose(info.affine, affine, rtol=1e-6, atol=1e-30):
        return f"affine {info.affine.tolist()} against {affine.tolist()}"
    return None


def identical(path: Path, result: tuple[NiftiInfo, np.ndarray]) -> str | None:
    """Gzip has a checksum: nothing that is read may be another image."""
    _, found = result
    if not np.array_equal(found, voxels() * np.float32(0.5) + 10):
        return "other voxels"
    return against_nibabel(path, result)


def inner_mutations(content: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Mutations of the unpacked file, whose checksum is right."""
    draw = random.Random(seed)
    for _ in range(number):
        yield gzip.compress(mutated(content, draw), 1)


def assert_holds(fuzzed: Fuzzed) -> None:
    assert not fuzzed.failures, "\n".join(fuzzed.failures[:10])
    assert fuzzed.results > 0
    assert fuzzed.refused > 0


@pytest.mark.parametrize("number", [600, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "order", "reader"),
    [
        (nibabel.Nifti1Image, "<", read),
        (nibabel.Nifti1Image, ">", read_mapped),
        (nibabel.Nifti2Image, "<", read_mapped),
    ],
)
def test_every_truncation_and_bit_flip_of_nii(
    tmp_path: Path, kind: type, order: str, reader: Callable[[Path], Any], number: int | None
) -> None:
    """All of them in the slow run; some thousands take half a minute."""
    content = plain(tmp_path, kind, order)
    inputs = [*truncations(content), *bit_flips(content)]
    chosen = inputs if number is None else random.Random(7).sample(inputs, number)
    assert_holds(fuzz(reader, [*chosen, content], tmp_path / "fuzz", "a.nii", judge=against_nibabel))


def test_every_truncation_and_bit_flip_of_nii_gz(tmp_path: Path) -> None:
    content = packed(tmp_path)
    inputs = chain(truncations(content), bit_flips(content), [content])
    assert_holds(fuzz(read, inputs, tmp_path / "fuzz", "a.nii.gz", judge=identical))


@how_many
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_mutations_of_nii(tmp_path: Path, number: int, kind: type) -> None:
    content = plain(tmp_path, kind)
    inputs = chain(mutations(content, number, 11), [content])
    assert_holds(fuzz(read, inputs, tmp_path / "fuzz", "a.nii", judge=against_nibabel))


@how_many
def test_mutations_of_nii_gz(tmp_path: Path, number: int) -> None:
    content = packed(tmp_path)
    inputs = chain(mutations(content, number, 12), [content])
    assert_holds(fuzz(read, inputs, tmp_path / "fuzz", "a.nii.gz", judge=identical))


@how_many
def test_mutations_within_nii_gz(tmp_path: Path, number: int) -> None:
    inputs = chain(inner_mutations(plain(tmp_path), number, 13), [packed(tmp_path)])
    assert_holds(fuzz(read, inputs, tmp_path / "fuzz", "a.nii.gz", judge=against_nibabel))
