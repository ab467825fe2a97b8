"""Overlays voxel by voxel, and what a drawn case shows."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.errors import ConfigurationError, DataError, StorageError
from miscnn_tf.pictures.overlay import case_figure, draw_case, overlay


@pytest.fixture
def saved(monkeypatch):
    """Keeps the figures instead of drawing them, and writes an empty file in their place."""
    figures = []

    def savefig(self, path, **kwargs):
        figures.append(self)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def pictures(figure):
    """The arrays shown, by rows of panels."""
    shown = [axes.images[0].get_array() for axes in figure.axes]
    columns = figure.axes[0].get_gridspec().ncols
    return [shown[first : first + columns] for first in range(0, len(shown), columns)]


# ---------------------------------------------------------------- overlay


@given(st.integers(0, 99), st.floats(0, 1))
@settings(deadline=None)
def test_each_pixel_is_the_mix_of_its_grey_and_its_colour(seed, alpha):
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(5, 6))
    labels = generator.integers(0, 4, (5, 6))
    picture = overlay(image, labels, 4, alpha, levels=(-1.0, 1.0))
    colours = class_colours(4)
    for where in np.ndindex(image.shape):
        grey = 255 * min(max((image[where] + 1) / 2, 0), 1)
        share = alpha if labels[where] else 0.0
        np.testing.assert_allclose(picture[where], (1 - share) * grey + share * colours[labels[where]], atol=0.51)
    assert picture.dtype == np.uint8


def test_inputs_are_not_changed():
    image, labels = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.uint8)
    before = image.copy(), labels.copy()
    overlay(image, labels, 2)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_uint8_colour_images_keep_their_colours():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(overlay(image, None, 2), image)
    np.testing.assert_array_equal(overlay(image, np.zeros((4, 5), int), 2), image)


def test_voxels_that_are_no_number_are_black():
    image = np.array([[0.0, np.nan], [1.0, np.inf]])
    assert overlay(image, None, 2, levels=(0.0, 1.0))[..., 0].tolist() == [[0, 0], [255, 255]]


def test_constant_images_are_black():
    """users.md: constant images handled."""
    assert overlay(np.full((4, 4), 7.0), None, 2).max() == 0


def test_wrong_input_is_named():
    image = np.zeros((4, 4))
    with pytest.raises(DataError, match="labels from 0 to 3; with classes=3"):
        overlay(image, np.array([[3, 0, 0, 0]] * 4), 3)
    with pytest.raises(DataError, match="from -1"):
        overlay(image, np.full((4, 4), -1), 3)
    with pytest.raises(ConfigurationError, match="labels2d"):
        overlay(image, np.zeros((4, 5), int), 2)
    with pytest.raises(ConfigurationError, match="image2d"):
        overlay(np.zeros((4, 4, 4)), None, 2)
    with pytest.raises(ConfigurationError, match="alpha"):
        overlay(image, None, 2, alpha=2)


def test_colours_differ_for_every_kind_of_colour_vision():
    """Distances in CIEDE2000 after simulating the three kinds of dichromacy (Machado et al. 2009, severity 1)."""
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    colours = class_colours(4)[1:] / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
        for first in range(3):
            for second in range(first):
                assert deltaE_ciede2000(lab[first], lab[second]) > 10


def test_twenty_one_classes_have_colours_of_their_own():
    colours = class_colours(30)
    assert colours.shape == (30, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len(np.unique(colours[:22], axis=0)) == 22
    np.testing.assert_array_equal(colours[22:], colours[1:9])
    lightness = rgb2lab(colours[1:22] / 255)[:, 0].reshape(3, 7)
    assert np.all(lightness[1] > lightness[0])
    assert np.all(lightness[2] < lightness[0])


def test_colours_may_be_given():
    colours = np.array([[9, 9, 9], [10, 20, 30], [200, 100, 50]], np.uint8)
    picture = overlay(np.zeros((1, 3)), np.array([[0, 1, 2]]), 3, alpha=1.0, levels=(0, 1), colours=colours)
    assert picture[0].tolist() == [[0, 0, 0], [10, 20, 30], [200, 100, 50]]


# ---------------------------------------------------------------- cases


def block(shape=(30, 40, 20)):
    """A volume whose structure is not symmetric in any axis."""
    truth = np.zeros(shape, np.uint8)
    truth[8:14, 20:36, 4:12] = 1
    truth[8:10, 20:26, 4:12] = 2
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32) + 5 * truth
    return image, truth


def test_writes_a_png_with_truth_beside_prediction(tmp_path):
    image, truth = block()
    before = image.copy(), truth.copy()
    path = tmp_path / "pictures" / "case.png"
    draw_case(image, truth, np.roll(truth, 1, 0), path, (1, 1, 2), "case: Dice 0.9", ["background", "kidney", "tumour"])
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.std() > 10
    assert [entry.name for entry in path.parent.iterdir()] == ["case.png"]
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(truth, before[1])


def test_titles_legend_and_panels(saved, tmp_path):
    image, truth = block()
    draw_case(image, truth[..., None], truth, tmp_path / "a.png", (1, 1, 1), "the title", ["background", "kidney"])
    (figure,) = saved
    assert figure.get_suptitle() == "the title"
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "ground truth", "prediction"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["kidney", "class 2", "outline of ground truth"]
    for plain, first, second in pictures(figure):
        assert np.ptp(plain, axis=-1).max() == 0
        np.testing.assert_array_equal(first, second)
        assert np.ptp(first, axis=-1).max() > 0
    assert [len(axes.collections) for axes in figure.axes[:3]] == [0, 0, 1]


@pytest.mark.parametrize("missing", ["truth", "prediction"])
def test_one_label_map_is_enough(saved, tmp_path, missing):
    image, truth = block()
    maps = {"truth": truth, "prediction": truth, missing: None}
    draw_case(image, **maps, path=tmp_path / "a.png", spacing=(1, 1, 1))
    assert len(pictures(saved[0])[0]) == 2
    assert not any(axes.collections for axes in saved[0].axes)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPL", "AIR", "PRS"])
def test_with_an_affine_every_orientation_gives_the_same_picture(saved, tmp_path, codes):
    """One anatomy stored in several axis orders: the patient's right is on the left, the front on top."""
    image, truth = block()
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = [nib.orientations.apply_orientation(array, turn) for array in (image, truth)]
    turned_affine = affine @ inv_ornt_aff(turn, image.shape)
    assert "".join(nib.aff2axcodes(turned_affine)) == codes
    draw_case(*turned, None, tmp_path / "a.png", affine=turned_affine)
    draw_case(image, truth, None, tmp_path / "b.png", affine=affine)
    for (turned_plain, turned_map), (plain, labelled) in zip(*map(pictures, saved), strict=True):
        np.testing.assert_array_equal(turned_plain, plain)
        np.testing.assert_array_equal(turned_map, labelled)
        # Class 2 lies at low x (patient's left in RAS+ is low x: the picture's right) and low y (the back: below).
        red, green, blue = (labelled[..., channel].astype(int) for channel in range(3))
        rows, columns = np.nonzero(blue > red + 20)
        orange_rows, orange_columns = np.nonzero(red > blue + 20)
        assert green.any()
        assert rows.mean() > orange_rows.mean()
        assert columns.mean() > orange_columns.mean()
    assert [axes.get_aspect() for axes in saved[0].axes] == [2.0] * len(saved[0].axes)


def test_slice_numbers_are_the_arrays(saved, tmp_path):
    image, truth = np.zeros((20, 8, 8)), np.zeros((20, 8, 8), np.uint8)
    truth[3, 2:5, 2:5] = 1
    downwards = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    draw_case(image, truth, None, tmp_path / "a.png", affine=downwards)
    assert saved[0].axes[0].get_ylabel() == "slice 3"


@pytest.mark.parametrize(
    ("spacing", "across", "aspect"),
    [((3, 0.8, 0.4), 0, 2.0), ((0.8, 0.4, 3), 2, 0.5), ((1, 1, 1), 2, 1.0), ((1, 3, 2), 1, 2.0)],
)
def test_without_an_affine_slices_are_cut_across_the_coarsest_axis(saved, tmp_path, spacing, across, aspect):
    truth = np.zeros((20, 22, 24), np.uint8)
    box = [slice(4, 18)] * 3
    box[across] = slice(7, 8)
    truth[tuple(box)] = 1
    draw_case(truth.astype(float), truth, None, tmp_path / "a.png", spacing)
    assert [axes.get_ylabel() for axes in saved[0].axes] == ["slice 7", ""]
    assert saved[0].axes[0].get_aspect() == pytest.approx(aspect)


def test_a_2d_colour_image_is_shown_as_it_is(saved, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    truth = np.zeros((30, 40), np.uint8)
    truth[10:20, 15:30] = 1
    draw_case(image, truth[..., None], truth * 0, tmp_path / "a.png")
    (plain, labelled, predicted) = pictures(saved[0])[0]
    np.testing.assert_array_equal(plain, image)
    np.testing.assert_array_equal(predicted, image)
    np.testing.assert_array_equal(np.any(labelled != image, axis=-1), truth > 0)


@pytest.mark.parametrize("channel", [(), (1,), (2,)])
def test_a_2d_grey_image_with_any_number_of_channels(saved, tmp_path, channel):
    image = np.zeros((30, 40, *channel), np.float32)
    image[5:10] = 1
    truth = np.zeros((30, 40), np.uint8)
    truth[4:12] = 1
    draw_case(image, truth, truth, tmp_path / "a.png", spacing=(1.0, 1.0))
    assert pictures(saved[0])[0][0].shape == (30, 40, 3)


def test_a_small_structure_is_shown_close_up(saved, tmp_path):
    truth = np.zeros((8, 300, 300), np.uint8)
    truth[4, 100:120, 20:60] = 1
    draw_case(truth.astype(float), truth, None, tmp_path / "a.png", (3, 1, 1))
    labelled = pictures(saved[0])[0][1]
    # Three times the longer side, 40 voxels; cut off at the image's border.
    assert labelled.shape[:2] == (120, 100)
    assert np.count_nonzero(np.ptp(labelled, axis=-1)) == 20 * 40


def test_contrast_is_the_structures_not_that_of_air_and_bone(saved, tmp_path):
    """A CT: kidney and tumour, 50 HU apart, differ by 15 % of the grey range although air and bone are shown."""
    image = np.full((6, 80, 80), -1000, np.int16)
    image[:, 10:70, 10:70] = 40
    image[:, 60:66, 30:40] = 1200
    truth = np.zeros(image.shape, np.uint8)
    # Close to the skin: some air lies in the rim that the contrast is taken from.
    truth[:, 12:32, 30:50] = 1
    truth[:, 12:18, 30:36] = 2
    image[truth == 1], image[truth == 2] = 150, 100
    image += np.random.default_rng(0).normal(0, 10, image.shape).astype(np.int16)
    draw_case(image, truth, None, tmp_path / "a.png", (3, 1, 1))
    plain = pictures(saved[0])[0][0][..., 0].astype(float)
    labels = pictures(saved[0])[0][1]
    kidney = plain[(labels[..., 0] > labels[..., 2].astype(int) + 20)].mean()
    tumour = plain[(labels[..., 2] > labels[..., 0].astype(int) + 20)].mean()
    assert kidney - tumour > 0.15 * 255
    assert kidney < 254


def test_real_mri(hippocampus, tmp_path):
    folder = sorted((hippocampus / "cases").iterdir())[0]
    image, labels = (nib.load(folder / name) for name in ("imaging.nii.gz", "segmentation.nii.gz"))
    truth = np.asarray(labels.dataobj).astype(np.uint8)
    draw_case(np.asarray(image.dataobj), truth, truth, tmp_path / "a.png", affine=image.affine)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 600


def test_empty_maps_are_drawn_without_a_structure(saved, tmp_path):
    image, truth = block()
    draw_case(image, truth * 0, truth * 0, tmp_path / "a.png", (1, 1, 1))
    assert len(pictures(saved[0])) == 1
    assert saved[0].axes[0].get_ylabel() == "slice 10"


def test_wrong_cases_are_named(tmp_path):
    image, truth = block()
    with pytest.raises(ConfigurationError, match="both None"):
        draw_case(image, None, None, tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match=r"the prediction is \(30, 40, 19\)"):
        draw_case(image, truth, truth[..., 1:], tmp_path / "a.png", (1, 1, 1))
    with pytest.raises(DataError, match=r"the ground truth must have integer labels.*float64"):
        draw_case(image, truth * 0.5, None, tmp_path / "a.png", (1, 1, 1))
    with pytest.raises(DataError, match="minimum -1"):
        draw_case(image, truth.astype(int) - 1, None, tmp_path / "a.png", (1, 1, 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        draw_case(image, truth, None, tmp_path / "file" / "a.png", (1, 1, 1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path):
    names = ["", r"class$_$, $\b$"]
    draw_case(np.zeros((5, 6)), np.eye(5, 6, dtype=int), None, tmp_path / "a.png", title="case$_$", class_names=names)
    assert (tmp_path / "a.png").is_file()


def test_the_outline_of_an_inner_class_is_not_hidden_by_the_class_around_it():
    """Defect: a necrotic core within enhancing tumour had the outline of the tumour."""
    labels = np.zeros((20, 20), np.uint8)
    labels[4:16, 4:16] = 3
    labels[8:12, 8:12] = 1
    figure = case_figure(np.zeros((20, 20)), None, labels, (1.0, 1.0), outlines=True)
    drawn = [one for axes in figure.axes for one in axes.collections]
    assert len(drawn) == 2
    np.testing.assert_allclose(drawn[-1].get_colors()[0][:3], class_colours(4)[1] / 255)
