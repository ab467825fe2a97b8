"""Masks with transparency, and image data sets with orientation, through the interfaces."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import tifffile
from picture_files import exif, png, with_exif
from PIL import Image

import miscnn_tf
from miscnn_tf.data_loading.formats.image_file import read_mask
from miscnn_tf.data_loading.interfaces import Image_interface, Paired_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError

LABELS = np.zeros((6, 9), np.uint8)
LABELS[2:4, 3:7] = 1
LABELS[4, 3:7] = 2
FOREGROUND = (LABELS > 0) * np.uint8(255)
EMPTY, FULL = np.zeros_like(LABELS), np.full_like(LABELS, 255)


def save(path, grey, alpha, form):
    channels = [grey, alpha] if form == "LA" else [grey, grey, grey, alpha]
    pixels = np.stack(channels, axis=-1)
    if path.suffix == ".tif":
        photometric = "minisblack" if form == "LA" else "rgb"
        options = {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(path, pixels, photometric=photometric, **options)
    else:
        Image.fromarray(pixels, form).save(path)
    return path


@pytest.mark.parametrize("form", ["LA", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(
    ("grey", "alpha"),
    [
        pytest.param(EMPTY, FOREGROUND, id="black with labels in alpha"),
        pytest.param(FULL, FOREGROUND, id="white with labels in alpha"),
        pytest.param(FULL, EMPTY, id="white, all transparent"),
        pytest.param(255 - FOREGROUND, FOREGROUND, id="black on transparent white"),
        pytest.param(EMPTY, LABELS, id="label numbers in alpha"),
        pytest.param(LABELS, FULL - LABELS, id="labels in both"),
        pytest.param(LABELS, np.where(LABELS == 2, 128, FULL), id="half transparent"),
    ],
)
def test_masks_with_labels_in_the_alpha_channel_are_refused_by_name(tmp_path, grey, alpha, ending, form):
    path = save(tmp_path / f"x.{ending}", grey, alpha.astype(np.uint8), form)
    with pytest.raises(DataError, match=rf"x\.{ending}: the alpha channel of the mask"):
        read_mask(path)


@pytest.mark.parametrize("form", ["LA", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(
    ("grey", "alpha"),
    [
        pytest.param(LABELS, FULL, id="opaque"),
        pytest.param(LABELS, FOREGROUND, id="transparent background"),
        pytest.param(EMPTY, FULL, id="nothing"),
        pytest.param(EMPTY, EMPTY, id="nothing, transparent"),
    ],
)
def test_masks_with_a_clear_alpha_channel_are_read(tmp_path, grey, alpha, ending, form):
    np.testing.assert_array_equal(read_mask(save(tmp_path / f"x.{ending}", grey, alpha, form)), grey)


def oriented(image: np.ndarray, ending: str) -> bytes:
    """An image that is to be seen as `image`, stored as a camera held sideways does, with Orientation 6."""
    stored = np.rot90(image)
    if ending == "png":
        return png(stored, 0, 8, [(b"eXIf", exif(6))])
    buffer = io.BytesIO()
    if ending == "tif":
        tifffile.imwrite(buffer, stored, extratags=[(274, 3, 1, 6, True)])
        return buffer.getvalue()
    Image.fromarray(stored).save(buffer, "JPEG", quality=100)
    return with_exif(buffer.getvalue(), 6)


@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
def test_images_with_exif_orientation_fit_masks_that_were_drawn_upright(tmp_path, ending):
    mask = np.zeros((48, 72), np.uint8)
    mask[8:24, 40:64] = 1
    image = np.where(mask, 220, 30).astype(np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        (tmp_path / "images" / f"{name}.{ending}").write_bytes(oriented(image, ending))
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    io_ = miscnn_tf.Data_IO(Paired_interface(classes=2), str(tmp_path))
    sample = io_.sample_loader("a")
    assert sample.img_data.shape == (48, 72, 1)
    assert abs(sample.img_data[sample.seg_data == 1].mean() - 220) < 1
    assert abs(sample.img_data[sample.seg_data == 0].mean() - 30) < 1
    assert io_.interface.load_shape("a") == (48, 72)
    assert not verify(io_).bad


def test_predictions_of_oriented_images_are_written_upright_and_without_the_tag(tmp_path):
    image = np.arange(54, dtype=np.uint8).reshape(6, 9)
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "imaging.tif").write_bytes(oriented(image, "tif"))
    interface = Image_interface(classes=3, img_format="tif")
    io_ = miscnn_tf.Data_IO(interface, str(tmp_path / "data"), output_path=str(tmp_path / "out"))
    sample = io_.sample_loader("a", load_seg=False)
    np.testing.assert_array_equal(sample.img_data[..., 0], image)
    sample.add_prediction(LABELS)
    interface.save_prediction(sample, tmp_path / "out")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), LABELS)
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.tif"), LABELS)


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "bmp"])
def test_a_named_pipe_among_the_images_does_not_hang(tmp_path, ending):
    os.mkfifo(tmp_path / f"x.{ending}")
    with pytest.raises(DataError, match="named pipe"):
        read_mask(tmp_path / f"x.{ending}")


@pytest.mark.parametrize("content", [b"RIFF\0\0\0\0WEBP", b"\0\0\0\x0cjP  "])
def test_another_format_under_the_name_of_png_is_refused(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content.ljust(100, b"\0"))
    with pytest.raises(
        DataError, match=r"x\.png: not a readable image \(its content is not PNG, TIFF, JPEG, BMP or GIF"
    ):
        read_mask(tmp_path / "x.png")
