from __future__ import annotations

import numpy as np
import pytest
from picture_files import bmp, packed
from PIL import Image

from miscnn_tf.data_loading.formats.image_file import image_size, is_coloured, read_colours, read_mask
from miscnn_tf.errors import DataError

SIZE = (7, 13)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.bmp"


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("grey", [False, True])
def test_bmp_palette_masks_keep_indices_and_images_get_colours(path, rng, bits, top_down, grey):
    indices = rng.integers(0, 2**bits, SIZE)
    # Backwards, so that an index is not its grey value.
    palette = np.linspace(255, 0, 2**bits)[:, np.newaxis].repeat(3, 1) if grey else rng.integers(0, 256, (2**bits, 3))
    palette = palette.astype(np.uint8)
    lines = [packed(row, bits) for row in (indices if top_down else indices[::-1])]
    path.write_bytes(bmp(lines, (-SIZE[0] if top_down else SIZE[0], SIZE[1]), bits, palette=palette))
    np.testing.assert_array_equal(read_mask(path), indices)
    np.testing.assert_array_equal(read_colours(path, "rgb"), palette[indices])
    np.testing.assert_array_equal(read_colours(path, "rgb"), np.array(Image.open(path).convert("RGB")))
    assert is_coloured(path) is not grey
    assert image_size(path) == SIZE


@pytest.mark.parametrize(
    ("compression", "masks", "widths"), [(0, (), (5, 5, 5)), (3, (0xF800, 0x07E0, 0x001F), (5, 6, 5))]
)
def test_bmp_of_16_bits(path, rng, compression, masks, widths):
    values = [rng.integers(0, 2**width, SIZE) for width in widths]
    pixels = (values[0] << widths[1] + widths[2]) | (values[1] << widths[2]) | values[2]
    path.write_bytes(bmp([row.astype("<u2").tobytes() for row in pixels[::-1]], SIZE, 16, compression, masks=masks))
    expected = np.stack([value * 255 // (2**width - 1) for value, width in zip(values, widths, strict=True)], axis=-1)
    np.testing.assert_array_equal(read_colours(path, "rgb"), expected)
    np.testing.assert_allclose(expected, np.array(Image.open(path)), atol=1)


def test_bmp_of_24_bits(path, rng):
    colours = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(colours).save(path)
    np.testing.assert_array_equal(read_colours(path, "rgb"), colours)


@pytest.mark.parametrize(
    "masks", [(), (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00)]
)
def test_bmp_of_32_bits(path, rng, masks):
    colours = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    places = [(mask & -mask).bit_length() - 1 for mask in masks] or [16, 8, 0]
    pixels = sum(colours[..., number].astype(np.uint32) << np.uint32(place) for number, place in enumerate(places))
    path.write_bytes(
        bmp([row.astype("<u4").tobytes() for row in pixels[::-1]], SIZE, 32, 3 if masks else 0, None, masks)
    )
    np.testing.assert_array_equal(read_colours(path, "rgb"), colours)


def test_bmp_mask_with_its_labels_in_the_alpha_channel_is_refused(path, rng):
    labels = rng.integers(0, 2, SIZE).astype(np.uint32)
    pixels = 0xFFFFFF | (labels * 255 << 24).astype(np.uint32)
    path.write_bytes(bmp([row.astype("<u4").tobytes() for row in pixels[::-1]], SIZE, 32))
    with pytest.raises(DataError, match=r"x\.bmp: the alpha channel"):
        read_mask(path)


def test_bmp_of_runs_of_8_bits(path):
    palette = np.arange(256)[:, np.newaxis].repeat(3, 1)
    # As OpenCV 5 reads it; Pillow 13 cannot. Bottom row: three of 5, four absolute. Above: a jump of two, two of 9.
    runs = bytes([3, 5, 0, 4, 1, 2, 3, 4, 0, 0]) + bytes([0, 2, 2, 0, 2, 9, 0, 0]) + bytes([0, 1])
    path.write_bytes(bmp(runs, (3, 8), 8, 1, palette))
    expected = np.zeros((3, 8), int)
    expected[2] = [5, 5, 5, 1, 2, 3, 4, 0]
    expected[1, 2:4] = 9
    np.testing.assert_array_equal(read_mask(path), expected)
    np.testing.assert_array_equal(read_colours(path, "grayscale"), expected)


def test_bmp_of_runs_of_4_bits(path):
    palette = np.arange(16)[:, np.newaxis].repeat(3, 1) * 17
    runs = bytes([3, 0x5A, 0, 5, 0x12, 0x34, 0x50, 0, 0, 0]) + bytes([8, 0x33, 0, 0]) + bytes([0, 1])
    path.write_bytes(bmp(runs, (2, 8), 4, 2, palette))
    expected = np.array([[3] * 8, [5, 10, 5, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(read_mask(path), expected)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (bytes([3, 5, 0, 0]), "no end marker"),
        (bytes([200, 5, 0, 1]), "a run exceeds row 0"),
        (bytes([0, 2, 9, 0, 0, 1]), "a delta leaves it at row 0"),
    ],
)
def test_damaged_runs_of_bmp(path, runs, message):
    path.write_bytes(bmp(runs, (3, 8), 8, 1, np.zeros((256, 3))))
    with pytest.raises(DataError, match=rf"x\.bmp: the image is .*{message}"):
        read_mask(path)


@pytest.mark.parametrize(("bits", "compression"), [(8, 0), (24, 0), (8, 1)])
def test_a_small_bmp_that_claims_a_huge_image_is_refused(path, bits, compression):
    palette = np.zeros((256, 3)) if bits == 8 else None
    path.write_bytes(bmp(bytes([0, 1]) * 1000, (13000, 13000), bits, compression, palette))
    with pytest.raises(DataError, match=r"x\.bmp: .*13000 x 13000 pixels"):
        image_size(path)


def test_every_truncation_of_a_bmp_is_reported(path, rng):
    Image.fromarray(rng.integers(0, 256, SIZE).astype(np.uint8)).save(path)
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"x\.bmp"):
            read_mask(path)


@pytest.mark.parametrize("masks", [(0xF800, 0x07FF, 0x001F), (0xF800, 0x0520, 0x001F), (0, 0x07E0, 0x001F)])
def test_colour_masks_of_bmp_that_overlap_or_have_gaps_are_refused(path, masks):
    path.write_bytes(bmp([bytes(26)] * 7, SIZE, 16, 3, masks=masks))
    with pytest.raises(DataError, match=r"x\.bmp: the image is damaged \(colour masks"):
        image_size(path)
