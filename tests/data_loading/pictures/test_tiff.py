from __future__ import annotations

import json

import imagecodecs
import numpy as np
import pytest
import skimage.io
import tifffile
from picture_files import packed, tiff
from PIL import Image, ImageOps

from miscnn_tf.data_loading.formats.image_file import (
    check_mask,
    image_size,
    is_coloured,
    read_colours,
    read_mask,
    written_by,
)
from miscnn_tf.errors import DataError

SIZE = (20, 33)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.tif"


class TestDepths:
    @pytest.mark.parametrize("byte_order", "<>")
    @pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
    def test_integers_of_every_type_are_the_stored_values(self, path, kind, byte_order):
        limits = np.iinfo(kind)
        values = np.array([[limits.min, 0, 1], [limits.max // 2 + 1, limits.max, 100]], kind)
        tifffile.imwrite(path, values, byteorder=byte_order)
        for found in (read_colours(path, "grayscale"), read_mask(path)):
            assert found.dtype == np.dtype(kind)
            assert found.dtype.isnative
            np.testing.assert_array_equal(found, values)

    def test_int8_of_minus_100_and_uint32_above_2_to_31(self, path):
        tifffile.imwrite(path, np.full((3, 3), -100, np.int8))
        assert read_colours(path, "grayscale").max() == -100
        tifffile.imwrite(path, np.full((3, 3), 2**31 + 5, np.uint32))
        assert read_colours(path, "grayscale").min() == 2**31 + 5

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_floats_become_float32(self, path, rng, kind):
        values = (rng.normal(size=SIZE) * 1000).astype(kind)
        values[0, :3] = np.nan, np.inf, -np.inf
        tifffile.imwrite(path, values)
        image = read_colours(path, "grayscale")
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, values.astype(np.float32))
        assert read_mask(path).dtype == kind

    def test_float64_beyond_float32_is_an_error(self, path):
        tifffile.imwrite(path, np.array([[0.0, 1e300], [1, 2]]))
        with pytest.raises(DataError, match=r"x\.tif: holds 1e\+300, beyond the range of float32"):
            read_colours(path, "grayscale")

    @pytest.mark.parametrize("fill_order", [1, 2])
    @pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
    def test_packed_bits(self, path, rng, bits, fill_order):
        values = rng.integers(0, 2**bits, SIZE)
        pixels = b"".join(packed(row, bits) for row in values)
        if fill_order == 2:
            pixels = bytes(int(f"{byte:08b}"[::-1], 2) for byte in pixels)
        path.write_bytes(tiff(pixels, SIZE, {258: bits, 266: fill_order}))
        np.testing.assert_array_equal(read_mask(path), values)
        image = read_colours(path, "grayscale")
        np.testing.assert_array_equal(image, values * 255 // (2**bits - 1) if bits < 8 else values)
        if bits < 8 or (bits, fill_order) == (12, 1):
            pillows = np.array(Image.open(path)).astype(int)
            np.testing.assert_array_equal(image, pillows * 255 if bits == 1 else pillows)

    @pytest.mark.parametrize("tags", [{258: 3}, {258: 24}, {258: 8, 339: 3}, {258: 8, 339: 4}, {258: 64, 339: 6}])
    def test_other_depths_are_refused_by_name(self, path, tags):
        path.write_bytes(tiff(bytes(20000), SIZE, tags))
        with pytest.raises(DataError, match=r"x\.tif: BitsPerSample .* with SampleFormat .* cannot be read"):
            image_size(path)

    def test_channels_of_different_depth_are_refused(self, path):
        path.write_bytes(tiff(bytes(2 * SIZE[0] * SIZE[1]), SIZE, {258: (5, 6, 5), 262: 2, 277: 3}))
        with pytest.raises(DataError, match=r"x\.tif: BitsPerSample \(258\) differs between channels"):
            image_size(path)


class TestWhiteIsZero:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    def test_masks_hold_the_stored_values_and_images_are_inverted(self, path, rng, bits):
        values = rng.integers(0, 2**bits, SIZE)
        pixels = b"".join(packed(row, bits, "<") for row in values)
        path.write_bytes(tiff(pixels, SIZE, {258: bits, 262: 0}))
        np.testing.assert_array_equal(read_mask(path), values)
        np.testing.assert_array_equal(read_mask(path), tifffile.imread(path))
        image = read_colours(path, "grayscale")
        inverted = 2**bits - 1 - values
        np.testing.assert_array_equal(image, inverted * 255 // (2**bits - 1) if bits < 8 else inverted)
        if bits <= 8:  # Pillow leaves 16 bits as they are
            np.testing.assert_array_equal(image, np.array(Image.open(path).convert("L")))

    def test_a_binary_mask_of_0_and_255(self, path):
        mask = np.zeros(SIZE, np.uint8)
        mask[3:6, 4:8] = 255
        tifffile.imwrite(path, mask, photometric="miniswhite")
        np.testing.assert_array_equal(read_mask(path), mask)

    def test_of_floats_is_refused_for_images(self, path):
        tifffile.imwrite(path, np.ones(SIZE, np.float32), photometric="miniswhite")
        with pytest.raises(
            DataError, match=r"x\.tif: PhotometricInterpretation WhiteIsZero is not defined for float32"
        ):
            read_colours(path, "grayscale")
        assert read_mask(path).min() == 1


class TestColours:
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("tile", [None, (16, 32)])
    @pytest.mark.parametrize(
        ("compression", "predictor"),
        [(None, 0), ("packbits", 0), ("lzw", 0), ("lzw", 1), ("deflate", 0), ("deflate", 1), ("zstd", 1), ("lzma", 0)],
    )
    def test_rgb_in_strips_and_tiles_and_planes(self, path, rng, kind, planar, tile, compression, predictor):
        colours = rng.integers(0, np.iinfo(kind).max, (*SIZE, 3)).astype(kind)
        stored = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
        options = {"rowsperstrip": 7} if tile is None else {"tile": tile}
        predict = bool(predictor) or None
        tifffile.imwrite(
            path, stored, photometric="rgb", planarconfig=planar, compression=compression, predictor=predict, **options
        )
        image = read_colours(path, "rgb")
        assert image.dtype == kind
        np.testing.assert_array_equal(image, colours)

    @pytest.mark.parametrize("kind", ["float32", "float64"])
    def test_floating_point_predictor(self, path, rng, kind):
        values = rng.normal(size=SIZE).astype(kind)
        tifffile.imwrite(path, values, compression="deflate", predictor=True)
        assert tifffile.TiffFile(path).pages[0].predictor == 3
        np.testing.assert_array_equal(read_colours(path, "grayscale"), values.astype(np.float32))

    @pytest.mark.parametrize("scale", [257, 256, 1])
    def test_palettes_of_8_bits_in_every_writers_way(self, path, rng, scale):
        indices = rng.integers(0, 4, SIZE)
        colours = rng.integers(0, 256, (256, 3))
        tifffile.imwrite(
            path, indices.astype(np.uint8), photometric="palette", colormap=(colours.T * scale).astype(np.uint16)
        )
        image = read_colours(path, "rgb")
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, colours[indices])
        np.testing.assert_array_equal(read_mask(path), indices)
        assert is_coloured(path)

    def test_a_palette_of_16_bits_keeps_them(self, path, rng):
        indices = rng.integers(0, 256, SIZE).astype(np.uint8)
        colours = rng.integers(0, 2**16, (3, 256)).astype(np.uint16)
        tifffile.imwrite(path, indices, photometric="palette", colormap=colours)
        image = read_colours(path, "rgb")
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, colours.T[indices])

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    def test_palettes_of_every_depth(self, path, rng, bits):
        indices = rng.integers(0, 2**bits, SIZE)
        colours = rng.integers(0, 256, (3, 2**bits)) * 257
        pixels = b"".join(packed(row, bits, "<") for row in indices)
        path.write_bytes(tiff(pixels, SIZE, {258: bits, 262: 3, 320: colours.ravel().tolist()}))
        np.testing.assert_array_equal(read_mask(path), indices)
        np.testing.assert_array_equal(read_colours(path, "rgb"), (colours // 257).T[indices])

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_cmyk_is_the_light_that_the_ink_lets_through(self, path, rng, kind):
        full = np.iinfo(kind).max
        ink = rng.integers(0, full, (*SIZE, 4), endpoint=True).astype(kind)
        tifffile.imwrite(path, ink, photometric="separated")
        rest = full - ink.astype(float)
        np.testing.assert_allclose(read_colours(path, "rgb"), rest[..., :3] * rest[..., 3:] / full, atol=0.51)
        if kind == np.uint8:
            pillows = np.array(Image.open(path).convert("RGB")).astype(int)
            np.testing.assert_allclose(read_colours(path, "rgb").astype(int), pillows, atol=1)
        assert is_coloured(path)
        with pytest.raises(DataError, match=r"x\.tif: the mask is a colour image"):
            read_mask(path)

    @pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
    def test_jpeg_in_tiff_as_libtiff_decodes_it(self, path, mode):
        Image.fromarray(skimage.data.astronaut()[:100, :90]).convert(mode).save(path, compression="jpeg")
        with Image.open(path) as opened:
            np.testing.assert_array_equal(read_colours(path, "rgb"), np.array(opened.convert("RGB")))
        with pytest.raises(DataError, match=r"x\.tif: the mask is JPEG-compressed"):
            read_mask(path)

    def test_truncated_jpeg_in_tiff_is_an_error(self, path):
        picture = np.ascontiguousarray(skimage.data.astronaut()[:96, :96])
        content = imagecodecs.jpeg8_encode(picture, level=90)
        cut = content[: len(content) // 2] + b"\xff\xd9"
        path.write_bytes(tiff(content, (96, 96), {258: (8, 8, 8), 259: 7, 262: 6, 277: 3}))
        assert abs(read_colours(path, "rgb").astype(int) - picture).mean() < 5
        path.write_bytes(tiff(cut, (96, 96), {258: (8, 8, 8), 259: 7, 262: 6, 277: 3}))
        with pytest.raises(DataError, match=r"x\.tif: the image is truncated or damaged"):
            read_colours(path, "rgb")

    @pytest.mark.parametrize(
        ("tags", "name"),
        [
            ({262: 6, 277: 3}, "YCbCr"),
            ({262: 8, 277: 3}, "CIELab"),
            ({262: 9, 277: 3}, "ICCLab"),
            ({262: 32803}, "CFA"),
            ({262: 34892}, "LinearRaw"),
            ({262: 4, 258: 1}, "TransparencyMask"),
            ({262: 777}, "unknown"),
            ({262: 5, 277: 4, 332: 2}, "InkSet"),
            ({284: 3}, "PlanarConfiguration 3"),
            ({266: 3}, "FillOrder 3"),
            ({317: 2}, "Predictor 2"),
            ({317: 3, 259: 8}, "Predictor 3"),
            ({259: 34676}, "Compression 34676"),
            ({259: 4}, "Compression CCITT"),
            ({274: 9}, "Orientation is 9"),
        ],
    )
    def test_tags_that_are_not_applied_are_refused_by_name(self, path, tags, name):
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1] * tags.get(277, 1)), SIZE, tags))
        with pytest.raises(DataError, match=rf"x\.tif: .*{name}"):
            image_size(path)


class TestAlpha:
    def test_unassociated_alpha_is_dropped(self, path, rng):
        colours = rng.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
        tifffile.imwrite(path, colours, photometric="rgb", extrasamples=["unassalpha"])
        np.testing.assert_array_equal(read_colours(path, "rgb"), colours[..., :3])

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_associated_alpha_is_divided_out(self, path, rng, kind):
        full = np.iinfo(kind).max
        plain = rng.integers(0, full, (*SIZE, 3)).astype(float)
        alpha = rng.integers(full // 2, full, (*SIZE, 1), endpoint=True)
        stored = np.concatenate([np.rint(plain * alpha / full), alpha], axis=-1).astype(kind)
        tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["assocalpha"])
        image = read_colours(path, "rgb")
        np.testing.assert_allclose(image, plain, atol=1.6)
        if kind == np.uint8:
            with Image.open(path) as opened:
                np.testing.assert_allclose(image.astype(int), np.array(opened.convert("RGBA"))[..., :3], atol=1)

    @pytest.mark.parametrize(
        "options",
        [
            {"photometric": "rgb", "extrasamples": ["unspecified"]},
            {"photometric": "minisblack", "extrasamples": ["unspecified"] * 3},
        ],
    )
    def test_channels_without_meaning_are_refused(self, path, rng, options):
        tifffile.imwrite(path, rng.integers(0, 256, (*SIZE, 4)).astype(np.uint8), planarconfig="contig", **options)
        with pytest.raises(
            DataError, match=r"x\.tif: PhotometricInterpretation explains \d of 4 samples.*ExtraSamples"
        ):
            image_size(path)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_images_and_masks_are_turned(self, path, rng, orientation):
        values = rng.integers(0, 256, SIZE).astype(np.uint8)
        tifffile.imwrite(path, values, extratags=[(274, 3, 1, orientation, True)])
        # Pillow 13 shears uncompressed TIFF with Orientation 5 to 8, so that it is given the tag alone.
        image = Image.fromarray(values)
        image.getexif()[0x0112] = orientation
        upright = np.array(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_colours(path, "grayscale"), upright)
        np.testing.assert_array_equal(read_mask(path), upright)
        assert image_size(path) == check_mask(path) == upright.shape

    def test_0_is_unknown(self, path):
        tifffile.imwrite(path, np.zeros(SIZE, np.uint8), extratags=[(274, 3, 1, 0, True)])
        assert image_size(path) == SIZE


class TestSeveralImages:
    PAGES = r"x\.tif: the file holds \d+ pages"

    @pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}, {"bigtiff": True}, {"tile": (16, 16)}])
    @pytest.mark.parametrize("use", [image_size, read_mask, is_coloured])
    def test_stacks_are_refused(self, path, options, use):
        tifffile.imwrite(path, np.zeros((5, *SIZE), np.uint16), photometric="minisblack", **options)
        with pytest.raises(DataError, match=self.PAGES):
            use(path)

    def test_imagej_hyperstack_with_one_directory(self, path):
        text = b"ImageJ=1.53t\nimages=5\nslices=5\nloop=false\n"
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {270: text}) + bytes(4 * SIZE[0] * SIZE[1]))
        with pytest.raises(DataError, match=r"x\.tif: the file holds 5 pages, by the ImageJ description \(images=5\)"):
            image_size(path)

    def test_imagej_image_alone(self, path, rng):
        values = rng.integers(0, 2**16, SIZE).astype(np.uint16)
        tifffile.imwrite(path, values, imagej=True)
        np.testing.assert_array_equal(read_colours(path, "grayscale"), values)

    def test_stack_of_tifffile_behind_one_directory(self, path):
        text = json.dumps({"shape": [5, *SIZE]}).encode()
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {270: text}) + bytes(4 * SIZE[0] * SIZE[1]))
        with pytest.raises(DataError, match=r"x\.tif: the file holds 5 pages, by the description"):
            image_size(path)

    def test_a_description_that_another_program_kept_does_not_count(self, path):
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {270: json.dumps({"shape": [5, 40, 66]}).encode()}))
        assert image_size(path) == SIZE

    @pytest.mark.parametrize(("sizes", "pages"), [({"Z": 4}, 4), ({"C": 2, "T": 3}, 6)])
    def test_ome_planes_that_are_in_other_files(self, path, sizes, pages):
        size = {"X": SIZE[1], "Y": SIZE[0], "Z": 1, "C": 1, "T": 1, **sizes}
        attributes = " ".join(f'Size{axis}="{count}"' for axis, count in size.items())
        text = f'<?xml version="1.0"?><OME><Image><Pixels {attributes}><TiffData/></Pixels></Image></OME>'.encode()
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {270: text}))
        with pytest.raises(DataError, match=rf"x\.tif: the file holds {pages} pages, by the OME-XML"):
            image_size(path)

    @pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3)])
    def test_ome_image_alone(self, path, rng, shape):
        values = rng.integers(0, 256, shape).astype(np.uint8)
        tifffile.imwrite(path, values, ome=True, photometric="rgb" if len(shape) > 2 else "minisblack")
        np.testing.assert_array_equal(read_colours(path, "rgb" if len(shape) > 2 else "grayscale"), values)

    def test_metamorph_stack(self, path):
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {33629: [0] * 5}))
        with pytest.raises(DataError, match=r"x\.tif: the file holds 5 pages, by UIC2Tag"):
            image_size(path)

    def test_image_depth(self, path):
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {32997: 4}))
        with pytest.raises(DataError, match=r"x\.tif: the file holds 4 pages, by ImageDepth"):
            image_size(path)

    @pytest.mark.parametrize("first", [False, True])
    def test_thumbnails_are_not_the_image(self, path, rng, first):
        values = rng.integers(0, 256, SIZE).astype(np.uint8)
        small = np.zeros((5, 6), np.uint8)
        with tifffile.TiffWriter(path) as writer:
            for image in (small, values) if first else (values, small):
                writer.write(image, subfiletype=int(image is small))
        np.testing.assert_array_equal(read_mask(path), values)

    def test_a_thumbnail_alone_is_refused(self, path):
        tifffile.imwrite(path, np.zeros(SIZE, np.uint8), subfiletype=1)
        with pytest.raises(DataError, match=r"x\.tif: NewSubfileType"):
            image_size(path)

    @pytest.mark.parametrize("marked", [1, 0])
    def test_pyramids_in_subifds_are_read_at_full_size(self, path, rng, marked):
        values = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        with tifffile.TiffWriter(path, bigtiff=True) as writer:
            writer.write(values, subifds=2, tile=(16, 16), photometric="rgb")
            for step in (2, 4):
                writer.write(values[::step, ::step], subfiletype=marked, tile=(16, 16), photometric="rgb")
        np.testing.assert_array_equal(read_colours(path, "rgb"), values)

    def test_another_image_of_full_size_in_subifds_is_refused(self, path):
        with tifffile.TiffWriter(path) as writer:
            writer.write(np.zeros(SIZE, np.uint8), subifds=1)
            writer.write(np.zeros(SIZE, np.uint8))
        with pytest.raises(DataError, match=r"x\.tif: SubIFDs hold another image"):
            image_size(path)

    def test_a_stack_whose_second_page_is_cut_off_does_not_pass_for_one_image(self, path, rng):
        tifffile.imwrite(path, rng.integers(0, 256, (2, *SIZE)).astype(np.uint8), metadata=None)
        with tifffile.TiffFile(path) as opened:
            second = opened.pages[1].offset
        path.write_bytes(path.read_bytes()[:second])
        with pytest.raises(DataError, match=r"x\.tif: the image is truncated or damaged: directory 1"):
            image_size(path)


class TestDescriptions:
    def test_imagej_calibration_of_signed_integers_is_applied(self, path):
        stored = np.array([[32768 - 1000, 32768], [32768 + 3000, 0]], np.uint16)
        text = b"ImageJ=1.53t\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=gray value\n"
        path.write_bytes(tiff(stored.astype("<u2").tobytes(), (2, 2), {258: 16, 270: text}))
        image = read_colours(path, "grayscale")
        assert image.dtype == np.int32
        np.testing.assert_array_equal(image, [[-1000, 0], [3000, -32768]])
        with pytest.raises(DataError, match=r"x\.tif: the description calibrates the values \(c0=-32768, c1=1\)"):
            read_mask(path)

    def test_imagej_calibration_with_a_factor(self, path):
        text = b"ImageJ=1.53t\ncf=0\nc0=-5\nc1=0.5\n"
        path.write_bytes(tiff(bytes([0, 1, 2, 255]), (2, 2), {270: text}))
        np.testing.assert_array_equal(read_colours(path, "grayscale"), np.float32([[-5, -4.5], [-4, 122.5]]))

    def test_other_calibrations_of_imagej_are_refused(self, path):
        path.write_bytes(tiff(bytes(4), (2, 2), {270: b"ImageJ=1.53t\ncf=3\nc0=1\nc1=1\n"}))
        with pytest.raises(DataError, match=r"x\.tif: the ImageJ description calibrates the values by function cf=3"):
            image_size(path)

    def test_gdal_scale_is_refused(self, path):
        text = b'<GDALMetadata><Item name="SCALE" sample="0" role="scale">0.1</Item></GDALMetadata>'
        path.write_bytes(tiff(bytes(4), (2, 2), {42112: text}))
        with pytest.raises(DataError, match=r"x\.tif: GDAL_METADATA gives a scale of 0\.1"):
            image_size(path)

    def test_software(self, path):
        path.write_bytes(tiff(bytes(4), (2, 2), {305: b"program 1"}))
        assert written_by(path) == "program 1"
        path.write_bytes(tiff(bytes(4), (2, 2), {}))
        assert written_by(path) is None


class TestFax:
    @pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
    def test_fax_masks_are_the_stored_bits(self, path, rng, compression):
        mask = np.zeros(SIZE, bool)
        mask[3:9, 5:20] = True
        mask ^= rng.random(SIZE) < 0.1
        Image.fromarray(mask).save(path, compression=compression)
        with tifffile.TiffFile(path) as opened:
            assert opened.pages[0].compression in (2, 3, 4)
            white_is_zero = opened.pages[0].photometric == 0
        np.testing.assert_array_equal(read_mask(path), mask ^ white_is_zero)
        np.testing.assert_array_equal(read_colours(path, "grayscale"), mask * 255)


class TestDamage:
    @pytest.mark.parametrize("compression", [None, "deflate", "lzw", "packbits", "zstd"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_every_truncation_is_reported(self, path, rng, compression, tile):
        tifffile.imwrite(path, rng.integers(0, 9, SIZE).astype(np.uint8), compression=compression, tile=tile)
        content = path.read_bytes()
        for end in range(0, len(content), 3):
            path.write_bytes(content[:end])
            with pytest.raises(DataError, match=r"x\.tif"):
                read_mask(path)

    @pytest.mark.parametrize(
        "tag", [{278: 5}, {278: (20, 20)}, {279: 0}, {279: 100}, {273: 0}, {256: 32}, {257: 21}, {278: 0}]
    )
    def test_strips_that_do_not_make_up_the_image(self, path, tag):
        path.write_bytes(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, tag))
        with pytest.raises(DataError, match=r"x\.tif: "):
            read_mask(path)

    def test_a_tag_that_cannot_be_parsed_is_not_left_out(self, path):
        content = bytearray(tiff(bytes(SIZE[0] * SIZE[1]), SIZE, {274: 6}))
        place = content.index(b"\x12\x01\x03\x00\x01")
        content[place + 2] = 99
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"x\.tif: the image is damaged: the tag Orientation \(274\) cannot be parsed"
        ):
            image_size(path)

    @pytest.mark.parametrize("compression", [1, 5, 8, 4, 7, 50000])
    def test_a_small_tiff_that_claims_a_huge_image_is_refused(self, path, compression):
        bits = 1 if compression == 4 else 8
        tags = {259: compression, 258: bits, 256: 60000, 257: 60000, 278: 60000}
        path.write_bytes(tiff(bytes(3000), SIZE, tags))
        with pytest.raises(DataError, match=r"x\.tif: the header claims 60000 x 60000 pixels"):
            image_size(path)

    def test_a_segment_that_inflates_to_more_than_its_strip_is_refused(self, path):
        path.write_bytes(tiff(imagecodecs.zlib_encode(bytes(10**6)), SIZE, {259: 8}))
        with pytest.raises(DataError, match=r"x\.tif: the image is truncated or damaged"):
            read_mask(path)

    @pytest.mark.parametrize("options", [{"compression": "deflate", "tile": (256, 256)}, {"compression": "lzw"}])
    def test_an_honest_huge_tiff_mask_is_read(self, path, options):
        labels = np.zeros((12000, 16000), np.uint8)
        labels[9000, 5000] = 3
        tifffile.imwrite(path, labels, **options)
        del labels
        found = read_mask(path)
        assert found.shape == (12000, 16000)
        assert np.argwhere(found).tolist() == [[9000, 5000]]


def test_values_are_those_of_scikit_image(path, rng):
    values = rng.integers(0, 2**16, (*SIZE, 3)).astype(np.uint16)
    tifffile.imwrite(path, values, photometric="rgb", tile=(16, 16), compression="lzw", predictor=True)
    np.testing.assert_array_equal(read_colours(path, "rgb"), skimage.io.imread(path))
