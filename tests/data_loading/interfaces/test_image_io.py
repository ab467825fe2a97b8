"""PNG, TIFF, JPEG and BMP samples: values and depth exactly as they are in the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.color
from layout_data import image_of, labels_of, save_image
from PIL import Image

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.interfaces import Image_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, RepeatedWarning

SIZE = (6, 9)  # rows, columns: not square, so that a transposition shows


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def save_deep_png(path: Path, colours: np.ndarray, colour_type: int = 2) -> None:
    """A PNG of 16 bits per colour, which Pillow cannot write."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    head = struct.pack(">IIBBBBB", colours.shape[1], colours.shape[0], 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def opened(path: Path, **arguments) -> Image_interface:
    interface = Image_interface(**arguments)
    interface.initialize(path)
    return interface


def loaded(interface, index, prediction, activation=False) -> Sample:
    image, extended = interface.load_image(index)
    sample = Sample(index, image, interface.channels, interface.classes, extended, three_dim=False)
    sample.add_prediction(prediction, activation_output=activation)
    return sample


@pytest.fixture
def grey(rng) -> np.ndarray:
    return rng.integers(0, 256, SIZE).astype(np.uint8)


@pytest.fixture
def mask(rng) -> np.ndarray:
    return rng.integers(0, 3, SIZE).astype(np.uint8)


class TestImages:
    @pytest.mark.parametrize("ending", ["png", "tif", "tiff", "bmp"])
    def test_rows_and_columns_as_stored(self, tmp_path, grey, mask, ending):
        save(tmp_path / "a" / f"imaging.{ending}", grey)
        save(tmp_path / "a" / f"segmentation.{ending}", mask)
        interface = opened(tmp_path, classes=3, img_format=ending)
        interface.check("a")
        np.testing.assert_array_equal(interface.load_image("a")[0], grey)
        np.testing.assert_array_equal(interface.load_segmentation("a"), mask)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_16_bits_stay(self, tmp_path, rng, ending):
        deep = rng.integers(0, 2**16, SIZE).astype(np.uint16)
        save(tmp_path / "a" / f"imaging.{ending}", deep)
        image = opened(tmp_path, img_format=ending).load_image("a")[0]
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, deep)

    def test_big_endian_tiff(self, tmp_path, rng):
        tifffile = pytest.importorskip("tifffile")
        deep = rng.integers(0, 2**16, SIZE).astype(np.uint16)
        (tmp_path / "a").mkdir()
        tifffile.imwrite(tmp_path / "a" / "imaging.tif", deep, byteorder=">")
        image = opened(tmp_path, img_format="tif").load_image("a")[0]
        assert image.dtype == np.uint16
        assert image.dtype.isnative
        np.testing.assert_array_equal(image, deep)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_16_bits_per_colour_stay(self, tmp_path, rng, ending):
        deep = rng.integers(0, 2**16, (*SIZE, 3)).astype(np.uint16)
        path = tmp_path / "a" / f"imaging.{ending}"
        if ending == "png":
            save_deep_png(path, deep)
        else:
            path.parent.mkdir()
            pytest.importorskip("tifffile").imwrite(path, deep, photometric="rgb")
        image = opened(tmp_path, img_type="rgb", img_format=ending).load_image("a")[0]
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, deep)

    def test_16_bits_per_colour_with_transparency(self, tmp_path, rng):
        deep = rng.integers(0, 2**16, (*SIZE, 4)).astype(np.uint16)
        save_deep_png(tmp_path / "a" / "imaging.png", deep, colour_type=6)
        np.testing.assert_array_equal(opened(tmp_path, img_type="rgb").load_image("a")[0], deep[..., :3])

    def test_float_tiff(self, tmp_path, rng):
        values = rng.random(SIZE).astype(np.float32)
        save(tmp_path / "a" / "imaging.tif", values)
        np.testing.assert_array_equal(opened(tmp_path, img_format="tif").load_image("a")[0], values)

    def test_nan_is_warned(self, tmp_path):
        values = np.full(SIZE, np.nan, np.float32)
        save(tmp_path / "a" / "imaging.tif", values)
        with pytest.warns(UserWarning, match=r"a/imaging\.tif: 54 of 54 voxels are NaN"):
            opened(tmp_path, img_format="tif").load_image("a")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_colours_become_luminance(self, tmp_path, rng, dtype):
        colours = rng.integers(0, np.iinfo(dtype).max, (*SIZE, 3)).astype(dtype)
        if dtype == np.uint8:
            save(tmp_path / "a" / "imaging.png", colours)
        else:
            save_deep_png(tmp_path / "a" / "imaging.png", colours)
        image = opened(tmp_path).load_image("a")[0]
        assert image.dtype == dtype
        # The Y of ITU-R BT.601, which scikit-image scales to 16..235.
        luma = (skimage.color.rgb2ycbcr(colours)[..., 0] - 16) / 219 * np.iinfo(dtype).max
        np.testing.assert_allclose(image, luma, atol=1 + np.iinfo(dtype).max * 1e-4)

    def test_grey_becomes_three_channels(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey)
        image = opened(tmp_path, img_type="rgb").load_image("a")[0]
        np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=-1))

    def test_transparency_is_dropped(self, tmp_path, rng):
        colours = rng.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
        save(tmp_path / "a" / "imaging.png", colours)
        np.testing.assert_array_equal(opened(tmp_path, img_type="rgb").load_image("a")[0], colours[..., :3])

    def test_grey_with_transparency(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey, "LA")
        np.testing.assert_array_equal(opened(tmp_path).load_image("a")[0], grey)

    def test_palette_images_show_their_colours(self, tmp_path, rng):
        indices = rng.integers(0, 2, SIZE).astype(np.uint8)
        image = Image.fromarray(indices)
        image.putpalette([10, 20, 30, 200, 100, 50])
        (tmp_path / "a").mkdir()
        image.save(tmp_path / "a" / "imaging.png")
        found = opened(tmp_path, img_type="rgb").load_image("a")[0]
        np.testing.assert_array_equal(found, np.array([[10, 20, 30], [200, 100, 50]], np.uint8)[indices])

    def test_black_and_white(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey > 100)
        np.testing.assert_array_equal(opened(tmp_path).load_image("a")[0], (grey > 100) * 255)

    def test_jpeg_images(self, tmp_path, mask):
        smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
        save(tmp_path / "a" / "imaging.jpeg", smooth)
        save(tmp_path / "a" / "segmentation.png", np.zeros(smooth.shape, np.uint8))
        interface = opened(tmp_path, img_format="jpg")
        interface.check("a")
        np.testing.assert_allclose(interface.load_image("a")[0].astype(int), smooth, atol=4)
        assert interface.load_segmentation("a").shape == smooth.shape


class TestMasks:
    def write(self, tmp_path, grey, mask, **save_options) -> Image_interface:
        save(tmp_path / "a" / "imaging.png", grey)
        save(tmp_path / "a" / "segmentation.png", mask, **save_options)
        return opened(tmp_path, classes=3)

    def test_palette_masks_keep_their_indices(self, tmp_path, grey, mask):
        image = Image.fromarray(mask)
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        interface = self.write(tmp_path, grey, mask)
        image.save(tmp_path / "a" / "segmentation.png")
        assert Image.open(tmp_path / "a" / "segmentation.png").mode == "P"
        np.testing.assert_array_equal(interface.load_segmentation("a"), mask)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_masks_of_equal_colours(self, tmp_path, grey, mask, mode):
        interface = self.write(tmp_path, grey, mask, mode=mode)
        np.testing.assert_array_equal(interface.load_segmentation("a"), mask)

    def test_black_and_white_masks_are_0_and_1(self, tmp_path, grey, mask):
        interface = self.write(tmp_path, grey, mask > 0)
        np.testing.assert_array_equal(interface.load_segmentation("a"), mask > 0)

    def test_masks_in_colours_are_refused(self, tmp_path, grey, rng):
        interface = self.write(tmp_path, grey, rng.integers(0, 3, (*SIZE, 3)).astype(np.uint8))
        with pytest.raises(DataError, match=r"a/segmentation\.png: the mask is a colour image"):
            interface.load_segmentation("a")

    def test_masks_of_0_and_255(self, tmp_path, grey, mask):
        # The run of others crashes on them later.
        interface = self.write(tmp_path, grey, (mask > 0) * np.uint8(255))
        with pytest.raises(DataError, match=r"a/segmentation\.png: the label map holds 255.*label_map=\{255: 1\}"):
            interface.load_segmentation("a")
        interface = opened(tmp_path, label_map={255: 1})
        np.testing.assert_array_equal(interface.load_segmentation("a"), mask > 0)

    @pytest.mark.parametrize("act", ["load_segmentation", "check"])
    def test_lossy_masks_are_refused(self, tmp_path, grey, act):
        save(tmp_path / "a" / "imaging.jpg", grey)
        save(tmp_path / "a" / "segmentation.jpg", grey)
        interface = opened(tmp_path, img_format="jpg")
        with pytest.raises(DataError, match=r"segmentation\.jpg: the mask is in a lossy format.*segmentation\.png"):
            getattr(interface, act)("a")

    @pytest.mark.parametrize("act", ["load_segmentation", "check"])
    def test_a_jpeg_that_is_called_png_is_refused(self, tmp_path, grey, act):
        interface = self.write(tmp_path, grey, grey)
        save(tmp_path / "b.jpg", grey).rename(tmp_path / "a" / "segmentation.png")
        with pytest.raises(DataError, match=r"segmentation\.png: the mask is JPEG-compressed"):
            getattr(interface, act)("a")

    def test_missing(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey)
        interface = opened(tmp_path)
        with pytest.raises(MissingDataError, match=r"holds no segmentation\.png \(found: imaging\.png\)"):
            interface.check("a")
        interface.check("a", load_seg=False)

    def test_another_size(self, tmp_path, grey, mask):
        interface = self.write(tmp_path, grey, mask.T)
        with pytest.raises(DataError, match=r"segmentation\.png is \(9, 6\).*imaging\.png is \(6, 9\)"):
            interface.check("a")


class TestPredictions:
    @pytest.mark.parametrize("ending", ["png", "tif", "bmp", "jpg"])
    def test_round_trip(self, tmp_path, grey, mask, ending):
        save(tmp_path / "data" / "a" / f"imaging.{ending}", grey)
        interface = opened(tmp_path / "data", classes=3, img_format=ending)
        interface.save_prediction(loaded(interface, "a", mask), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), mask)
        written = tmp_path / "out" / f"a.{'png' if ending == 'jpg' else ending}"
        np.testing.assert_array_equal(np.array(Image.open(written)), mask)

    def test_more_than_256_classes(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey)
        interface = opened(tmp_path, classes=300)
        labels = np.full(SIZE, 299)
        interface.save_prediction(loaded(interface, "a", labels), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), labels)
        save(tmp_path / "a" / "imaging.bmp", grey)
        interface = opened(tmp_path, classes=300, img_format="bmp")
        with pytest.raises(ConfigurationError, match="BMP holds 256"):
            interface.save_prediction(loaded(interface, "a", labels), tmp_path / "out")

    def test_probabilities_and_labels_replace_each_other(self, tmp_path, grey, mask, rng):
        save(tmp_path / "data" / "a" / "imaging.png", grey)
        interface = opened(tmp_path / "data", classes=3)
        probabilities = rng.random((*SIZE, 3)).astype(np.float32)
        interface.save_prediction(loaded(interface, "a", mask), tmp_path / "out")
        interface.save_prediction(loaded(interface, "a", probabilities, True), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), probabilities)
        interface.save_prediction(loaded(interface, "a", mask), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), mask)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]

    def test_names_that_do_not_suit(self, tmp_path, grey, mask, rng):
        save(tmp_path / "a" / "imaging.png", grey)
        interface = opened(tmp_path, classes=3)
        with pytest.raises(ConfigurationError, match=r"seg\.jpg: the format changes labels"):
            interface.write_file(loaded(interface, "a", mask), tmp_path / "seg.jpg")
        with pytest.raises(ConfigurationError, match=r"seg\.png: .*\.npy"):
            interface.write_file(loaded(interface, "a", rng.random((*SIZE, 3)), True), tmp_path / "seg.png")

    def test_none_yet(self, tmp_path, grey):
        save(tmp_path / "a" / "imaging.png", grey)
        with pytest.raises(MissingDataError, match=r"prediction .*a\.png does not exist"):
            opened(tmp_path).load_prediction("a", tmp_path)

    def test_a_pickle_among_the_predictions_is_not_run(self, tmp_path, grey):
        save(tmp_path / "data" / "a" / "imaging.png", grey)
        np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match=r"a\.npy"):
            opened(tmp_path / "data").load_prediction("a", tmp_path)

    def test_an_index_that_leads_out_is_refused(self, tmp_path, grey, mask):
        save(tmp_path / "data" / "a" / "imaging.png", grey)
        interface = opened(tmp_path / "data", classes=3)
        sample = loaded(interface, "a", mask)
        sample.index = "../evil"
        with pytest.raises(DataError, match="cannot be a file name"):
            interface.save_prediction(sample, tmp_path / "out")
        with pytest.raises(DataError, match="cannot be a file name"):
            interface.load_image("../data/a")


class TestBadFiles:
    def test_several_pages(self, tmp_path, grey):
        (tmp_path / "a").mkdir()
        pages = [Image.fromarray(grey)] * 3
        pages[0].save(tmp_path / "a" / "imaging.tif", save_all=True, append_images=pages[1:])
        interface = opened(tmp_path, img_format="tif")
        with pytest.raises(DataError, match=r"imaging\.tif: the file holds 3 pages"):
            interface.check("a")
        with pytest.raises(DataError, match=r"imaging\.tif: the file holds 3 pages"):
            interface.load_image("a")

    def test_truncated(self, tmp_path, rng):
        path = save(tmp_path / "a" / "imaging.png", rng.integers(0, 256, (100, 100)).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(DataError, match=r"a/imaging\.png: the image is truncated or damaged"):
            opened(tmp_path).load_image("a")

    @pytest.mark.parametrize("content", [b"", b"no image"])
    def test_no_image(self, tmp_path, content):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "imaging.png").write_bytes(content)
        with pytest.raises(DataError, match=r"a/imaging\.png: not a readable image"):
            opened(tmp_path).check("a")

    def test_a_header_that_claims_gigapixels(self, tmp_path, grey):
        path = save(tmp_path / "a" / "imaging.png", grey)
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", 100000, 100000)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a/imaging\.png: .*(pixels|bomb)"):
            opened(tmp_path).load_image("a")

    def test_stray_files_are_left_out(self, tmp_path, grey):
        save(tmp_path / "b" / "imaging.png", grey)
        save(tmp_path / "a" / "imaging.png", grey)
        save(tmp_path / "imaging.txt.png", grey)
        (tmp_path / "empty").mkdir()
        assert Image_interface().initialize(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"img_type": "colour"}, "img_type='colour'"), ({"img_format": "webp"}, "img_format='webp'")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Image_interface(**arguments)


def test_configuration_round_trip():
    interface = Image_interface(3, "rgb", ".TIF", "a.*", label_map={255: 1})
    assert (interface.channels, interface.img_format, interface.three_dim) == (3, "tif", False)
    assert get_config(Image_interface(**get_config(interface))) == get_config(interface)


def test_fingerprint_notices_a_changed_mask(tmp_path, grey, mask):
    save(tmp_path / "a" / "imaging.png", grey)
    save(tmp_path / "a" / "segmentation.png", mask)
    interface = opened(tmp_path)
    before = interface.fingerprint("a", tmp_path)
    assert interface.fingerprint("a", tmp_path) == before
    save(tmp_path / "a" / "segmentation.png", mask[:, ::-1].repeat(2, 0))
    assert interface.fingerprint("a", tmp_path) != before


def test_what_is_known_of_an_image_does_not_need_the_image(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a" / "imaging.png")
    interface = Image_interface()
    interface.initialize(tmp_path)
    assert interface.load_extended("a") == interface.load_image("a")[1]


@pytest.mark.parametrize(
    ("mode", "coloured"),
    [("1", False), ("L", False), ("LA", False), ("I", False), ("I;16", False), ("F", False), ("RGB", True)]
    + [("RGBA", True), ("CMYK", True)],
)
def test_colours_are_told_by_the_header(tmp_path, mode, coloured):
    Image.new(mode, (4, 3)).save(tmp_path / "a.tif")
    assert image_file.is_coloured(tmp_path / "a.tif") is coloured


def test_a_palette_of_greys_is_no_colour(tmp_path, grey):
    save(tmp_path / "grey.png", grey, "P")
    assert not image_file.is_coloured(tmp_path / "grey.png")
    image = Image.fromarray(grey % 3, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "colours.png")
    assert image_file.is_coloured(tmp_path / "colours.png")


def test_the_values_of_a_mask_are_there_to_be_looked_at(tmp_path, grey):
    save(tmp_path / "a" / "imaging.png", grey)
    save(tmp_path / "a" / "segmentation.png", grey)
    interface = opened(tmp_path, label_map={255: 1})
    np.testing.assert_array_equal(interface.stored_labels("a"), grey)


@pytest.mark.parametrize("image", ["IMAGING.PNG", "imaging.Png"])
@pytest.mark.parametrize("mask", ["Segmentation.PNG", "segmentation.TIFF"])
def test_imaging_png_in_capitals(tmp_path, image, mask):
    grey = (image_of("a", shape=(6, 9)) % 256).astype(np.uint8)
    save_image(tmp_path / "a" / image, grey)
    save_image(tmp_path / "a" / mask, labels_of("a", (6, 9), 2))
    interface = Image_interface(classes=2)
    assert interface.initialize(tmp_path) == ["a"]
    interface.check("a")
    np.testing.assert_array_equal(interface.load_image("a")[0], grey)
    np.testing.assert_array_equal(interface.load_segmentation("a"), labels_of("a", (6, 9), 2))


def test_two_masks_of_a_sample_are_said(tmp_path):
    for name in ("imaging.png", "segmentation.png", "segmentation.tif"):
        save_image(tmp_path / "a" / name, np.zeros((6, 9), np.uint8))
    interface = Image_interface()
    interface.initialize(tmp_path)
    with pytest.warns(RepeatedWarning, match=r"segmentation\.png and segmentation\.tif; segmentation\.png is read"):
        interface.check("a")
