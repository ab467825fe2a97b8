"""From a folder to the interface that reads it."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from layout_data import (
    MSD,
    NNUNET,
    SHAPE,
    image_of,
    labels_of,
    save_image,
    save_nifti,
    write_description,
    write_msd,
    write_nnunet,
    write_pairs,
)

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import build, describe, get_config
from miscnn_tf.data_loading.interfaces import Abstract_IO, NIFTI_interface, miscnn_data_interfaces
from miscnn_tf.data_loading.layout_detection import LAYOUTS, find_interface, layout_help, recognise
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

SIZE = (6, 9)


def write_folders(root, names=("a", "b"), classes=3, shape=SHAPE, channels=1):
    for name in names:
        for channel in range(channels):
            file = "imaging.nii.gz" if channels == 1 else f"imaging_{channel:04d}.nii.gz"
            save_nifti(root / name / file, image_of(name, channel, shape))
        save_nifti(root / name / "segmentation.nii.gz", labels_of(name, shape, classes))
    return root


def write_image_folders(root, names=("a", "b"), ending="png", foreground=1, colours=False):
    for name in names:
        grey = (image_of(name, shape=SIZE) % 256).astype(np.uint8)
        save_image(root / name / f"imaging.{ending}", np.stack([grey, 255 - grey, grey], -1) if colours else grey)
        mask = "png" if ending == "jpg" else ending
        save_image(root / name / f"segmentation.{mask}", labels_of(name, SIZE, 2) * np.uint8(foreground))
    return root


def write_dicom(root):
    for name in ("a", "b"):
        (root / name / "study" / "series").mkdir(parents=True)
        (root / name / "study" / "series" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    return root


def as_config(interface) -> tuple[str | None, dict]:
    return miscnn_data_interfaces.name_of(type(interface)), get_config(interface)


class TestRecognising:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("NIFTI", write_folders),
            ("IMG", write_image_folders),
            ("DICOM", write_dicom),
            ("DATASET_JSON", write_msd),
            ("DATASET_JSON", write_nnunet),
            ("PAIRED", write_pairs),
        ],
    )
    def test_each_layout_is_known_by_its_looks(self, tmp_path, name, write):
        assert recognise(write(tmp_path)) == name
        assert name in LAYOUTS

    def test_folders_without_dataset_json_are_nnunets_too(self, tmp_path):
        (write_nnunet(tmp_path) / "dataset.json").unlink()
        assert recognise(tmp_path) == "DATASET_JSON"

    def test_images_beside_masks_in_one_folder(self, tmp_path):
        assert recognise(write_pairs(tmp_path, images=".", masks=".", mask_name="{}_mask.png")) == "PAIRED"

    def test_stray_files_and_folders_do_not_count(self, tmp_path):
        write_folders(tmp_path, ["case_1"])
        (tmp_path / ".git").mkdir()
        (tmp_path / "batches").mkdir()
        (tmp_path / "predictions").mkdir()
        (tmp_path / "kits.json").write_text("{}")
        assert recognise(tmp_path) == "NIFTI"

    @pytest.mark.parametrize("file", ["IM0001.dcm", "scan.IMA"])
    def test_dicom_by_its_ending(self, tmp_path, file):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / file).write_bytes(b"")
        assert recognise(tmp_path) == "DICOM"

    def test_images_alone_are_a_layout_only_for_prediction(self, tmp_path):
        save_image(tmp_path / "x.png", np.zeros(SIZE, np.uint8))
        assert recognise(tmp_path, labelled=False) == "PAIRED"
        with pytest.raises(MissingDataError):
            recognise(tmp_path)


class TestFillingIn:
    def test_folders_of_nifti(self, tmp_path):
        interface = find_interface(write_folders(tmp_path, channels=2))
        assert as_config(interface) == (
            "NIFTI",
            {"channels": 2, "classes": 3, "three_dim": True, "pattern": None, "label_map": None},
        )
        assert interface.data_directory is None
        data_io = Data_IO(interface, tmp_path)
        data_io.check(data_io.get_indiceslist())

    def test_slices_in_nifti_files(self, tmp_path):
        assert find_interface(write_folders(tmp_path, shape=(6, 9, 1))).three_dim is False

    @pytest.mark.parametrize(
        ("ending", "colours", "img_type"),
        [("png", False, "grayscale"), ("tif", True, "rgb"), ("jpg", True, "rgb"), ("bmp", False, "grayscale")],
    )
    def test_folders_of_images(self, tmp_path, ending, colours, img_type):
        interface = find_interface(write_image_folders(tmp_path, ending=ending, colours=colours))
        assert as_config(interface) == (
            "IMG",
            {"classes": 2, "img_type": img_type, "img_format": ending, "pattern": None, "label_map": None},
        )
        Data_IO(interface, tmp_path).check(["a", "b"])

    def test_the_decathlons(self, tmp_path):
        interface = find_interface(write_msd(tmp_path))
        assert (interface.channels, interface.classes, interface.three_dim) == (1, 3, True)
        assert interface.names_of_classes() == ("background", "Anterior", "Posterior")
        assert interface.data_directory is None
        assert get_config(build(json.loads(json.dumps(describe(interface, "DATASET_JSON"))), miscnn_data_interfaces))

    def test_nnunets_without_dataset_json(self, tmp_path):
        (write_nnunet(tmp_path) / "dataset.json").unlink()
        interface = find_interface(tmp_path)
        assert (interface.channels, interface.classes, interface.class_names) == (2, 3, None)

    def test_pairs(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO):
            interface = find_interface(write_pairs(tmp_path))
        assert (interface.channels, interface.classes, interface.three_dim) == (1, 2, False)
        assert interface.label_map == {255: 1}
        assert "is read as 'PAIRED'" in caplog.text
        assert "label_map={255: 1}" in caplog.text
        Data_IO(interface, tmp_path).sample_loader("a")

    def test_slices_of_volumes(self, tmp_path):
        interface = find_interface(write_folders(tmp_path), "NIFTI_S", slice_axis=2)
        assert (interface.slice_axis, interface.channels, interface.classes) == (2, 1, 3)
        assert Data_IO(interface, tmp_path).get_indiceslist()[0] == "a:#:0"

    def test_only_what_the_pattern_matches_is_looked_at(self, tmp_path):
        write_folders(tmp_path, ["case_1"], classes=2)
        write_folders(tmp_path, ["other"], classes=5)
        interface = find_interface(tmp_path, pattern="case_.*")
        assert (interface.classes, interface.pattern) == (2, "case_.*")

    def test_a_class_that_is_in_the_last_sample_alone(self, tmp_path):
        write_folders(tmp_path, [f"case_{number:02d}" for number in range(8)], classes=2)
        rare = np.zeros(SHAPE, np.uint8)
        rare[0, 0, 0], rare[1, 0, 0] = 1, 2
        save_nifti(tmp_path / "case_99" / "imaging.nii.gz", image_of("x"))
        save_nifti(tmp_path / "case_99" / "segmentation.nii.gz", rare)
        assert find_interface(tmp_path).classes == 3

    def test_samples_without_segmentation_are_passed_over(self, tmp_path, caplog):
        write_folders(tmp_path)
        (tmp_path / "b" / "segmentation.nii.gz").unlink()
        assert find_interface(tmp_path).classes == 3
        assert "1 of 2 samples have no segmentation: b" in caplog.text

    def test_a_damaged_image_is_left_to_the_check(self, tmp_path):
        write_folders(tmp_path)
        (tmp_path / "a" / "imaging.nii.gz").write_bytes(b"x")
        interface = find_interface(tmp_path)
        assert interface.three_dim is True
        data_io = Data_IO(interface, tmp_path)
        with pytest.raises(DataError, match="1 of 2 samples cannot be used"):
            data_io.check(data_io.get_indiceslist())

    def test_all_damaged_segmentations_are_named(self, tmp_path):
        write_folders(tmp_path, "abc")
        for name in "ac":
            (tmp_path / name / "segmentation.nii.gz").write_bytes(b"x")
        with pytest.raises(DataError, match="2 of 3 segmentations cannot be used") as caught:
            find_interface(tmp_path)
        assert all(f"{tmp_path / name}" in str(caught.value) for name in "ac")

    def test_for_prediction_images_alone_are_enough(self, tmp_path):
        save_image(tmp_path / "x.png", np.zeros(SIZE, np.uint8))
        interface = find_interface(tmp_path, classes=2, part="all")
        assert Data_IO(interface, tmp_path).get_indiceslist() == ["x"]
        with pytest.raises(MissingDataError, match=r"none of the 1 samples has a segmentation .*give classes"):
            find_interface(tmp_path, part="all")

    def test_part_of_layouts_that_list_all_samples(self, tmp_path):
        assert isinstance(find_interface(write_folders(tmp_path), part="all"), NIFTI_interface)
        with pytest.raises(ConfigurationError, match="NIFTI_interface has no argument 'part'"):
            find_interface(tmp_path, part="test")


class TestGiven:
    def test_nothing_is_looked_for_that_is_given(self, tmp_path):
        write_folders(tmp_path)
        (tmp_path / "a" / "segmentation.nii.gz").write_bytes(b"x")
        interface = find_interface(tmp_path, classes=7, channels=4, three_dim=False)
        assert (interface.channels, interface.classes, interface.three_dim) == (4, 7, False)

    @pytest.mark.parametrize("write", [write_folders, write_msd, write_pairs, write_image_folders])
    def test_names_of_classes(self, tmp_path, write):
        names = ["nothing", "one", "two"]
        interface = find_interface(write(tmp_path), class_names=names)
        assert interface.names_of_classes() == tuple(names)
        assert interface.classes == 3
        with pytest.raises(ConfigurationError, match="must be 4 names"):
            find_interface(tmp_path, classes=4, class_names=names)

    def test_a_label_map(self, tmp_path):
        for labels in ([0, 1, 4], [0, 4]):
            name = f"case_{len(labels)}"
            save_nifti(tmp_path / name / "imaging.nii.gz", image_of(name, shape=(len(labels), 3, 3)))
            volume = np.repeat(np.array(labels, np.uint8), 9).reshape(-1, 3, 3)
            save_nifti(tmp_path / name / "segmentation.nii.gz", volume)
        with pytest.raises(DataError, match=r"0 \(in 'case_2'\), 1 \(in 'case_3'\), 4 .*label_map=\{4: 2\}"):
            find_interface(tmp_path)
        interface = find_interface(tmp_path, label_map={4: 2})
        assert (interface.classes, interface.label_map) == (3, {4: 2})
        assert find_interface(tmp_path, label_map={"4": 1}).classes == 2
        assert Data_IO(interface, tmp_path).sample_loader("case_3").seg_data.max() == 2

    def test_masks_numbered_from_1(self, tmp_path):
        write_pairs(tmp_path, foreground=1)
        for path in (tmp_path / "masks").iterdir():
            save_image(path, labels_of(path.stem, SIZE, 2) + np.uint8(1))
        with pytest.raises(DataError, match=r"hold the values 1 .*, 2 .*label_map=\{1: 0, 2: 1\}"):
            find_interface(tmp_path)
        assert find_interface(tmp_path, label_map={1: 0, 2: 1}).classes == 2

    def test_labels_of_dataset_json_that_are_not_consecutive(self, tmp_path):
        labels = {"0": "background", "1": "edema", "4": "enhancing"}
        write_msd(tmp_path, MSD | {"labels": labels})
        with pytest.raises(DataError, match=r"dataset\.json: the labels are 0, 1, 4.*label_map=\{4: 2\}"):
            find_interface(tmp_path)
        interface = find_interface(tmp_path, label_map={4: 2})
        assert interface.names_of_classes() == ("background", "edema", "enhancing")

    def test_regions_need_an_order_and_can_be_got_around(self, tmp_path):
        write_nnunet(tmp_path, NNUNET | {"labels": {"background": 0, "prostate": [1, 2], "TZ": 2}})
        with pytest.raises(DataError, match=r"regions_class_order.*\(prostate, TZ\)"):
            find_interface(tmp_path)
        assert find_interface(tmp_path, classes=3).classes == 3

    @pytest.mark.parametrize(
        ("write", "arguments", "message"),
        [
            (write_folders, {"slice_axs": 1}, "NIFTI_interface has no argument 'slice_axs'"),
            (write_pairs, {"mask_foldr": "x"}, "no argument 'mask_foldr'. Did you mean 'mask_folder'"),
            (write_folders, {"name": "NIFTY"}, "Did you mean 'NIFTI'"),
            (write_folders, {"name": "DICT"}, "cannot be made from a folder alone: it needs dictionary"),
            (write_image_folders, {"channels": 2}, "channels=2: images in such files have 1"),
            (write_image_folders, {"three_dim": True}, "three_dim=True: images in such files have two"),
            (write_folders, {"name": "NIFTI_S", "three_dim": True}, "slices have two dimensions"),
            (write_folders, {"pattern": "["}, "not a valid regular expression"),
        ],
    )
    def test_wrong_ones(self, tmp_path, write, arguments, message):
        with pytest.raises(ConfigurationError, match=message):
            find_interface(write(tmp_path), **arguments)

    def test_channels_of_images_in_folders(self, tmp_path):
        write_image_folders(tmp_path, colours=True)
        assert find_interface(tmp_path, channels=1).img_type == "grayscale"
        assert find_interface(tmp_path, img_type="grayscale", classes=2).channels == 1

    def test_an_interface_of_ones_own(self, tmp_path, monkeypatch):
        class Own(Abstract_IO):
            def __init__(self, channels=1, classes=2, three_dim=False, structure_dict=None):
                super().__init__(channels, classes, three_dim)
                self.structure_dict = structure_dict

            def initialize(self, input_path):
                return ["a", "b", "c"]

            load_image = load_segmentation = load_prediction = save_prediction = initialize
            check_file_termination = staticmethod(lambda termination: False)

        monkeypatch.setitem(miscnn_data_interfaces, "OWN", Own)
        interface = find_interface(tmp_path, "OWN", channels=2)
        assert (type(interface), interface.channels, interface.classes) == (Own, 2, 2)

        # One whose structures have names, as those of DICOM have.
        rois = {"a": ["Lung", "Heart "], "b": ["Heart", "Lung"]}

        def get_ROI_names(self, index):
            if index not in rois:
                raise MissingDataError(f"{index} has no annotation")
            return [[number, name] for number, name in enumerate(rois[index], start=4)]

        Own.get_ROI_names = get_ROI_names
        interface = find_interface(tmp_path, "OWN")
        assert (interface.structure_dict, interface.classes) == ({"Heart": 1, "Lung": 2}, 3)
        assert find_interface(tmp_path, "OWN", structure_dict={"Heart": 1}).classes == 2
        assert find_interface(tmp_path, "OWN", classes=4).structure_dict is None
        with pytest.raises(ConfigurationError, match="structure_dict must be a dict"):
            find_interface(tmp_path, "OWN", structure_dict=["Heart"])
        rois["b"].append("Cord")
        with pytest.raises(DataError, match=r"Cord \(in 1 of 2\), Heart .*structure_dict=\{'Heart': 1, 'Lung': 2\}"):
            find_interface(tmp_path, "OWN")
        rois.clear()
        with pytest.raises(MissingDataError, match=r"give classes to predict only\. a has no annotation"):
            find_interface(tmp_path, "OWN")


class TestUnknown:
    def test_it_says_what_is_there_and_what_is_known(self, tmp_path):
        for name in ("BraTS20_001", "BraTS20_002"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}_flair.nii").write_bytes(b"")
        (tmp_path / "survival.csv").write_text("")
        with pytest.raises(MissingDataError) as caught:
            find_interface(tmp_path)
        text = str(caught.value)
        assert "BraTS20_001/, BraTS20_002/, survival.csv" in text
        assert "BraTS20_001/ holds BraTS20_001_flair.nii" in text
        assert layout_help() in text
        assert all(picture in text for picture in LAYOUTS.values())

    def test_one_level_too_high(self, tmp_path):
        write_msd(tmp_path / "Task04_Hippocampus")
        with pytest.raises(MissingDataError, match=r"Did you mean .*Task04_Hippocampus\?"):
            recognise(tmp_path)
        assert find_interface(tmp_path).initialize(str(tmp_path / "Task04_Hippocampus"))

    def test_one_level_too_low(self, tmp_path):
        write_folders(tmp_path / "data")
        with pytest.raises(MissingDataError, match=r"a is itself one sample; give the folder above it, .*data"):
            find_interface(tmp_path / "data" / "a")

    def test_a_pattern_that_matches_nothing(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"The whole name of a sample folder must match pattern='case'"):
            find_interface(write_folders(tmp_path, ["case_1"]), pattern="case")

    def test_no_folder(self, tmp_path):
        with pytest.raises(MissingDataError, match="nowhere does not exist"):
            find_interface(tmp_path / "nowhere")
        (tmp_path / "file").write_text("")
        with pytest.raises(MissingDataError, match="is a file, not a folder"):
            find_interface(tmp_path / "file")
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingDataError, match="It holds nothing"):
            find_interface(tmp_path / "empty")

    def test_the_layouts_help_names_each(self):
        assert all(f"{name}: " in layout_help() for name in LAYOUTS)


def test_a_broken_dataset_json_is_named(tmp_path):
    write_description(write_msd(tmp_path), [])
    with pytest.raises(DataError, match=r"dataset\.json must hold an object .* not a list"):
        find_interface(tmp_path)


class TestMajority:
    @pytest.mark.parametrize("name", [None, "NIFTI_S"])
    def test_the_first_of_six_samples_has_one_slice(self, tmp_path, caplog, name):
        write_folders(tmp_path, ["a"], shape=(5, 6, 1))
        write_folders(tmp_path, list("bcdef"))
        interface = find_interface(tmp_path, name)
        assert name == "NIFTI_S" or interface.three_dim is True
        assert "5 of 6 samples are 3D with 1 channel" in caplog.text
        assert "the others are: a (2D with 1 channel)" in caplog.text

    def test_the_first_of_three_samples_has_two_channels(self, tmp_path, caplog):
        write_folders(tmp_path, ["a"], channels=2)
        write_folders(tmp_path, list("bc"))
        interface = find_interface(tmp_path)
        assert interface.channels == 1
        assert "the others are: a (3D with 2 channels)" in caplog.text
        with pytest.raises(DataError, match="1 of 3 samples cannot be used"):
            Data_IO(interface, tmp_path).check(["a", "b", "c"])

    def test_a_tie_names_both_kinds_and_what_to_give(self, tmp_path):
        write_folders(tmp_path, ["a"], channels=2)
        write_folders(tmp_path, ["b"])
        with pytest.raises(
            DataError, match=r"3D with 2 channels: a; 3D with 1 channel: b.* Give channels and three_dim"
        ):
            find_interface(tmp_path)
        assert find_interface(tmp_path, channels=2).three_dim is True

    def test_most_images_decide_their_format(self, tmp_path, caplog):
        write_image_folders(tmp_path, ["a"], ending="tif")
        write_image_folders(tmp_path, ["b", "c"], ending="png")
        assert find_interface(tmp_path).img_format == "png"
        assert "most images are png; images in other formats left out: a (tif)" in caplog.text
        write_image_folders(tmp_path, ["d"], ending="tiff")
        with pytest.raises(DataError, match=r"the formats .* and .* are equally frequent; give img_format='"):
            find_interface(tmp_path)

    def test_tif_and_tiff_are_one_format(self, tmp_path, caplog):
        write_image_folders(tmp_path, ["a"], ending="tif")
        write_image_folders(tmp_path, ["b"], ending="tiff")
        interface = find_interface(tmp_path)
        assert Data_IO(interface, tmp_path).get_indiceslist() == ["a", "b"]
        assert not caplog.text


class TestSpelling:
    def test_names_in_capitals_are_recognised(self, tmp_path):
        for path in [
            *write_folders(tmp_path / "nifti").rglob("*.nii.gz"),
            *write_image_folders(tmp_path / "img").rglob("*.png"),
        ]:
            path.rename(path.with_name(path.name.upper()))
        assert (recognise(tmp_path / "nifti"), recognise(tmp_path / "img")) == ("NIFTI", "IMG")
        assert find_interface(tmp_path / "nifti").classes == 3
        assert find_interface(tmp_path / "img").img_format == "png"

    def test_dataset_json_in_capitals(self, tmp_path):
        (write_nnunet(tmp_path) / "dataset.json").rename(tmp_path / "Dataset.JSON")
        assert find_interface(tmp_path).names_of_classes() == ("background", "PZ", "TZ")

    def test_a_pattern_in_either_unicode_form(self, tmp_path):
        write_folders(tmp_path, ["Mu\u0308ller"])
        assert find_interface(tmp_path, pattern="M\u00fcller").classes == 3


class TestFoldersOfMasks:
    def test_drive(self, tmp_path):
        write_pairs(tmp_path, ["21"], masks="mask", mask_name="{}_mask.png")
        write_pairs(tmp_path, ["21"], masks="1st_manual", mask_name="{}_manual1.png", foreground=1)
        with pytest.raises(DataError, match="folders of masks, 1st_manual, mask; choose one"):
            find_interface(tmp_path)
        assert find_interface(tmp_path, mask_folder="1st_manual").label_map is None
        assert find_interface(tmp_path, mask_folder="mask").label_map == {255: 1}

    def test_folders_that_are_given_need_no_known_name(self, tmp_path):
        write_pairs(tmp_path, ["21"], images="train/pictures", masks="train/truth")
        interface = find_interface(tmp_path, image_folder="train/pictures", mask_folder="train/truth")
        assert (interface.image_folder, interface.mask_folder) == ("train/pictures", "train/truth")
        write_folders(tmp_path / "cases")
        assert recognise(tmp_path / "cases", settings={"image_folder": None, "mask_folder": None}) == "NIFTI"

    def test_the_folders_of_a_split_are_read(self, tmp_path):
        for part, name in (("training", "21"), ("test", "01")):
            write_pairs(tmp_path / part, [name])
        interface = find_interface(tmp_path)
        assert interface.initialize(tmp_path) == ["21"]
        assert find_interface(tmp_path, part="test").initialize(tmp_path) == ["01"]
