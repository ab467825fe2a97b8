"""The Decathlon's and nnU-Net's data sets, read where they lie."""

from __future__ import annotations

import json
import logging
import pickle

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from layout_data import (
    MSD,
    NNUNET,
    SHAPE,
    image_of,
    labels_of,
    oblique,
    save_image,
    save_nifti,
    write_description,
    write_msd,
    write_nnunet,
)

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import build, describe, get_config
from miscnn_tf.data_loading.interfaces import DatasetJSON_interface, miscnn_data_interfaces
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, RepeatedWarning

UNLISTED = {key: value for key, value in MSD.items() if key not in ("training", "test")}


def opened(root, **arguments) -> DatasetJSON_interface:
    interface = DatasetJSON_interface(**arguments)
    interface.initialize(root)
    return interface


class TestDecathlon:
    def test_cases_channels_and_classes_are_the_files(self, tmp_path):
        interface = DatasetJSON_interface()
        assert interface.initialize(write_msd(tmp_path)) == ["hippocampus_304", "hippocampus_367"]
        assert (interface.channels, interface.classes, interface.three_dim) == (1, 3, True)
        assert interface.names_of_classes() == ("background", "Anterior", "Posterior")
        image, extended = interface.load_image("hippocampus_367")
        np.testing.assert_array_equal(image, image_of("hippocampus_367"))
        assert image.dtype == np.int16
        assert extended["spacing"].tolist() == [0.7, 0.9, 3.0]
        np.testing.assert_array_equal(interface.load_segmentation("hippocampus_304"), labels_of("hippocampus_304"))

    def test_data_io_reads_and_checks(self, tmp_path):
        data_io = Data_IO(DatasetJSON_interface(), write_msd(tmp_path))
        data_io.check(data_io.get_indiceslist())
        sample = data_io.sample_loader("hippocampus_367")
        assert sample.img_data.shape == (*SHAPE, 1)
        assert sample.classes == 3

    @pytest.mark.parametrize("part", ["test", "all"])
    def test_test_cases_are_samples_without_segmentation(self, tmp_path, part):
        interface = DatasetJSON_interface(part=part)
        names = interface.initialize(write_msd(tmp_path))
        training = ["hippocampus_304", "hippocampus_367"] if part == "all" else []
        assert names == ["hippocampus_267", *training]
        interface.check("hippocampus_267", load_seg=False)
        np.testing.assert_array_equal(interface.load_image("hippocampus_267")[0], image_of("hippocampus_267"))
        for ask in (interface.load_segmentation, interface.check):
            with pytest.raises(MissingDataError, match=r"'hippocampus_267' .*no label map; leave it out"):
                ask("hippocampus_267")

    def test_all_without_the_test_cases_of_the_archive(self, tmp_path):
        write_msd(tmp_path)
        for path in (tmp_path / "imagesTs").iterdir():
            path.unlink()
        (tmp_path / "imagesTs").rmdir()
        assert DatasetJSON_interface(part="all").initialize(tmp_path) == ["hippocampus_304", "hippocampus_367"]

    def test_the_folders_are_read_where_nothing_is_listed(self, tmp_path):
        interface = DatasetJSON_interface(part="all")
        names = ["hippocampus_267", "hippocampus_304", "hippocampus_367"]
        assert interface.initialize(write_msd(tmp_path, UNLISTED)) == names
        interface.check("hippocampus_367")

    def test_label_maps_of_other_names_as_btcv_lists_them(self, tmp_path):
        save_nifti(tmp_path / "imagesTr" / "img0001.nii.gz", image_of("a"))
        save_nifti(tmp_path / "labelsTr" / "label0001.nii.gz", labels_of("a"))
        pair = {"image": "imagesTr/img0001.nii.gz", "label": "labelsTr/label0001.nii.gz"}
        write_description(tmp_path, UNLISTED | {"training": [pair]})
        np.testing.assert_array_equal(opened(tmp_path).load_segmentation("img0001"), labels_of("a"))

    def test_several_modalities_in_one_file(self, tmp_path):
        volume = np.stack([image_of("a", channel) for channel in range(4)], axis=-1)
        save_nifti(tmp_path / "imagesTr" / "a.nii.gz", volume)
        save_nifti(tmp_path / "labelsTr" / "a.nii.gz", labels_of("a"))
        write_description(tmp_path, UNLISTED | {"modality": {str(i): name for i, name in enumerate("abcd")}})
        interface = opened(tmp_path)
        assert interface.channels == 4
        interface.check("a")
        np.testing.assert_array_equal(interface.load_image("a")[0], volume)

    def test_cases_whose_names_end_in_four_digits(self, tmp_path):
        for number in range(3):
            save_nifti(tmp_path / "imagesTr" / f"case_{number:04d}.nii.gz", image_of(f"{number}"))
            save_nifti(tmp_path / "labelsTr" / f"case_{number:04d}.nii.gz", labels_of(f"{number}"))
        save_nifti(tmp_path / "imagesTs" / "case_0000.nii.gz", image_of("t"))
        names = ["case_0000", "case_0001", "case_0002"]
        write_description(tmp_path, UNLISTED)
        assert DatasetJSON_interface().initialize(tmp_path) == names
        pairs = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in names]
        write_description(tmp_path, UNLISTED | {"training": pairs})
        assert DatasetJSON_interface().initialize(tmp_path) == names
        assert DatasetJSON_interface(part="test").initialize(tmp_path) == ["case_0000"]
        with pytest.raises(DataError, match="case_0000 are names of both training and test cases"):
            DatasetJSON_interface(part="all").initialize(tmp_path)

    def test_files_that_were_unpacked(self, tmp_path):
        for folder, array in (("imagesTr", image_of("a")), ("labelsTr", labels_of("a"))):
            save_nifti(tmp_path / folder / "a.nii", array)
        pair = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
        write_description(tmp_path, UNLISTED | {"training": [pair]})
        interface = opened(tmp_path)
        interface.check("a")
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels_of("a"))

    def test_a_pattern_must_fit_the_whole_name(self, tmp_path):
        write_msd(tmp_path)
        assert DatasetJSON_interface(pattern=".*_30[0-9]").initialize(tmp_path) == ["hippocampus_304"]
        with pytest.raises(MissingDataError, match=r"pattern='hippo' matches none of the 2 .*hippocampus_304"):
            DatasetJSON_interface(pattern="hippo").initialize(tmp_path)


class TestNnUNet:
    def test_numbered_cases_with_a_file_per_channel_as_flare_has_them(self, tmp_path):
        for number in range(2):
            save_nifti(tmp_path / "imagesTr" / f"FLARE22_Tr_{number:04d}_0000.nii.gz", image_of(f"{number}"))
            save_nifti(tmp_path / "labelsTr" / f"FLARE22_Tr_{number:04d}.nii.gz", labels_of(f"{number}"))
        interface = DatasetJSON_interface(classes=3)
        assert interface.initialize(tmp_path) == ["FLARE22_Tr_0000", "FLARE22_Tr_0001"]
        interface.check("FLARE22_Tr_0000")

    def test_a_file_per_channel(self, tmp_path):
        interface = DatasetJSON_interface()
        assert interface.initialize(write_nnunet(tmp_path)) == ["prostate_01", "prostate_03"]
        assert (interface.channels, interface.classes) == (2, 3)
        assert interface.names_of_classes() == ("background", "PZ", "TZ")
        interface.check("prostate_01")
        image = interface.load_image("prostate_03")[0]
        np.testing.assert_array_equal(image[..., 0], image_of("prostate_03", 0))
        np.testing.assert_array_equal(image[..., 1], image_of("prostate_03", 1))

    def test_test_cases_have_their_labels(self, tmp_path):
        interface = opened(write_nnunet(tmp_path), part="test")
        interface.check("prostate_02")
        np.testing.assert_array_equal(interface.load_segmentation("prostate_02"), labels_of("prostate_02"))

    def test_version_1_lists_cases_without_their_channels(self, tmp_path):
        names = ("prostate_01", "prostate_03")
        pairs = [{"image": f"./imagesTr/{it}.nii.gz", "label": f"./labelsTr/{it}.nii.gz"} for it in names]
        version_1 = {
            "modality": {"0": "T2", "1": "ADC"},
            "labels": {"0": "background", "1": "PZ", "2": "TZ"},
            "numTraining": 2,
            "training": pairs,
            "test": ["./imagesTs/prostate_02.nii.gz"],
        }
        interface = DatasetJSON_interface(part="all")
        assert interface.initialize(write_nnunet(tmp_path, version_1)) == ["prostate_01", "prostate_02", "prostate_03"]
        interface.check("prostate_01")
        assert interface.load_image("prostate_02")[0].shape == (*SHAPE, 2)

    def test_channels_that_are_listed_by_their_first_file(self, tmp_path):
        pairs = [
            {"image": f"imagesTr/{name}_0000.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
            for name in ("prostate_01", "prostate_03")
        ]
        interface = DatasetJSON_interface()
        assert interface.initialize(write_nnunet(tmp_path, NNUNET | {"training": pairs})) == [
            "prostate_01",
            "prostate_03",
        ]
        assert interface.load_image("prostate_01")[0].shape == (*SHAPE, 2)

    def test_slices_in_files_of_one_voxel_in_depth(self, tmp_path):
        save_nifti(tmp_path / "imagesTr" / "a_0000.nii.gz", image_of("a", shape=(6, 9, 1)))
        save_nifti(tmp_path / "labelsTr" / "a.nii.gz", labels_of("a", (6, 9, 1)))
        write_description(tmp_path, NNUNET | {"channel_names": {"0": "OCT"}})
        interface = opened(tmp_path)
        assert interface.three_dim is False
        assert interface.load_image("a")[0].shape == interface.load_segmentation("a").shape == (6, 9)

    @pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
    def test_images_of_two_dimensions_in_colours(self, tmp_path, rng, ending):
        colours = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
        save_image(tmp_path / "imagesTr" / f"road_0000{ending}", colours)
        save_image(tmp_path / "labelsTr" / f"road{ending}", labels_of("road", (6, 9)))
        channels = {"0": "R", "1": "G", "2": "B"}
        write_description(tmp_path, NNUNET | {"channel_names": channels, "file_ending": ending})
        data_io = Data_IO(DatasetJSON_interface(), tmp_path, output_path=tmp_path / "out")
        data_io.check(["road"])
        sample = data_io.sample_loader("road")
        np.testing.assert_array_equal(sample.img_data, colours)
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
        assert (tmp_path / "out" / f"road{ending}").is_file()
        np.testing.assert_array_equal(data_io.sample_loader("road", load_pred=True).pred_data, sample.seg_data)

    def test_grey_channels_in_png_files_each_are_refused(self, tmp_path):
        for channel in range(3):
            grey = image_of("a", channel, (6, 9)).astype(np.uint8)
            save_image(tmp_path / "imagesTr" / f"a_{channel:04d}.png", grey)
        save_image(tmp_path / "labelsTr" / "a.png", labels_of("a", (6, 9)))
        names = {"0": "x", "1": "y", "2": "z"}
        write_description(tmp_path, NNUNET | {"channel_names": names, "file_ending": ".png"})
        with pytest.raises(DataError, match=r"a_0000\.png is one of 3 files.*supported for volumes only"):
            opened(tmp_path).check("a")

    def test_two_channels_in_png_files_are_refused(self, tmp_path):
        save_image(tmp_path / "imagesTr" / "a_0000.png", image_of("a", 0, (6, 9)).astype(np.uint8))
        write_description(tmp_path, NNUNET | {"file_ending": ".png"})
        with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 .*not channels=2.*convert"):
            opened(tmp_path)


class TestPredictions:
    @pytest.mark.parametrize("write", [write_msd, write_nnunet])
    def test_they_lie_over_the_image_of_turned_axes(self, tmp_path, write):
        root = write(tmp_path / "data", affine=oblique())
        data_io = Data_IO(DatasetJSON_interface(), root, output_path=tmp_path / "out")
        index = data_io.get_indiceslist()[0]
        sample = data_io.sample_loader(index)
        np.testing.assert_allclose(sample.extended["affine"], oblique(), atol=1e-4)
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
        written = sitk.ReadImage(str(tmp_path / "out" / f"{index}.nii.gz"))
        truth = sitk.ReadImage(str(root / "labelsTr" / f"{index}.nii.gz"))
        for voxel in np.ndindex(*SHAPE):
            place = written.TransformPhysicalPointToIndex(truth.TransformIndexToPhysicalPoint(voxel))
            assert written[place] == truth[voxel]
        np.testing.assert_array_equal(data_io.sample_loader(index, load_pred=True).pred_data, sample.seg_data)

    def test_probabilities(self, tmp_path, rng):
        data_io = Data_IO(DatasetJSON_interface(), write_msd(tmp_path / "data"), output_path=tmp_path / "out")
        sample = data_io.sample_loader("hippocampus_367")
        probabilities = rng.random((*SHAPE, 3)).astype(np.float32)
        sample.add_prediction(probabilities, activation_output=True)
        data_io.save_prediction(sample)
        np.testing.assert_array_equal(data_io.sample_loader("hippocampus_367", load_pred=True).pred_data, probabilities)


class TestWithoutTheData:
    def test_the_configuration_rebuilds_it(self, tmp_path):
        interface = opened(write_nnunet(tmp_path / "data"))
        description = json.loads(json.dumps(describe(interface, "DATASET_JSON")))
        rebuilt = build(description, miscnn_data_interfaces)
        assert get_config(rebuilt) == get_config(interface)
        assert rebuilt.names_of_classes() == ("background", "PZ", "TZ")
        paths = [tmp_path / "data" / "imagesTs" / f"prostate_02_{channel:04d}.nii.gz" for channel in range(2)]
        image, extended = rebuilt.read_file(paths)
        assert image.shape == (*SHAPE, 2)
        sample = interface.load_image("prostate_01")
        assert sample[1].keys() == extended.keys()

    def test_it_then_reads_another_data_set(self, tmp_path):
        rebuilt = DatasetJSON_interface(**get_config(opened(write_msd(tmp_path / "a"))))
        other = write_msd(tmp_path / "b", UNLISTED | {"labels": {"0": "background", "1": "both"}})
        rebuilt.initialize(other)
        assert rebuilt.names_of_classes() == ("background", "Anterior", "Posterior")

    def test_what_was_found_in_one_folder_does_not_hold_in_the_next(self, tmp_path):
        interface = opened(write_msd(tmp_path / "a"))
        interface.initialize(write_nnunet(tmp_path / "b"))
        assert (interface.channels, interface.names_of_classes()) == (2, ("background", "PZ", "TZ"))

    @pytest.mark.parametrize("call", ["load_image", "load_segmentation", "check"])
    def test_it_has_to_know_the_data_first(self, call):
        with pytest.raises(ConfigurationError, match=r"call initialize\(input_path\)"):
            getattr(DatasetJSON_interface(), call)("a")
        with pytest.raises(ConfigurationError, match=r"call initialize\(input_path\)"):
            getattr(DatasetJSON_interface(1, 2, True, file_ending=".nii.gz"), call)("a")

    def test_it_travels_to_other_processes(self, tmp_path):
        interface = pickle.loads(pickle.dumps(opened(write_msd(tmp_path))))
        interface.check("hippocampus_367")


class TestArguments:
    def test_given_ones_hold(self, tmp_path):
        write_nnunet(tmp_path, NNUNET | {"labels": {"background": 0, "zones": [1, 2]}})
        interface = opened(tmp_path, classes=3, class_names=["none", "peripheral", "transition"])
        assert interface.names_of_classes() == ("none", "peripheral", "transition")
        assert opened(tmp_path, class_names=["a", "b", "c"]).classes == 3
        assert opened(tmp_path, classes=3).names_of_classes() == ("0", "1", "2")

    def test_labels_are_merged(self, tmp_path):
        interface = opened(write_nnunet(tmp_path), label_map={2: 1})
        assert (interface.classes, interface.names_of_classes()) == (2, ("background", "PZ"))
        expected = np.minimum(labels_of("prostate_01"), 1)
        np.testing.assert_array_equal(interface.load_segmentation("prostate_01"), expected)
        np.testing.assert_array_equal(interface.stored_labels("prostate_01"), labels_of("prostate_01"))

    def test_values_to_ignore_are_no_class_and_can_become_background(self, tmp_path):
        write_nnunet(tmp_path, NNUNET | {"labels": {"background": 0, "PZ": 1, "ignore": 2}})
        interface = opened(tmp_path)
        assert interface.classes == 2
        assert interface.load_segmentation("prostate_01").max() == 2
        assert interface.label_scheme().has_ignored
        interface = opened(tmp_path, label_map={2: 0}, classes=2)
        assert interface.load_segmentation("prostate_01").max() == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"part": "train"}, r"part='train': choose one of training, test, all\. Did you mean 'training'"),
            ({"pattern": "["}, "not a valid regular expression"),
            ({"label_map": {"x": 1}}, "integers to integers"),
            ({"classes": 3, "class_names": ["a"]}, "must be 3 names"),
            ({"classes": 2, "label_map": {5: 2}}, "not one of the 2 classes"),
        ],
    )
    def test_wrong_ones(self, tmp_path, arguments, message):
        with pytest.raises(ConfigurationError, match=message):
            opened(write_nnunet(tmp_path), **arguments)


class TestBadData:
    @pytest.mark.parametrize(
        ("missing", "named"),
        [
            ("imagesTr/prostate_01_0001.nii.gz", r"prostate_01_0001\.nii\.gz: the file does not exist"),
            ("imagesTr/prostate_01_0000.nii.gz", r"prostate_01_0000\.nii\.gz: the file does not exist"),
            ("labelsTr/prostate_01.nii.gz", r"labelsTr/prostate_01\.nii\.gz: the file does not exist"),
        ],
    )
    def test_missing_files_are_named_and_the_others_read(self, tmp_path, missing, named):
        write_nnunet(tmp_path)
        (tmp_path / missing).unlink()
        interface = opened(tmp_path)
        with pytest.raises(MissingDataError, match=named):
            interface.check("prostate_01")
        interface.check("prostate_03")

    def test_a_channel_between_others_is_missing(self, tmp_path):
        write_nnunet(tmp_path, {key: value for key, value in NNUNET.items() if key != "channel_names"})
        save_nifti(tmp_path / "imagesTr" / "prostate_01_0002.nii.gz", image_of("x"))
        (tmp_path / "imagesTr" / "prostate_01_0001.nii.gz").unlink()
        with pytest.raises(MissingDataError, match=r"prostate_01_0001\.nii\.gz: the file does not exist"):
            opened(tmp_path).check("prostate_01")

    def test_listed_files_that_are_not_there(self, tmp_path):
        write_msd(tmp_path)
        (tmp_path / "imagesTr" / "hippocampus_304.nii.gz").unlink()
        data_io = Data_IO(DatasetJSON_interface(), tmp_path)
        with pytest.raises(DataError, match=r"1 of 2 samples.*\n.*hippocampus_304\.nii\.gz: the file does not exist"):
            data_io.check(data_io.get_indiceslist())

    def test_a_damaged_first_file_is_found_by_the_check(self, tmp_path):
        write_msd(tmp_path)
        (tmp_path / "imagesTr" / "hippocampus_304.nii.gz").write_bytes(b"no NIfTI")
        interface = opened(tmp_path)
        assert interface.three_dim is True
        with pytest.raises(DataError, match=r"hippocampus_304\.nii\.gz"):
            interface.check("hippocampus_304")

    def test_a_link_that_leads_nowhere_is_a_missing_file(self, tmp_path):
        write_msd(tmp_path, UNLISTED)
        (tmp_path / "imagesTr" / "lost.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
        with pytest.raises(MissingDataError, match=r"lost\.nii\.gz: the file does not exist"):
            opened(tmp_path).check("lost")

    def test_label_maps_without_image_and_other_numbers_are_said(self, tmp_path, caplog):
        write_msd(tmp_path, UNLISTED | {"numTraining": 260})
        save_nifti(tmp_path / "labelsTr" / "lonely.nii.gz", labels_of("x"))
        with caplog.at_level(logging.WARNING):
            opened(tmp_path)
        assert "label maps without an image: lonely" in caplog.text
        assert "declares 260 cases, not 2" in caplog.text

    def test_image_and_label_map_on_different_grids(self, tmp_path):
        write_msd(tmp_path)
        save_nifti(tmp_path / "labelsTr" / "hippocampus_304.nii.gz", labels_of("x"), oblique())
        with pytest.raises(DataError, match=r"hippocampus_304\.nii\.gz is not on the grid"):
            opened(tmp_path).check("hippocampus_304")

    def test_a_label_that_dataset_json_does_not_know(self, tmp_path):
        write_msd(tmp_path, MSD | {"labels": {"0": "background", "1": "hippocampus"}})
        with pytest.raises(DataError, match=r"hippocampus_304\.nii\.gz: the label map holds 2 .*label_map=\{2: 1\}"):
            opened(tmp_path).load_segmentation("hippocampus_304")

    @pytest.mark.parametrize("ending", [".vtk", ".dcm", ".nii.gz.zip"])
    def test_other_formats_say_what_to_convert(self, tmp_path, ending):
        write_nnunet(tmp_path, NNUNET | {"file_ending": ending})
        with pytest.raises(DataError, match=r"not supported\. Convert them to \.nii\.gz, for instance with SimpleITK"):
            opened(tmp_path)

    def test_files_of_another_format_than_dataset_json_says(self, tmp_path):
        (tmp_path / "imagesTr").mkdir(parents=True)
        (tmp_path / "imagesTr" / "a_0000.nrrd").write_bytes(b"NRRD0004")
        write_description(tmp_path, NNUNET)
        with pytest.raises(DataError, match=r"a_0000\.nrrd does not end in \.nii\.gz or \.nii.*Convert other formats"):
            opened(tmp_path)

    def test_the_folder_above_names_the_right_one(self, tmp_path):
        write_msd(tmp_path / "Task04_Hippocampus")
        with pytest.raises(MissingDataError, match=r"holds no folder imagesTr .*give .*Task04_Hippocampus"):
            opened(tmp_path)

    def test_empty_and_missing_folders(self, tmp_path):
        with pytest.raises(MissingDataError, match="does not exist"):
            opened(tmp_path / "nowhere")
        write_description(tmp_path, NNUNET)
        with pytest.raises(MissingDataError, match=r"holds no folder imagesTr \(found: dataset\.json\)"):
            opened(tmp_path)
        (tmp_path / "imagesTr").mkdir()
        with pytest.raises(MissingDataError, match=r"imagesTr holds no images; add them"):
            opened(tmp_path)
        with pytest.raises(MissingDataError, match="holds no folder imagesTs"):
            opened(tmp_path, part="test")

    def test_without_dataset_json_the_classes_have_to_be_given(self, tmp_path):
        (write_nnunet(tmp_path) / "dataset.json").unlink()
        with pytest.raises(ConfigurationError, match=r"give classes, or use .*find_interface"):
            opened(tmp_path)
        interface = opened(tmp_path, classes=3)
        assert interface.channels == 2
        interface.check("prostate_01")

    def test_a_case_in_two_forms(self, tmp_path):
        write_nnunet(tmp_path)
        save_nifti(tmp_path / "imagesTr" / "prostate_01.nii.gz", image_of("x"))
        with pytest.raises(DataError, match=r"several files for the case 'prostate_01': .*prostate_01\.nii\.gz"):
            opened(tmp_path)

    def test_a_case_that_is_listed_twice(self, tmp_path):
        write_msd(tmp_path, MSD | {"training": [MSD["training"][0]] * 2})
        with pytest.raises(DataError, match="lists the case 'hippocampus_367' twice"):
            opened(tmp_path)

    def test_an_unknown_sample_is_guessed(self, tmp_path):
        with pytest.raises(MissingDataError, match="Did you mean 'hippocampus_367'"):
            opened(write_msd(tmp_path)).load_image("hippocampus_377")


def test_the_fingerprint_changes_with_the_files(tmp_path):
    interface = opened(write_nnunet(tmp_path))
    before = interface.fingerprint("prostate_01", tmp_path)
    assert before == opened(tmp_path).fingerprint("prostate_01", tmp_path)
    assert before != opened(tmp_path, label_map={2: 1}).fingerprint("prostate_01", tmp_path)
    assert before != interface.fingerprint("prostate_03", tmp_path)
    save_nifti(tmp_path / "imagesTr" / "prostate_01_0001.nii.gz", image_of("new"))
    assert before != interface.fingerprint("prostate_01", tmp_path)


def test_extended_facts_come_from_the_header_alone(tmp_path):
    interface = opened(write_msd(tmp_path, affine=oblique()))
    facts, extended = interface.load_extended("hippocampus_367"), interface.load_image("hippocampus_367")[1]
    assert facts.keys() == extended.keys()
    np.testing.assert_array_equal(facts["affine"], extended["affine"])
    source = nibabel.load(tmp_path / "imagesTr" / "hippocampus_367.nii.gz")
    np.testing.assert_allclose(facts["affine"], source.affine)


class TestSpelling:
    def test_nii_gz_in_capitals_where_the_folders_are_read(self, tmp_path):
        write_nnunet(tmp_path)
        for path in [*(tmp_path / "imagesTr").iterdir(), *(tmp_path / "labelsTr").iterdir()]:
            path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
        interface = opened(tmp_path)
        interface.check("prostate_01")
        np.testing.assert_array_equal(interface.load_image("prostate_03")[0][..., 1], image_of("prostate_03", 1))
        np.testing.assert_array_equal(interface.load_segmentation("prostate_03"), labels_of("prostate_03"))

    def test_nii_gz_in_capitals_where_the_cases_are_listed(self, tmp_path):
        write_msd(tmp_path)
        for path in [*(tmp_path / "imagesTr").glob("h*"), *(tmp_path / "labelsTr").glob("h*")]:
            path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
        interface = opened(tmp_path)
        np.testing.assert_array_equal(interface.load_image("hippocampus_367")[0], image_of("hippocampus_367"))
        np.testing.assert_array_equal(interface.load_segmentation("hippocampus_367"), labels_of("hippocampus_367"))

    @pytest.mark.parametrize("listed", [True, False])
    @pytest.mark.parametrize(("image", "label"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
    def test_composed_and_decomposed_unicode(self, tmp_path, listed, image, label):
        save_nifti(tmp_path / "imagesTr" / f"{image}.nii.gz", image_of("a"))
        save_nifti(tmp_path / "labelsTr" / f"{label}.nii.gz", labels_of("a"))
        # The list has the other form of either.
        pair = {"image": f"imagesTr/{label}.nii.gz", "label": f"labelsTr/{image}.nii.gz"}
        write_description(tmp_path, UNLISTED | ({"training": [pair]} if listed else {}))
        interface = DatasetJSON_interface()
        assert interface.initialize(tmp_path) == ["\u00e9"]
        interface.check("\u00e9")
        np.testing.assert_array_equal(interface.load_segmentation("e\u0301"), labels_of("a"))

    def test_percent_encoding_where_no_file_has_the_literal_name(self, tmp_path):
        for name in ("a b", "c%20d", "c d"):
            save_nifti(tmp_path / "imagesTr" / f"{name}.nii.gz", image_of(name))
            save_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", labels_of(name))
        pairs = [
            {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in ("a%20b", "c%20d")
        ]
        write_description(tmp_path, UNLISTED | {"training": pairs})
        interface = DatasetJSON_interface()
        assert interface.initialize(tmp_path) == ["a b", "c%20d"]
        np.testing.assert_array_equal(interface.load_image("a b")[0], image_of("a b"))
        np.testing.assert_array_equal(interface.load_segmentation("c%20d"), labels_of("c%20d"))

    def test_both_nii_and_nii_gz_are_said(self, tmp_path):
        write_msd(tmp_path, UNLISTED)
        save_nifti(tmp_path / "imagesTr" / "hippocampus_304.nii", image_of("x"))
        with pytest.warns(
            RepeatedWarning, match=r"hippocampus_304\.nii\.gz and hippocampus_304\.nii; .*\.nii\.gz is read"
        ):
            interface = opened(tmp_path)
        np.testing.assert_array_equal(interface.load_image("hippocampus_304")[0], image_of("hippocampus_304"))

    def test_a_folder_called_like_an_image_is_named(self, tmp_path, caplog):
        write_msd(tmp_path, UNLISTED)
        (tmp_path / "imagesTr" / "x.nii.gz").mkdir()
        assert len(DatasetJSON_interface().initialize(tmp_path)) == 2
        assert "x.nii.gz is a folder, not a file, and was skipped" in caplog.text

    def test_images_that_are_not_listed_are_named(self, tmp_path, caplog):
        write_msd(tmp_path)
        save_nifti(tmp_path / "imagesTr" / "new.nii.gz", image_of("x"))
        assert len(DatasetJSON_interface().initialize(tmp_path)) == 2
        assert "does not list these files in imagesTr, so they are left out: new.nii.gz" in caplog.text

    def test_labels_paths_and_ending_as_other_programs_write_them(self, tmp_path):
        pairs = [
            {
                "image": ".\\imagesTr\\hippocampus_367.nii.gz",
                "label": str(tmp_path / "labelsTr" / "hippocampus_367.nii.gz"),
            },
            {"image": "/moved/imagesTr/hippocampus_304.nii.gz", "label": "labelsTr/./hippocampus_304.nii.gz"},
        ]
        labels = {"background": 0.0, "Anterior": [1], "Posterior": "2"}
        write_msd(tmp_path, MSD | {"training": pairs, "labels": labels, "file_ending": "NII.GZ"})
        with pytest.warns(RepeatedWarning, match="files in another folder"):
            interface = opened(tmp_path)
        assert interface.names_of_classes() == ("background", "Anterior", "Posterior")
        for name in ("hippocampus_304", "hippocampus_367"):
            interface.check(name)
            np.testing.assert_array_equal(interface.load_image(name)[0], image_of(name))
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of(name))


@pytest.mark.parametrize("channels", [None, 1])
def test_most_volumes_decide_and_the_slice_is_named(tmp_path, caplog, channels):
    names = [f"case_{number}" for number in range(6)]
    for name in names:
        shape = (5, 6, 1) if name == "case_0" else SHAPE
        save_nifti(tmp_path / "imagesTr" / f"{name}.nii.gz", image_of(name, shape=shape))
        save_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", labels_of(name, shape))
    write_description(tmp_path, UNLISTED)
    interface = opened(tmp_path, channels=channels)
    assert interface.three_dim is True
    assert "the others are: case_0 (2D with 1 channel)" in caplog.text
    np.testing.assert_array_equal(interface.load_image("case_5")[0], image_of("case_5"))
