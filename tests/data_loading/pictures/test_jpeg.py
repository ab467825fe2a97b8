from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
import skimage.data
from picture_files import with_exif
from PIL import Image, ImageOps

from miscnn_tf.data_loading.formats.image_file import check_mask, image_size, is_coloured, read_colours, read_mask
from miscnn_tf.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.jpg"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[100:203, 150:301])


def jpeg(array: np.ndarray, mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"keep_rgb": True}]
)
def test_jpeg_colours_are_pillows(path, photo, options):
    path.write_bytes(jpeg(photo, **options))
    np.testing.assert_array_equal(read_colours(path, "rgb"), np.array(Image.open(path)))
    assert is_coloured(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_grey_jpeg(path, photo, progressive):
    path.write_bytes(jpeg(photo, "L", progressive=progressive))
    np.testing.assert_array_equal(read_colours(path, "grayscale"), np.array(Image.open(path)))
    assert not is_coloured(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_jpeg(path, photo, orientation):
    path.write_bytes(with_exif(jpeg(photo), orientation))
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_colours(path, "rgb"), upright)
    assert image_size(path) == upright.shape[:2]


def test_cmyk_jpeg_of_adobe_is_stored_inverted(path, photo):
    path.write_bytes(jpeg(photo, "CMYK", quality=95))
    assert b"Adobe" in path.read_bytes()[:200]
    found = read_colours(path, "rgb")
    np.testing.assert_allclose(found.astype(int), np.array(Image.open(path).convert("RGB")).astype(int), atol=1)
    assert abs(found.astype(int) - photo).mean() < 4


def test_cmyk_jpeg_without_adobes_marker_is_not_inverted(path, photo):
    ink = np.concatenate([255 - photo, np.zeros((*photo.shape[:2], 1), np.uint8)], axis=-1)
    content = jpeg(255 - photo, "RGB")  # only for the size
    assert len(content) > 1000
    content = imagecodecs.jpeg8_encode(ink, level=95, colorspace="CMYK", outcolorspace="CMYK")
    content = without_adobe(content)
    path.write_bytes(content)
    found = read_colours(path, "rgb")
    assert abs(found.astype(int) - photo).mean() < 4


def without_adobe(content: bytes) -> bytes:
    place = content.find(b"\xff\xee")
    if place < 0:
        return content
    length = struct.unpack(">H", content[place + 2 : place + 4])[0]
    return content[:place] + content[place + 2 + length :]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-2], id="without end marker"),
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: data[: len(data) // 2] + b"\xff\xd9", id="truncated with an end marker"),
        pytest.param(lambda data: data[:1500] + data[1900:], id="bytes missing in the middle"),
    ],
)
def test_truncated_jpeg_is_an_error(path, photo, damage, progressive):
    # Readers fill in grey, most without a word.
    path.write_bytes(damage(jpeg(photo, progressive=progressive)))
    with pytest.raises(DataError, match=r"x\.jpg: the image is truncated or damaged"):
        read_colours(path, "rgb")


@pytest.mark.parametrize("use", [image_size, is_coloured, lambda path: read_colours(path, "grayscale")])
def test_a_jpeg_of_a_few_kilobytes_that_claims_13000_x_13000_is_refused(path, photo, use):
    content = bytearray(jpeg(photo, "L"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 13000, 13000)
    path.write_bytes(content)
    assert len(content) < 10_000
    with pytest.raises(DataError, match=r"x\.jpg: the header claims 13000 x 13000 pixels"):
        use(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_an_honest_huge_jpeg_is_read(path, progressive):
    path.write_bytes(jpeg(np.full((8000, 9000), 77, np.uint8), progressive=progressive))
    image = read_colours(path, "grayscale")
    assert image.shape == (8000, 9000)
    assert (image.min(), image.max()) == (77, 77)


def test_12_bit_and_lossless_jpeg_are_refused_by_name(path, rng):
    path.write_bytes(imagecodecs.jpeg8_encode(rng.integers(0, 4096, (9, 8)).astype(np.uint16), bitspersample=12))
    with pytest.raises(DataError, match=r"x\.jpg: JPEG with 12 bits per sample and 1 components cannot be read"):
        image_size(path)
    path.write_bytes(imagecodecs.jpeg8_encode(rng.integers(0, 256, (9, 8)).astype(np.uint8), lossless=True))
    with pytest.raises(DataError, match=r"x\.jpg: JPEG of this kind \(lossless or hierarchical, SOF3\)"):
        image_size(path)


def test_a_jpeg_mask_is_refused_under_any_name(tmp_path, photo):
    path = tmp_path / "x.png"
    path.write_bytes(jpeg(photo, "L"))
    for use in (read_mask, check_mask):
        with pytest.raises(DataError, match=r"x\.png: the mask is JPEG-compressed"):
            use(path)


def test_photographs_with_a_second_image_behind_the_first(path, photo):
    # MPO: telephones keep depth or brightness maps there.
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(photo[:50, :40])])
    path.write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_colours(path, "rgb"), np.array(Image.open(path)))
