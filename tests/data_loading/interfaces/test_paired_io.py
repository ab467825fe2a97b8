"""Folders of images and of masks."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from layout_data import SHAPE, image_of, labels_of, oblique, save_image, save_nifti, write_pairs

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import build, describe, get_config
from miscnn_tf.data_loading.interfaces import Paired_interface, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.paired_io import IMAGE_FOLDERS, MASK_FOLDERS, is_flat, is_paired
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

SIZE = (6, 9)
MASKS = {"classes": 2, "label_map": {255: 1}}


def opened(root, **arguments) -> Paired_interface:
    interface = Paired_interface(**{**MASKS, **arguments})
    interface.initialize(root)
    return interface


class TestNames:
    @pytest.mark.parametrize("images", IMAGE_FOLDERS)
    @pytest.mark.parametrize("masks", [*MASK_FOLDERS, "Masks", "Ground Truth"])
    def test_folders_are_found_by_their_usual_names(self, tmp_path, images, masks):
        write_pairs(tmp_path, ["a"], images, masks)
        assert is_paired(tmp_path)
        assert Paired_interface().initialize(tmp_path) == ["a"]

    @pytest.mark.parametrize("mask_name", ["{}.png", "{}_mask.png", "{}-seg.tif", "mask_{}.png", "{}_label.bmp"])
    def test_masks_are_called_as_usual(self, tmp_path, mask_name):
        interface = opened(write_pairs(tmp_path, mask_name=mask_name))
        for name in "abc":
            interface.check(name)
            np.testing.assert_array_equal(interface.load_image(name)[0], image_of(name, shape=SIZE) % 256)
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of(name, SIZE, 2))

    def test_folders_that_are_given(self, tmp_path):
        write_pairs(tmp_path, ["a"], "train/pictures", "train/truth")
        write_pairs(tmp_path, ["b"], "val/pictures", "val/truth")
        interface = opened(tmp_path, image_folder="train/pictures", mask_folder="train/truth")
        assert list(interface._files) == ["a"]
        with pytest.raises(ConfigurationError, match=r"image_folder='\.\./pictures' is not a folder below"):
            opened(tmp_path, image_folder="../pictures")
        with pytest.raises(
            MissingDataError, match=r"mask_folder='truth': the folder .* does not exist; .* holds train, val"
        ):
            opened(tmp_path, image_folder="train/pictures", mask_folder="truth")

    def test_all_in_one_folder(self, tmp_path):
        write_pairs(tmp_path, ["a", "b"], ".", ".", "{}_mask.png")
        assert is_flat(tmp_path)
        interface = Paired_interface(**MASKS)
        assert interface.initialize(tmp_path) == ["a", "b"]
        np.testing.assert_array_equal(interface.load_segmentation("b"), labels_of("b", SIZE, 2))

    def test_hidden_and_other_files_are_left_out(self, tmp_path):
        write_pairs(tmp_path, ["a"])
        for name in ("._a.png", ".DS_Store", "Thumbs.db", "readme.txt"):
            (tmp_path / "images" / name).write_bytes(b"x")
            (tmp_path / "masks" / name).write_bytes(b"x")
        assert Paired_interface().initialize(tmp_path) == ["a"]

    def test_who_has_no_partner_is_named(self, tmp_path, caplog):
        write_pairs(tmp_path, ["a", "b"])
        save_image(tmp_path / "images" / "alone.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "lonely_mask.png", np.zeros(SIZE, np.uint8))
        with caplog.at_level(logging.WARNING):
            assert Paired_interface().initialize(tmp_path) == ["a", "b"]
        assert "1 image without a mask, left out: alone" in caplog.text
        assert "1 mask without an image: lonely_mask" in caplog.text
        assert Paired_interface(part="test").initialize(tmp_path) == ["alone"]
        interface = Paired_interface(part="all")
        assert interface.initialize(tmp_path) == ["a", "alone", "b"]
        with pytest.raises(MissingDataError, match=r"'alone' .*has no label map"):
            interface.load_segmentation("alone")

    def test_images_without_any_masks(self, tmp_path):
        for name in ("x", "y"):
            save_image(tmp_path / f"{name}.png", np.zeros(SIZE, np.uint8))
        assert Paired_interface(part="all").initialize(tmp_path) == ["x", "y"]
        with pytest.raises(MissingDataError, match=r"holds no folder of images .*found: x\.png, y\.png"):
            Paired_interface().initialize(tmp_path)
        save_image(tmp_path / "more" / "imgs" / "z.png", np.zeros(SIZE, np.uint8))
        assert Paired_interface(part="test").initialize(tmp_path / "more") == ["z"]
        write_pairs(tmp_path / "pairs", ["a"])
        with pytest.raises(MissingDataError, match="every image has a mask"):
            Paired_interface(part="test").initialize(tmp_path / "pairs")


class TestImages:
    def test_jpeg_images_with_png_masks(self, tmp_path, rng):
        colours = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        save_image(tmp_path / "images" / "a.jpg", colours)
        save_image(tmp_path / "masks" / "a.png", labels_of("a", SIZE, 2) * np.uint8(255))
        data_io = Data_IO(Paired_interface(**MASKS), tmp_path, output_path=tmp_path / "out")
        data_io.check(["a"])
        sample = data_io.sample_loader("a")
        assert sample.img_data.shape == (*SIZE, 3)
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
        np.testing.assert_array_equal(data_io.sample_loader("a", load_pred=True).pred_data, sample.seg_data)

    def test_one_image_in_colours_makes_all_of_them_so(self, tmp_path, rng):
        write_pairs(tmp_path)
        assert opened(tmp_path).channels == 1
        save_image(tmp_path / "images" / "d.tif", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
        save_image(tmp_path / "masks" / "d.png", np.zeros(SIZE, np.uint8))
        interface = opened(tmp_path)
        assert interface.channels == 3
        assert interface.load_image("a")[0].shape == (*SIZE, 3)
        assert opened(tmp_path, channels=1).load_image("d")[0].shape == SIZE

    def test_predictions_keep_the_format_of_the_images(self, tmp_path):
        for name in "ab":
            save_image(tmp_path / "images" / f"{name}.tif", np.zeros(SIZE, np.uint8))
            save_image(tmp_path / "masks" / f"{name}.tif", labels_of(name, SIZE, 2))
        assert opened(tmp_path).file_ending == ".tif"

    @pytest.mark.parametrize("foreground", [255, 1])
    def test_masks_of_0_and_255(self, tmp_path, foreground):
        interface = opened(write_pairs(tmp_path, foreground=foreground))
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels_of("a", SIZE, 2))
        assert set(np.unique(interface.stored_labels("a"))) == {0, foreground}

    def test_masks_of_0_and_255_without_a_label_map_say_what_to_pass(self, tmp_path):
        interface = opened(write_pairs(tmp_path), label_map=None)
        with pytest.raises(DataError, match=r"masks/a\.png: .* holds 255 .*label_map=\{255: 1\}"):
            interface.load_segmentation("a")

    def test_masks_in_colours_are_refused(self, tmp_path, rng):
        save_image(tmp_path / "images" / "a.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "a.png", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
        with pytest.raises(DataError, match=r"masks/a\.png: the mask is a colour image"):
            opened(tmp_path).load_segmentation("a")

    def test_jpeg_masks_are_refused(self, tmp_path):
        save_image(tmp_path / "images" / "a.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "a.jpg", np.zeros(SIZE, np.uint8))
        with pytest.raises(DataError, match=r"masks/a\.jpg: the mask is JPEG-compressed"):
            opened(tmp_path).check("a")

    def test_image_and_mask_of_other_size(self, tmp_path):
        save_image(tmp_path / "images" / "a.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "a.png", np.zeros((9, 6), np.uint8))
        with pytest.raises(DataError, match=r"masks/a\.png is \(9, 6\)"):
            opened(tmp_path).check("a")

    def test_a_damaged_image_is_found_by_the_check(self, tmp_path):
        write_pairs(tmp_path)
        (tmp_path / "images" / "a.png").write_bytes(b"no image")
        interface = opened(tmp_path)
        with pytest.raises(DataError, match=r"images/a\.png: not a readable image"):
            interface.check("a")
        interface.check("b")


class TestNifti:
    def test_volumes_and_predictions_over_them(self, tmp_path):
        for name in "ab":
            save_nifti(tmp_path / "images" / f"{name}.nii.gz", image_of(name), oblique())
            save_nifti(tmp_path / "labels" / f"{name}_seg.nii", labels_of(name), oblique())
        data_io = Data_IO(Paired_interface(classes=3), tmp_path, output_path=tmp_path / "out")
        assert data_io.get_indiceslist() == ["a", "b"]
        data_io.check(["a", "b"])
        sample = data_io.sample_loader("b")
        assert sample.img_data.shape == (*SHAPE, 1)
        np.testing.assert_array_equal(sample.seg_data[..., 0], labels_of("b"))
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
        extended = data_io.interface.read_file(tmp_path / "out" / "b.nii.gz")[1]
        np.testing.assert_allclose(extended["affine"], oblique(), atol=1e-4)

    def test_a_file_per_channel(self, tmp_path):
        for channel in range(3):
            save_nifti(tmp_path / "images" / f"p_{channel:04d}.nii.gz", image_of("p", channel))
        save_nifti(tmp_path / "labels" / "p.nii.gz", labels_of("p"))
        interface = Paired_interface(classes=3)
        assert interface.initialize(tmp_path) == ["p"]
        assert interface.channels == 3
        np.testing.assert_array_equal(interface.load_image("p")[0][..., 2], image_of("p", 2))
        (tmp_path / "images" / "p_0001.nii.gz").unlink()
        with pytest.raises(MissingDataError, match=r"a channel of 'p' is missing \(found: p_0000, p_0002\)"):
            interface.initialize(tmp_path)

    def test_nnunets_test_cases_alone(self, tmp_path):
        for name in "pq":
            for channel in range(2):
                save_nifti(tmp_path / f"{name}_{channel:04d}.nii.gz", image_of(name, channel))
        interface = Paired_interface(part="all")
        assert interface.initialize(tmp_path) == ["p", "q"]
        assert interface.load_image("q")[0].shape == (*SHAPE, 2)

    def test_numbered_cases_are_no_channels(self, tmp_path):
        for number in range(3):
            save_nifti(tmp_path / "images" / f"case_{number:04d}.nii.gz", image_of(str(number)))
            save_nifti(tmp_path / "labels" / f"case_{number:04d}.nii.gz", labels_of(str(number)))
        assert Paired_interface(classes=3).initialize(tmp_path) == ["case_0000", "case_0001", "case_0002"]

    def test_two_kinds_in_one_folder(self, tmp_path):
        write_pairs(tmp_path, ["a"])
        save_nifti(tmp_path / "images" / "b.nii.gz", image_of("b"))
        save_nifti(tmp_path / "masks" / "b.nii.gz", labels_of("b"))
        with pytest.raises(DataError, match=r"a\.png and b\.nii\.gz have different formats"):
            opened(tmp_path)


class TestTroubles:
    def test_missing_folders_say_what_was_found(self, tmp_path):
        write_pairs(tmp_path / "data", ["a"], "pictures", "masks")
        with pytest.raises(MissingDataError, match=r"no folder of images named images, .*found: masks, pictures"):
            opened(tmp_path / "data")
        write_pairs(tmp_path / "more", ["a"], "images", "truths")
        with pytest.raises(MissingDataError, match=r"no folder of masks named masks, .*found: images, truths.*part="):
            opened(tmp_path / "more")
        write_pairs(tmp_path / "split" / "train", ["a"])
        with pytest.raises(MissingDataError, match=r"give .*split/train, or image_folder"):
            opened(tmp_path / "split")

    def test_two_folders_of_masks(self, tmp_path):
        write_pairs(tmp_path, ["a"])
        write_pairs(tmp_path, ["a"], masks="labels")
        with pytest.raises(DataError, match="labels, masks; choose one: mask_folder='labels'"):
            opened(tmp_path)
        assert list(opened(tmp_path, mask_folder="labels")._files) == ["a"]

    def test_nothing_fits(self, tmp_path):
        write_pairs(tmp_path, ["a", "b"], mask_name="m{}.png")
        with pytest.raises(MissingDataError, match=r"no mask matches .*images: a, b; masks: ma, mb.*x_mask for x"):
            opened(tmp_path)

    def test_two_masks_for_an_image(self, tmp_path):
        write_pairs(tmp_path, ["a"])
        write_pairs(tmp_path, ["a"], mask_name="{}_mask.png")
        with pytest.raises(
            DataError, match="image 'a' could have the masks 'a', 'a_mask'; rename or remove the others"
        ):
            opened(tmp_path)

    def test_two_files_of_one_name(self, tmp_path):
        write_pairs(tmp_path, ["a"])
        save_image(tmp_path / "images" / "a.tif", np.zeros(SIZE, np.uint8))
        with pytest.raises(DataError, match=r"several files of one sample, a\.png and a\.tif; remove all but one"):
            opened(tmp_path)

    def test_no_images(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        (tmp_path / "images" / "a.webp").write_bytes(b"GIF89a")
        with pytest.raises(MissingDataError, match=r"images holds no images \(found: a\.webp\) that end in \.nii\.gz"):
            opened(tmp_path)
        save_image(tmp_path / "images" / "a.jpg", np.zeros(SIZE, np.uint8))
        (tmp_path / "masks" / "a_mask.webp").write_bytes(b"GIF89a")
        with pytest.raises(
            MissingDataError, match=r"masks holds no masks \(found: a_mask\.webp\) that end in .*; convert others"
        ):
            opened(tmp_path)

    def test_more_channels_than_an_image_has(self, tmp_path):
        with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 .* not channels=2"):
            opened(write_pairs(tmp_path), channels=2)

    def test_classes_that_nobody_told(self, tmp_path):
        with pytest.raises(ConfigurationError, match="give classes, or use"):
            opened(write_pairs(tmp_path), classes=None)


class TestWithoutTheData:
    def test_the_configuration_rebuilds_it(self, tmp_path, rng):
        interface = opened(write_pairs(tmp_path), class_names=["background", "cell"])
        rebuilt = build(json.loads(json.dumps(describe(interface, "PAIRED"))), miscnn_data_interfaces)
        assert get_config(rebuilt) == get_config(interface)
        assert rebuilt.label_map == {255: 1}
        colours = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        assert rebuilt.read_file(save_image(tmp_path / "x.bmp", colours))[0].shape == SIZE
        with pytest.raises(ConfigurationError, match=r"call initialize\(input_path\)"):
            rebuilt.load_image("a")

    def test_files_are_written_by_their_ending(self, tmp_path):
        interface = opened(write_pairs(tmp_path))
        data_io = Data_IO(interface, tmp_path)
        sample = data_io.sample_loader("a")
        sample.add_prediction(sample.seg_data)
        for name in ("a.png", "a.tif", "a.nii.gz"):
            interface.write_file(sample, tmp_path / "out" / name)
            read = interface.read_file(tmp_path / "out" / name)[0]
            np.testing.assert_array_equal(np.squeeze(read), 255 * sample.seg_data[..., 0])


def write_eyes(root, folders, names=("21", "22"), images="images", image_name="{}_training.tif"):
    """Images of vessels in the eye, and folders of masks; each has voxels of its own."""
    for name in names:
        save_image(root / images / image_name.format(name), (image_of(name, shape=SIZE) % 256).astype(np.uint8))
        for folder, mask_name in folders.items():
            save_image(root / folder / mask_name.format(name), labels_of(folder + name, SIZE, 2) * np.uint8(255))
    return root


DRIVE = {"mask": "{}_training_mask.png", "1st_manual": "{}_manual1.png"}
DRIVE_TEST = DRIVE | {"2nd_manual": "{}_manual2.png"}
HRF = {"mask": "{}_training_mask.tif", "manual1": "{}_training.TIF"}


class TestSeveralFoldersOfMasks:
    @pytest.mark.parametrize(
        ("folders", "named"),
        [
            (DRIVE, "1st_manual, mask; choose one: mask_folder='1st_manual' or mask_folder='mask'"),
            (DRIVE_TEST, "1st_manual, 2nd_manual, mask; choose one"),
            (HRF, "manual1, mask; choose one"),
            ({"1st_manual": "{}_manual1.png", "labels-vk": "{}.png"}, "1st_manual, labels-vk; choose one"),
            ({"mask": "{}_training_mask.png", "vessels": "{}_training.png"}, "mask, vessels; choose one"),
            ({"mask": "{}_training_mask.png", "vessels": "{}_training.gif"}, "mask, vessels; choose one"),
        ],
    )
    def test_drive_field_of_view_is_not_taken_for_the_truth(self, tmp_path, folders, named):
        with pytest.raises(DataError, match=f"folders of masks, {named}"):
            opened(write_eyes(tmp_path, folders))

    @pytest.mark.parametrize("folder", DRIVE_TEST)
    def test_the_folder_that_is_given_is_read(self, tmp_path, folder):
        interface = opened(write_eyes(tmp_path, DRIVE_TEST), mask_folder=folder)
        np.testing.assert_array_equal(interface.load_segmentation("21_training"), labels_of(folder + "21", SIZE, 2))
        assert interface.found_in == f"images from {tmp_path / 'images'}, masks from {tmp_path / folder}"
        rebuilt = build(json.loads(json.dumps(describe(interface, "PAIRED"))), miscnn_data_interfaces)
        assert rebuilt.mask_folder == folder

    @pytest.mark.parametrize(
        ("taken", "others"),
        [
            # The folder called mask alone beside images stays the truth.
            ("mask", []),
            ("masks", ["fov", "FOV_masks", "field_of_view", "predictions", "old_results", "overlay", "images_raw"]),
            ("1st_manual", ["fov"]),
        ],
    )
    def test_folders_that_hold_no_truth_are_passed_over(self, tmp_path, taken, others, caplog):
        write_eyes(tmp_path, dict.fromkeys([taken, *others], "{}_training.png"))
        with caplog.at_level(logging.INFO):
            interface = opened(tmp_path)
        np.testing.assert_array_equal(interface.load_segmentation("22_training"), labels_of(taken + "22", SIZE, 2))
        assert f"images from {tmp_path / 'images'}, masks from {tmp_path / taken}" in caplog.text

    def test_a_folder_of_other_names_sizes_or_formats_is_no_rival(self, tmp_path):
        write_eyes(tmp_path, {"masks": "{}_training.png", "other names": "x{}.png", "photos": "{}_training.jpg"})
        for name in ("21", "22"):
            save_image(tmp_path / "small" / f"{name}_training.png", np.zeros((3, 4), np.uint8))
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "21_training.txt").write_text("0 0.5 0.5 0.1 0.1")  # bounding boxes
        assert opened(tmp_path).found_in.endswith("masks from " + str(tmp_path / "masks"))

    def test_a_rival_of_nifti_files_with_a_file_per_channel(self, tmp_path):
        for channel in range(2):
            save_nifti(tmp_path / "images" / f"p_{channel:04d}.nii.gz", image_of("p", channel))
        for folder in ("labels", "second reader"):
            save_nifti(tmp_path / folder / "p.nii.gz", labels_of("p"))
        with pytest.raises(DataError, match="folders of masks, labels, second reader; choose one"):
            opened(tmp_path)
        assert opened(tmp_path, mask_folder="labels", classes=3, label_map=None).channels == 2

    def test_masks_in_a_folder_of_unknown_name_are_proposed(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"no folder of masks .*give mask_folder='vessels'"):
            opened(write_eyes(tmp_path, {"vessels": "{}_training.png"}))

    def test_chase_two_annotators_in_one_folder(self, tmp_path):
        write_eyes(tmp_path, {".": "Image_{}L_1stHO.png"}, images=".", image_name="Image_{}L.jpg")
        interface = opened(tmp_path)
        assert list(interface._files) == ["Image_21L", "Image_22L"]
        np.testing.assert_array_equal(interface.load_segmentation("Image_21L"), labels_of(".21", SIZE, 2))
        assert interface.found_in == f"images and masks from {tmp_path}"
        write_eyes(tmp_path, {".": "Image_{}L_2ndHO.png"}, images=".", image_name="Image_{}L.jpg")
        interface = opened(tmp_path)
        assert interface.found_in.endswith(
            "annotators the first, _1stHO; choose another one with mask_pattern='.*_2ndHO'"
        )
        np.testing.assert_array_equal(interface.load_segmentation("Image_21L"), labels_of(".21", SIZE, 2))

    def test_stare_masks_are_called_by_their_annotator(self, tmp_path):
        folders = {"labels-ah": "{}.ah.png", "labels-vk": "{}.vk.png"}
        interface = opened(write_eyes(tmp_path, folders, image_name="{}.png"), mask_folder="labels-vk")
        np.testing.assert_array_equal(interface.load_segmentation("21"), labels_of("labels-vk21", SIZE, 2))

    def test_the_folders_of_a_split_are_proposed(self, tmp_path):
        for part in ("training", "test"):
            write_eyes(tmp_path / "DRIVE" / part, {"1st_manual": "{}_manual1.png"})
        with pytest.raises(MissingDataError, match=r"give .*DRIVE/test or .*DRIVE/training, or image_folder"):
            opened(tmp_path / "DRIVE")
        write_eyes(tmp_path / "b", {"masks/train": "{}.png"}, images="images/train", image_name="{}.png")
        with pytest.raises(
            MissingDataError, match=r"holds no images \(found: train\).* give image_folder='images/train'"
        ):
            opened(tmp_path / "b")
        assert opened(tmp_path / "b", image_folder="images/train", mask_folder="masks/train").channels == 1


class TestSpelling:
    COMPOSED, DECOMPOSED = "M\u00fcller", "Mu\u0308ller"

    @pytest.mark.parametrize(("image", "mask"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
    @pytest.mark.parametrize("form", ["{}.png", "{}_mask.png"])
    def test_image_name_in_composed_and_mask_name_in_decomposed_unicode(self, tmp_path, image, mask, form):
        save_image(tmp_path / "images" / f"{image}.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / form.format(mask), labels_of("a", SIZE, 2) * np.uint8(255))
        interface = Paired_interface(**MASKS)
        assert interface.initialize(tmp_path) == [self.COMPOSED]
        for name in (self.COMPOSED, self.DECOMPOSED):
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of("a", SIZE, 2))

    def test_names_that_look_alike_are_shown_with_escapes(self, tmp_path):
        for name in (self.COMPOSED, self.DECOMPOSED):
            save_image(tmp_path / "images" / f"{name}.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "a.png", np.zeros(SIZE, np.uint8))
        with pytest.raises(DataError, match=r"'Mu\\u0308ller\.png' and 'M\\xfcller\.png'; remove all but one"):
            opened(tmp_path)

    def test_a_blank_at_the_end_of_a_name_is_shown(self, tmp_path):
        save_image(tmp_path / "images" / "a.png", np.zeros(SIZE, np.uint8))
        save_image(tmp_path / "masks" / "a .png", np.zeros(SIZE, np.uint8))
        with pytest.raises(MissingDataError, match=r"images: 'a'; masks: 'a '"):
            opened(tmp_path)

    def test_endings_in_any_case_of_letters(self, tmp_path):
        for name, ending, mask_ending in (("a", ".PNG", ".Png"), ("b", ".TIF", ".TIFF"), ("c", ".JPG", ".BMP")):
            save_image(tmp_path / "Images" / f"{name}{ending}", (image_of(name, shape=SIZE) % 256).astype(np.uint8))
            save_image(tmp_path / "MASKS" / f"{name}{mask_ending}", labels_of(name, SIZE, 2))
        interface = opened(tmp_path, label_map=None)
        for name in "abc":
            interface.check(name)
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of(name, SIZE, 2))

    def test_nii_gz_in_capitals(self, tmp_path):
        save_nifti(tmp_path / "images" / "a.nii.gz", image_of("a")).rename(tmp_path / "images" / "a.NII.GZ")
        save_nifti(tmp_path / "labels" / "a.nii", labels_of("a")).rename(tmp_path / "labels" / "a.Nii")
        interface = opened(tmp_path, classes=3, label_map=None)
        np.testing.assert_array_equal(interface.load_image("a")[0], image_of("a"))
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels_of("a"))


def test_a_folder_called_like_an_image_is_named(tmp_path, caplog):
    write_pairs(tmp_path, ["a"])
    (tmp_path / "images" / "b.nii.gz").mkdir()
    opened(tmp_path)
    assert "b.nii.gz is a folder, not a file, and left out" in caplog.text


def test_a_link_that_leads_nowhere_is_a_missing_file(tmp_path):
    write_pairs(tmp_path, ["a", "b"])
    (tmp_path / "images" / "a.png").unlink()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "nowhere.png")
    interface = opened(tmp_path)
    with pytest.raises(MissingDataError, match=r"images/a\.png"):
        interface.check("a")


def test_most_volumes_decide_and_the_slice_is_named(tmp_path, caplog):
    for name in "abcdef":
        shape = (5, 6, 1) if name == "a" else SHAPE
        save_nifti(tmp_path / "images" / f"{name}.nii.gz", image_of(name, shape=shape))
        save_nifti(tmp_path / "labels" / f"{name}.nii.gz", labels_of(name, shape))
    interface = opened(tmp_path, classes=3, label_map=None)
    assert (interface.channels, interface.three_dim) == (1, True)
    assert "the others are: a (2D with 1 channel)" in caplog.text
    np.testing.assert_array_equal(interface.load_image("f")[0], image_of("f"))
