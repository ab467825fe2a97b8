"""Damaged .npy and .npz files: the array that was written, or refused with the file's name."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import bit_flips, fuzz, how_many, mutations, truncations

from miscnn_tf._base.plain_files import read_array, read_arrays
from miscnn_tf.errors import DataError, MissingDataError

IMAGE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
LABELS = np.arange(6, dtype=np.uint8)


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def read(path: Path) -> np.ndarray:
    return read_array(path, "write it again")


def read_mapped(path: Path) -> np.ndarray:
    return read_array(path, "write it again", mmap=True)


def read_all(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path, "write it again")


def as_numpy_reads_it(path: Path, array: np.ndarray) -> str | None:
    other = np.load(path, allow_pickle=False)
    same = array.dtype == other.dtype and array.shape == other.shape and array.tobytes() == other.tobytes()
    whole = path.stat().st_size == len(npy(other)) or "not all of the file was read"
    return None if same and whole is True else f"read as {array.dtype} {array.shape}; {whole}"


def as_it_was_written(path: Path, arrays: dict[str, np.ndarray]) -> str | None:
    known = {"image": IMAGE, "labels": LABELS}
    for name, array in arrays.items():
        # Names have no checksum in a zip file; a caller asks for those that it knows.
        if name in known and (array.dtype != known[name].dtype or not np.array_equal(array, known[name])):
            return f"{name} is another array"
    return None


@how_many
@pytest.mark.parametrize("reader", [read, read_mapped])
def test_every_damaged_npy_file_is_read_as_numpy_reads_it_or_refused(tmp_path, number, reader):
    whole = npy(IMAGE)
    flips = itertools.islice(bit_flips(whole), 128 * 8)  # of the header; voxels have no checksum
    inputs = itertools.chain([whole], flips, truncations(whole), mutations(whole, number, 1))

    fuzzed = fuzz(reader, inputs, tmp_path, "image.npy", judge=as_numpy_reads_it)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 10, fuzzed
    assert fuzzed.refused > number / 2, fuzzed


@how_many
def test_every_damaged_npz_file_gives_the_arrays_that_were_written_or_is_refused(tmp_path, number):
    whole = npz(image=IMAGE, labels=LABELS)
    flips = itertools.islice(bit_flips(whole), 0, None, 1 if number > 1000 else 7)
    inputs = itertools.chain([whole], flips, truncations(whole), mutations(whole, number, 1))

    fuzzed = fuzz(read_all, inputs, tmp_path, "state.npz", judge=as_it_was_written)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 10, fuzzed
    assert fuzzed.refused > len(whole), fuzzed


@pytest.mark.parametrize(
    "array",
    [IMAGE, np.asfortranarray(IMAGE), LABELS.astype(">u2"), np.array(3.5), np.zeros((0, 3)), np.array(["ab", "c"])],
)
@pytest.mark.parametrize("mmap", [False, True])
def test_arrays_of_all_kinds_are_read(tmp_path, array, mmap):
    (tmp_path / "a.npy").write_bytes(npy(array))
    found = read_array(tmp_path / "a.npy", "", mmap=mmap)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def with_header(text: str, data: bytes) -> bytes:
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000,)}", b"\0" * 8), "but it has 8"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "but it has 8"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -2)}", b"\0" * 8), "shape"),
        (with_header("{'descr': '|V0', 'fortran_order': False, 'shape': (9,)}", b""), "V0"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}", b"\0" * 8), "header cannot be read"),
        (with_header("(" * 118, b""), "header cannot be read"),
        (npy(np.array([{}], object), allow_pickle=True), "object"),
        (b"", "damaged"),
    ],
)
def test_headers_that_are_not_of_the_file_are_refused(tmp_path, content, said):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy is damaged") as caught:
        read(tmp_path / "a.npy")
    assert said in str(caught.value)


def test_a_compressed_npz_is_refused_before_it_is_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros(10**6))
    with pytest.raises(DataError, match="compressed"):
        read_arrays(tmp_path / "a.npz", "")


def test_what_an_npz_file_lacks_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(image=IMAGE))
    with pytest.raises(DataError, match=r"a\.npz is damaged .*labels\.npy"):
        read_arrays(tmp_path / "a.npz", "", ["labels"])
    with pytest.raises(MissingDataError):
        read_arrays(tmp_path / "none.npz", "")


def test_an_encrypted_npz_is_refused(tmp_path):
    content = bytearray(npz(image=IMAGE))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, pytest.raises(RuntimeError, match="encrypted"):
        archive.read("image.npy")
    with pytest.raises(DataError, match="encrypted"):
        read_arrays(tmp_path / "a.npz", "")
