from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from picture_files import PNG_SIGNATURE, exif, png, png_chunk
from PIL import Image, ImageOps

from miscnn_tf.data_loading.formats.image_file import check_mask, image_size, is_coloured, read_colours, read_mask
from miscnn_tf.errors import DataError

SIZE = (9, 13)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.png"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_masks_hold_the_stored_values_at_every_depth(path, rng, bits, interlaced):
    labels = rng.integers(0, 2**bits, SIZE)
    path.write_bytes(png(labels, 0, bits, interlaced=interlaced))
    np.testing.assert_array_equal(read_mask(path), labels)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_png_images_below_8_bits_are_scaled_to_255_as_pillow_does(path, rng, bits, interlaced):
    values = rng.integers(0, 2**bits, SIZE)
    path.write_bytes(png(values, 0, bits, interlaced=interlaced))
    image = read_colours(path, "grayscale")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, values * 255 // (2**bits - 1))
    np.testing.assert_array_equal(image, np.array(Image.open(path).convert("L")))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palette_masks_keep_indices_and_images_get_colours(path, rng, bits, interlaced):
    indices = rng.integers(0, 2**bits, SIZE)
    palette = rng.integers(0, 256, (2**bits, 3)).astype(np.uint8)
    transparency = (b"tRNS", bytes(2**bits))
    chunks = [(b"PLTE", palette.tobytes()), transparency]
    path.write_bytes(png(indices, 3, bits, chunks, interlaced=interlaced))
    np.testing.assert_array_equal(read_mask(path), indices)
    np.testing.assert_array_equal(read_colours(path, "rgb"), palette[indices])
    assert is_coloured(path)


def test_a_png_palette_index_without_colour_is_an_error_for_images_only(path):
    path.write_bytes(png(np.array([[0, 1, 2]]), 3, 8, [(b"PLTE", bytes(6))]))
    np.testing.assert_array_equal(read_mask(path), [[0, 1, 2]])
    with pytest.raises(DataError, match=r"x\.png: palette index 2, but the palette has 2 colours"):
        read_colours(path, "rgb")


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_grey_png_with_alpha(path, rng, interlaced):
    values = np.stack([rng.integers(0, 4096, SIZE), np.full(SIZE, 65535)], axis=-1)
    values[3, 4, 0] = 4095
    path.write_bytes(png(values, 4, 16, interlaced=interlaced))
    image = read_colours(path, "grayscale")
    assert (image.dtype, image.max()) == (np.uint16, 4095)
    np.testing.assert_array_equal(image, values[..., 0])
    np.testing.assert_array_equal(read_mask(path), values[..., 0])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_png(path, rng, channels, interlaced):
    values = rng.integers(0, 2**16, (*SIZE, channels))
    path.write_bytes(png(values, 2 if channels == 3 else 6, 16, interlaced=interlaced))
    image = read_colours(path, "rgb")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, values[..., :3])


def test_gamma_and_significant_bits_of_png_do_not_change_the_values(path, rng):
    values = rng.integers(0, 2**16, SIZE)
    path.write_bytes(png(values, 0, 16, [(b"gAMA", struct.pack(">I", 100000)), (b"sBIT", bytes([12]))]))
    np.testing.assert_array_equal(read_colours(path, "grayscale"), values)


def test_transparent_colour_of_png_is_dropped_from_images(path, rng):
    values = rng.integers(0, 256, (*SIZE, 3))
    path.write_bytes(png(values, 2, 8, [(b"tRNS", struct.pack(">3H", *values[0, 0]))]))
    np.testing.assert_array_equal(read_colours(path, "rgb"), values)


def test_transparent_grey_of_png_masks(path):
    labels = np.array([[0, 1], [2, 0]])
    path.write_bytes(png(labels, 0, 8, [(b"tRNS", struct.pack(">H", 0))]))
    np.testing.assert_array_equal(read_mask(path), labels)
    path.write_bytes(png(labels, 0, 8, [(b"tRNS", struct.pack(">H", 2))]))
    with pytest.raises(DataError, match=r"x\.png: the alpha channel"):
        read_mask(path)


@pytest.mark.parametrize("use", [read_mask, lambda path: read_colours(path, "rgb")])
def test_every_flipped_bit_of_a_png_is_reported(path, rng, use):
    content = png(rng.integers(0, 4, (7, 6)), 3, 2, [(b"PLTE", bytes(range(12)))], [(b"tEXt", b"Software\0x")])
    path.write_bytes(content)
    use(path)
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"x\.png"):
            use(path)


def test_every_truncation_of_a_png_is_reported(path, rng):
    content = png(rng.integers(0, 4, (7, 6)), 0, 8)
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"x\.png"):
            read_mask(path)


@pytest.mark.parametrize("lines", [b"\0abc" * 2, b"\0abc" * 2 + b"\0ab", b"\5abc" * 3])
def test_png_with_valid_checksums_but_too_few_or_wrong_rows(path, lines):
    head = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    path.write_bytes(PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks))
    with pytest.raises(DataError, match=r"x\.png: the image is truncated or damaged"):
        read_mask(path)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_png(path, rng, orientation, where):
    values = rng.integers(0, 256, SIZE).astype(np.uint8)
    path.write_bytes(png(values, 0, 8, **{where: [(b"eXIf", exif(orientation))]}))
    check_upright(path, values)


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_in_the_raw_profile_of_imagemagick(path, rng, orientation):
    values = rng.integers(0, 256, SIZE).astype(np.uint8)
    block = b"Exif\0\0" + exif(orientation)
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    path.write_bytes(png(values, 0, 8, [(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))]))
    check_upright(path, values, orientation)


def check_upright(path, values, orientation=None):
    with Image.open(path) as opened:
        if orientation is not None:
            assert opened.getexif()[0x0112] == orientation
        upright = np.array(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_colours(path, "grayscale"), upright)
    np.testing.assert_array_equal(read_mask(path), upright)
    assert image_size(path) == check_mask(path) == upright.shape


def test_orientation_in_xmp_alone_is_refused(path):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    chunk = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    path.write_bytes(png(np.zeros(SIZE), 0, 8, [chunk]))
    with pytest.raises(DataError, match=r"x\.png: XMP gives Orientation 6"):
        image_size(path)
    path.write_bytes(png(np.zeros(SIZE), 0, 8, [chunk, (b"eXIf", exif(1))]))
    assert image_size(path) == SIZE


def test_a_damaged_exif_block_is_an_error(path):
    for block in (b"no TIFF header", exif(6)[:-5], exif(6)[:20], exif(6).replace(b"\0\1\1\x12", b"\0\2\1\x13")):
        path.write_bytes(png(np.zeros(SIZE), 0, 8, [(b"eXIf", block)]))
        with pytest.raises(DataError, match=r"x\.png: the EXIF block is damaged"):
            image_size(path)
    path.write_bytes(png(np.zeros(SIZE), 0, 8, [(b"eXIf", exif(99))]))
    with pytest.raises(DataError, match=r"x\.png: Orientation is 99"):
        image_size(path)


def test_animated_png_is_refused(path, rng):
    frames = [Image.fromarray(rng.integers(0, 256, SIZE).astype(np.uint8)) for _ in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"x\.png: the file holds 3 pages \(acTL"):
        image_size(path)


def test_a_png_with_an_unknown_critical_chunk_is_refused(path):
    path.write_bytes(png(np.zeros(SIZE), 0, 8, [(b"ABCD", b"")]))
    with pytest.raises(DataError, match=r"x\.png: the chunk ABCD is not part of PNG"):
        image_size(path)


@pytest.mark.parametrize("use", [image_size, check_mask, is_coloured, read_mask])
def test_a_small_png_that_claims_a_huge_image_is_refused_before_it_is_allocated(path, use):
    path.write_bytes(png(np.zeros((1, 1)), 0, 8, size=(13000, 13000)))
    with pytest.raises(DataError, match=r"x\.png: the header claims 13000 x 13000 pixels"):
        use(path)


def test_an_honest_huge_png_mask_is_read(path):
    labels = np.zeros((20000, 20000), np.uint8)
    labels[10000, 5000] = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.fromarray(labels).save(path)
    del labels
    assert path.stat().st_size < 1e6
    found = read_mask(path)
    assert found.shape == (20000, 20000)
    assert np.argwhere(found == 3).tolist() == [[10000, 5000]]
    assert np.count_nonzero(found) == 1
