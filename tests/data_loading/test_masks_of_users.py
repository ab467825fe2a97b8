"""Masks as people have them: GIF, JPEG, colours, smooth edges and numbered objects, from init to predictions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from layout_data import save_image
from PIL import Image, ImageFilter
from scipy import ndimage

from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.image_file import read_any_mask, read_mask, was_written_here, write_mask
from miscnn_tf.data_loading.interfaces import Image_interface, NIFTI_interface
from miscnn_tf.data_loading.interfaces.description import (
    build_interface,
    describe_interface,
    label_values_of,
    with_label_values,
)
from miscnn_tf.data_loading.label_keys import colour_keys
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.label_folders import evaluate_label_maps, find_label_maps
from miscnn_tf.experiment.build import make_interface
from miscnn_tf.experiment.toml_file import read_experiment
from miscnn_tf.runs.score_table import read_scores

SIZE = (40, 50)
NAMES = ("a", "b", "c", "d")
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 255)], np.uint8)


def shapes(number: int, count: int = 2) -> np.ndarray:
    """Separate discs, numbered from 1; another number in each image if `count` depends on it."""
    labels = np.zeros(SIZE, np.uint8)
    rows, columns = np.indices(SIZE)
    for disc in range(count):
        centre = (6 + 10 * (disc % 4), 5 + 9 * (disc // 4))
        labels[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 12 + number % 2] = disc + 1
    return labels


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)


def data_set(root: Path, save_mask, image_ending: str = ".jpg", mask_name: str = "{}_mask") -> Path:
    for number, name in enumerate(NAMES):
        save_image(root / "imgs" / f"{name}{image_ending}", image(number))
        (root / "masks").mkdir(exist_ok=True)
        save_mask(root / "masks" / mask_name.format(name), number)
    return root


def discs(number: int) -> np.ndarray:
    return (shapes(number) > 0).astype(np.uint8)


def palette_gif(path: Path, number: int) -> None:
    """Carvana: 1 bit, where the index of white may be 0 or 1."""
    swapped = number % 2
    picture = Image.fromarray(discs(number) ^ np.uint8(swapped), mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255] if not swapped else [255, 255, 255, 0, 0, 0])
    picture.save(path.with_suffix(".gif"))


def grey_gif(path: Path, number: int) -> None:
    """DRIVE: 256 greys."""
    Image.fromarray(discs(number) * np.uint8(255)).save(path.with_suffix(".gif"))


@pytest.mark.parametrize("save", [palette_gif, grey_gif])
def test_gif_masks(tmp_path, save):
    """The data of Pytorch-UNet's example: JPEG images and GIF masks."""
    root = data_set(tmp_path / "carvana", save)
    interface = find_interface(root)
    assert (interface.classes, interface.channels, interface.label_map) == (2, 3, {255: 1})
    data_io = Data_IO(interface, root, output_path=str(tmp_path / "out"))
    data_io.check(NAMES)
    for number, name in enumerate(NAMES):
        sample = data_io.sample_loader(name)
        np.testing.assert_array_equal(sample.seg_data[..., 0], discs(number))
        sample.add_prediction(sample.seg_data[..., 0])
        data_io.save_prediction(sample)
        stored = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        np.testing.assert_array_equal(stored, discs(number) * 255)


def test_drive(tmp_path):
    """TIFF images, GIF masks of vessels and of the field of view."""
    for number in range(21, 24):
        save_image(tmp_path / "images" / f"{number}_training.tif", image(number))
        for folder, name in (("1st_manual", "manual1"), ("mask", "training_mask")):
            (tmp_path / folder).mkdir(exist_ok=True)
            grey_gif(tmp_path / folder / f"{number}_{name}", number)
    interface = find_interface(tmp_path, mask_folder="1st_manual")
    assert interface.initialize(tmp_path) == ["21_training", "22_training", "23_training"]
    np.testing.assert_array_equal(interface.load_segmentation("22_training"), discs(22))


def test_gif_images_and_sample_folders(tmp_path):
    for number, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        Image.fromarray(image(number)[..., 0]).save(tmp_path / name / "imaging.gif")
        grey_gif(tmp_path / name / "segmentation", number)
    interface = find_interface(tmp_path)
    assert (interface.img_format, interface.channels, interface.classes) == ("gif", 1, 2)
    assert interface.initialize(tmp_path) == list(NAMES)
    np.testing.assert_array_equal(interface.load_image("b")[0], image(1)[..., 0])
    assert interface.check_file_termination(".gif")
    assert not interface.writes_file_termination(".gif")


@pytest.mark.parametrize("interlace", [0, 1])
def test_gif_as_pillow_reads_it(tmp_path, interlace):
    picture = Image.fromarray(image(3)).quantize(20)
    picture.save(tmp_path / "a.gif", interlace=interlace)
    colours = np.asarray(Image.open(tmp_path / "a.gif").convert("RGB"))
    np.testing.assert_array_equal(image_file.read_colours(tmp_path / "a.gif", "rgb"), colours)
    np.testing.assert_array_equal(read_any_mask(tmp_path / "a.gif"), colour_keys(colours))
    assert image_file.image_size(tmp_path / "a.gif") == SIZE
    assert image_file.is_coloured(tmp_path / "a.gif")
    content = (tmp_path / "a.gif").read_bytes()
    for size in (*range(6, len(content) - 1, 131), len(content) - 1):
        (tmp_path / "b.gif").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"b\.gif"):
            image_file.read_colours(tmp_path / "b.gif", "rgb")
    (tmp_path / "c.gif").write_bytes(content[:6] + b"\xff\xff\xff\xff" + content[10:])
    with pytest.raises(DataError, match=r"c\.gif"):
        image_file.read_colours(tmp_path / "c.gif", "rgb")


def test_animations_are_refused(tmp_path):
    frames = [Image.fromarray(image(number)[..., 0]) for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a\.gif: the file holds several pages"):
        image_file.image_size(tmp_path / "a.gif")


def jpeg_mask(path: Path, number: int) -> None:
    Image.fromarray(discs(number) * np.uint8(255)).save(path.with_suffix(".jpg"), quality=70)


def test_jpeg_masks_need_a_threshold_and_are_warned_of(tmp_path):
    root = data_set(tmp_path, jpeg_mask, ".png")
    with pytest.raises(DataError, match=r"JPEG-compressed, which changes labels.*--label-map 128\+=1") as caught:
        find_interface(root)
    assert str(caught.value).count("JPEG-compressed") == 1
    with pytest.warns(UserWarning, match="JPEG-compressed, so its edges are inexact; its values are separated by the"):
        interface = find_interface(root, label_map={"128+": 1})
    assert interface.classes == 2
    data_io = Data_IO(interface, root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_io.check(NAMES)
        for number, name in enumerate(NAMES):
            np.testing.assert_array_equal(data_io.sample_loader(name).seg_data[..., 0], discs(number))


def test_jpeg_masks_in_sample_folders(tmp_path):
    for number, name in enumerate(NAMES):
        save_image(tmp_path / name / "imaging.jpg", image(number))
        jpeg_mask(tmp_path / name / "segmentation", number)
    with pytest.raises(DataError, match=r"in a lossy format.*--label-map 128\+=1"):
        find_interface(tmp_path)
    with pytest.warns(UserWarning, match="JPEG-compressed"):
        interface = find_interface(tmp_path, label_map={"128+": 1})
    interface.initialize(tmp_path)
    np.testing.assert_array_equal(interface.load_segmentation("c"), discs(2))


def smooth_mask(path: Path, number: int) -> None:
    mask = Image.fromarray(np.kron(discs(number), np.ones((6, 6), np.uint8)) * np.uint8(255))
    mask.filter(ImageFilter.GaussianBlur(1.5)).save(path.with_suffix(".png"))


def test_masks_with_smooth_edges_are_recognised(tmp_path, capsys):
    """Defect: 256 classes were planned, and the terminal was flooded."""
    root = data_set(tmp_path / "data", smooth_mask, mask_name="{}")
    for name in NAMES:
        save_image(root / "imgs" / f"{name}.jpg", np.zeros((240, 300, 3), np.uint8))
    assert len(np.unique(read_mask(root / "masks" / "a.png"))) > 30
    config = tmp_path / "a.toml"
    assert cli.main(["init", str(root), "-o", str(config)]) == 1
    error = capsys.readouterr().err
    assert "mostly 0 and 255: their edges are smoothed" in error
    assert "--label-map 128+=1" in error
    assert len(error) < 600
    assert cli.main(["init", str(root), "-o", str(config), "--label-map", "128+=1"]) == 0
    made = read_experiment(config)
    assert (made.data.classes, made.data.label_map) == (2, {"128+": 1})
    interface = make_interface(made.data)
    interface.initialize(root)
    np.testing.assert_array_equal(interface.load_segmentation("a"), read_mask(root / "masks" / "a.png") >= 128)
    assert label_values_of(interface) == [0, 255]


def test_256_classes_remain_possible(tmp_path):
    for number, name in enumerate(NAMES):
        labels = np.random.default_rng(number).permutation(np.arange(2000) % 256).astype(np.uint8).reshape(SIZE)
        save_image(tmp_path / "imgs" / f"{name}.png", image(number))
        save_image(tmp_path / "masks" / f"{name}.png", labels)
    assert find_interface(tmp_path).classes == 256


def objects_mask(path: Path, number: int) -> None:
    Image.fromarray(shapes(number, 9 + 2 * number)).save(path.with_suffix(".png"))


def test_numbered_objects_are_recognised_and_merged(tmp_path, capsys):
    root = data_set(tmp_path / "data", objects_mask, mask_name="{}")
    assert ndimage.label(shapes(0, 9))[1] == 9
    config = tmp_path / "a.toml"
    assert cli.main(["init", str(root), "-o", str(config)]) == 1
    error = capsys.readouterr().err
    assert "number objects (cells, lesions): up to 15 labels" in error
    assert "--label-map nonzero=1" in error
    assert cli.main(["verify", str(root)]) == 1
    assert "--label-map nonzero=1" in capsys.readouterr().err
    assert cli.main(["verify", str(root), "--label-map", "nonzero=1"]) == 0
    assert cli.main(["init", str(root), "-o", str(config), "--label-map", "nonzero=1"]) == 0
    assert "nonzero = 1" in config.read_text()
    made = read_experiment(config)
    assert (made.data.classes, made.data.label_map) == (2, {"nonzero": 1})
    data_io = Data_IO(make_interface(made.data), root, output_path=str(tmp_path / "out"))
    sample = data_io.sample_loader("c")
    np.testing.assert_array_equal(sample.seg_data[..., 0], shapes(2, 13) > 0)
    sample.add_prediction(sample.seg_data[..., 0])
    data_io.save_prediction(sample)
    # JPEG images have predictions in PNG.
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "c.png")), shapes(2, 13) > 0)


def test_more_than_1000_objects(tmp_path):
    for number, name in enumerate(NAMES):
        labels = np.arange(2000, dtype=np.uint16).reshape(SIZE)
        save_image(tmp_path / "imgs" / f"{name}.png", image(number))
        save_image(tmp_path / "masks" / f"{name}.png", labels)
    with pytest.raises(DataError, match=r"more than 1000 different values.*--label-map nonzero=1"):
        find_interface(tmp_path)
    assert find_interface(tmp_path, label_map={"nonzero": 1}).classes == 2


def test_organs_are_no_objects(tmp_path):
    """Classes that some samples lack, or that are in several pieces."""
    for number, name in enumerate(NAMES):
        labels = shapes(number, 12)
        labels[labels > 6] -= 6  # two discs of each class
        labels[labels > 3 + number] = 0
        save_image(tmp_path / "imgs" / f"{name}.png", image(number))
        save_image(tmp_path / "masks" / f"{name}.png", labels)
    assert find_interface(tmp_path).classes == 7


def test_many_organs_are_no_objects(tmp_path, caplog):
    """All samples have the same 12 labels, each in one piece."""
    root = data_set(tmp_path, lambda path, number: objects_mask(path, 2), mask_name="{}")
    assert find_interface(root).classes == 14


def colour_mask(path: Path, number: int) -> None:
    Image.fromarray(COLOURS[shapes(number)]).save(path.with_suffix(".png"))


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_masks_with_a_colour_per_class(tmp_path, ending, capsys):
    root = data_set(tmp_path / "data", lambda path, number: colour_mask(path, number), ending)
    config = tmp_path / "a.toml"
    assert cli.main(["init", str(root), "-o", str(config)]) == 0
    text = config.read_text()
    assert 'label_map = {"#000000" = 0, "#0080ff" = 1, "#ff0000" = 2}' in text
    assert "values #000000, #0080ff, #ff0000" in text
    interface = make_interface(read_experiment(config).data)
    data_io = Data_IO(interface, root, output_path=str(tmp_path / "out"))
    data_io.check(NAMES)
    for number, name in enumerate(NAMES):
        sample = data_io.sample_loader(name)
        expected = np.array([0, 2, 1])[shapes(number)]
        np.testing.assert_array_equal(sample.seg_data[..., 0], expected)
        sample.add_prediction(sample.seg_data[..., 0])
        data_io.save_prediction(sample)
        stored = tmp_path / "out" / f"{name}{ending}"
        np.testing.assert_array_equal(np.asarray(Image.open(stored)), COLOURS[shapes(number)])
        np.testing.assert_array_equal(interface.load_prediction(name, tmp_path / "out"), expected)
        assert was_written_here(stored) == (ending != ".bmp")
    evaluate_label_maps(find_label_maps(tmp_path / "out"), find_label_maps(tmp_path / "out"), tmp_path / "scores")
    assert {row["dice"] for row in read_scores(tmp_path / "scores" / "scores.csv")} == {1.0}


def test_the_order_of_colours_is_chosen(tmp_path):
    root = data_set(tmp_path / "data", colour_mask, ".png")
    config = tmp_path / "a.toml"
    chosen = ["--label-map", "#ff0000=1", "#0080ff=2"]
    assert cli.main(["init", str(root), "-o", str(config), *chosen]) == 0
    made = read_experiment(config)
    assert (made.data.classes, made.data.label_map) == (3, {"#ff0000": 1, "#0080ff": 2})
    interface = make_interface(made.data)
    interface.initialize(root)
    np.testing.assert_array_equal(interface.load_segmentation("b"), shapes(1))


def test_colours_with_a_mask_that_has_none(tmp_path):
    """A mask of background alone is grey to its reader."""
    root = data_set(tmp_path, colour_mask, ".png")
    Image.new("RGB", SIZE[::-1]).save(root / "masks" / "d_mask.png")
    interface = find_interface(root)
    interface.initialize(root)
    assert interface.classes == 3
    assert not interface.load_segmentation("d").any()


def test_palettes_are_indices_unless_the_label_map_names_colours(tmp_path):
    picture = Image.fromarray(shapes(0), mode="P")
    picture.putpalette(COLOURS.ravel().tolist())
    save_image(tmp_path / "imgs" / "a.png", image(0))
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks" / "a.png")
    interface = find_interface(tmp_path)
    assert (interface.classes, interface.label_map) == (3, None)
    chosen = find_interface(tmp_path, label_map={"#ff0000": 1, "#0080ff": 0})
    chosen.initialize(tmp_path)
    assert chosen.classes == 2
    np.testing.assert_array_equal(chosen.load_segmentation("a"), shapes(0) == 1)


def test_palettes_that_differ_between_masks_are_warned_of(tmp_path):
    """Programs order a palette by frequency: the same index means another class in the next mask."""
    for number, name in enumerate("ab"):
        picture = Image.fromarray(shapes(0), mode="P")
        picture.putpalette(COLOURS[:: 1 - 2 * number].ravel().tolist())
        save_image(tmp_path / "imgs" / f"{name}.png", image(0))
        (tmp_path / "masks").mkdir(exist_ok=True)
        picture.save(tmp_path / "masks" / f"{name}.png")
    with pytest.warns(UserWarning, match=r"b\.png: the palette index 0 is #0080ff, but #000000 in .*a\.png"):
        find_interface(tmp_path)


def test_smooth_colour_masks_are_refused(tmp_path):
    def save(path: Path, number: int) -> None:
        Image.fromarray(COLOURS[shapes(number)]).filter(ImageFilter.GaussianBlur(1)).save(path.with_suffix(".png"))

    with pytest.raises(DataError, match=r"the masks? holds? .*colours"):
        find_interface(data_set(tmp_path, save, ".png"))


def test_transparent_colour_masks(tmp_path):
    colours = np.dstack([COLOURS[shapes(0)], np.where(shapes(0) > 0, 255, 0).astype(np.uint8)])
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_any_mask(tmp_path / "a.png"), colour_keys(COLOURS[shapes(0)]))
    colours[..., 3] = 255 - colours[..., 3]
    Image.fromarray(colours).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="the alpha channel of the mask is not constant"):
        read_any_mask(tmp_path / "b.png")


def test_a_colour_mask_without_a_label_map_is_an_error_that_offers_one(tmp_path):
    colour_mask(tmp_path / "a.png", 0)
    with pytest.raises(DataError, match=r"colour image, whose labels are ambiguous.*label_map=\{'#ff0000': 1\}"):
        read_mask(tmp_path / "a.png")


def test_colours_are_written_in_the_format_of_the_ending(tmp_path):
    keys = colour_keys(COLOURS[shapes(0)])
    for ending in ("png", "tif", "bmp"):
        write_mask(tmp_path / f"a.{ending}", keys)
        np.testing.assert_array_equal(read_any_mask(tmp_path / f"a.{ending}"), keys)


def test_volumes_get_class_numbers_from_a_model_of_colours():
    values = label_values_of(Image_interface(classes=2, label_map={"#ff0000": 1}))
    assert with_label_values(NIFTI_interface(classes=2), values).label_map is None
    assert label_values_of(with_label_values(Image_interface(classes=2), values)) == values


def test_the_model_keeps_a_label_map_of_colours():
    interface = Image_interface(classes=2, label_map={"#ff0000": 1})
    description = describe_interface(interface)
    assert description["config"]["label_map"] == {"#ff0000": 1}
    assert build_interface(description).label_map == interface.label_map
