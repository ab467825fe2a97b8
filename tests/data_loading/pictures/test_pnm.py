"""PPM and PGM files: values as Pillow reads them, and damage."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.data_loading.formats.image_file import image_size, is_coloured, read_colours, read_mask
from miscnn_tf.data_loading.interfaces import Image_interface
from miscnn_tf.errors import DataError


def pack(data: bytes, ending: str) -> bytes:
    return gzip.compress(data) if ending.endswith(".gz") else data


@pytest.mark.parametrize("ending", ["ppm", "pgm", "ppm.gz", "pgm.gz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_that_pillow_writes(ending: str, channels: int, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    array = array if channels == 3 else array[..., 0]
    Image.fromarray(array).save(tmp_path / "plain.ppm")
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pack((tmp_path / "plain.ppm").read_bytes(), ending))
    assert image_size(path) == (5, 7)
    assert is_coloured(path) is (channels == 3)
    np.testing.assert_array_equal(read_colours(path, "rgb" if channels == 3 else "grayscale"), array)
    if channels == 1:
        np.testing.assert_array_equal(read_mask(path), array)


def test_comments_and_16_bits_as_pillow_reads_them(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5 # by hand\n#\n4\n3 # rows\n65535\n" + array.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_mask(path), array)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), array)


def test_samples_that_look_like_blanks(tmp_path: Path) -> None:
    array = np.full((2, 3), ord("\n"), np.uint8)
    (tmp_path / "x.pgm").write_bytes(b"P5 3 2 255\n" + array.tobytes())
    np.testing.assert_array_equal(read_mask(tmp_path / "x.pgm"), array)


_WHOLE = b"P5 4 3 255\n" + bytes(range(12))


@pytest.mark.parametrize("ending", ["pgm", "pgm.gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_WHOLE[:-1], "3 x 4 pixels need 12 bytes, the file has 11"),
        (_WHOLE[:8], r"truncated or damaged \(header\)"),
        (_WHOLE + _WHOLE, "holds several pages"),
        (_WHOLE + bytes(5), "holds more data after the pixels"),
        (b"P5 4 3 1\n" + bytes(12), "the highest value is 1, not 255"),
        (b"P5 0 3 255\n", "size 3 x 0 pixels"),
        (b"P5 99999999 99999999 255\n" + bytes(12), "the header claims 99999999 x 99999999 pixels"),
        (b"P2 2 1 255\n1 2\n", "not a readable image"),
    ],
)
def test_damage(content: bytes, message: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pack(content, ending))
    with pytest.raises(DataError, match=message):
        read_mask(path)


def test_every_truncation_and_flipped_byte_of_gzip_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.pgm.gz"
    whole = gzip.compress(b"P5 40 30 255\n" + np.random.default_rng(2).bytes(1200), mtime=0)
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    for place in range(12, len(whole), 7):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_mask(path)
    path.write_bytes(whole)
    assert read_mask(path).shape == (30, 40)


def test_sample_folders(tmp_path: Path) -> None:
    array = np.random.default_rng(3).integers(0, 2, (5, 7), np.uint8)
    (tmp_path / "a").mkdir()
    for name in ("imaging", "segmentation"):
        (tmp_path / "a" / f"{name}.pgm.gz").write_bytes(gzip.compress(b"P5 7 5 255\n" + array.tobytes()))
    interface = Image_interface.from_folder(tmp_path, {})
    assert interface.img_format == "pgm.gz"
    assert interface.initialize(tmp_path) == ["a"]
    np.testing.assert_array_equal(interface.load_image("a")[0], array)
    np.testing.assert_array_equal(interface.load_segmentation("a"), array)
