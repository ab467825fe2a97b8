"""Faults in downloaded data sets, choices among their files, and folders that may be several things."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from downloaded_data import (
    DOWNLOADS,
    acdc,
    amos,
    bowl,
    brats,
    brats_2023,
    carvana,
    cell_tracking,
    chase,
    colours,
    kits19,
    pairs,
    totalsegmentator,
    train_and_val,
)
from layout_data import NNUNET, SHAPE, image_of, labels_of, save_image, save_nifti, write_description, write_nnunet

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.interfaces import NIFTI_interface, Paired_interface, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.description import describe_interface
from miscnn_tf.data_loading.interfaces.mask_union import unite
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile
from miscnn_tf.data_loading.layout_detection import find_interface, locate_data, recognise
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import ConfigurationError, DataError, GridError, MissingDataError


class TestUnion:
    """Against the definition, voxel by voxel."""

    def masks(self, **arrays: np.ndarray) -> tuple[list[MaskFile], dict[Path, np.ndarray]]:
        files = [MaskFile(Path(name), label, name) for label, name in enumerate(arrays, start=1)]
        return files, {Path(name): array for name, array in arrays.items()}

    def test_small_structures_are_drawn_over_large_ones_in_any_order(self) -> None:
        large, small = np.zeros((2, 4, 6, 5), np.uint8)
        large[1:, 1:], small[2:3, 2:4] = 1, 7
        for names in (("liver", "tumour"), ("tumour", "liver")):
            arrays = {"liver": large, "tumour": small}
            files, content = self.masks(**{name: arrays[name] for name in names})
            with pytest.warns(UserWarning, match=r"sample 'x': .*tumour in liver \(10 voxels\)"):
                united = unite("x", files, content.__getitem__, 3)
            label = {name: number for number, name in enumerate(names, start=1)}
            expected = np.where(small > 0, label["tumour"], np.where(large > 0, label["liver"], 0))
            np.testing.assert_array_equal(united, expected)
            assert united.dtype == np.uint8

    def test_masks_of_one_class_may_overlap(self, recwarn: pytest.WarningsRecorder) -> None:
        one, two = np.zeros((2, 5, 5), bool)
        one[1:3], two[2:4] = True, True
        files = [MaskFile(Path("one"), 1, "object"), MaskFile(Path("two"), 1, "object")]
        np.testing.assert_array_equal(unite("x", files, {Path("one"): one, Path("two"): two}.__getitem__, 2), one | two)
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.array([0, 1, 2]), r"a holds 0, 1, 2, but the mask of one structure holds 0 and one other value"),
            (np.array([0, 0.5, 1]), "was it interpolated"),
            (np.array([0, np.nan, 1]), "NaN or infinite"),
        ],
    )
    def test_what_is_not_a_mask(self, array: np.ndarray, message: str) -> None:
        files, content = self.masks(a=array)
        with pytest.raises(DataError, match=message):
            unite("x", files, content.__getitem__, 2)

    def test_masks_of_different_shapes(self) -> None:
        files, content = self.masks(a=np.zeros((2, 3)), b=np.zeros((3, 2)))
        with pytest.raises(GridError, match=r"b has shape \(3, 2\), but a \(2, 3\)"):
            unite("x", files, content.__getitem__, 3)


class TestStructures:
    def test_some_are_chosen_and_merged(self, tmp_path: Path) -> None:
        totalsegmentator(tmp_path)
        chosen = {"liver": 1, "spleen": 2, "adrenal_gland_left": 2}
        interface = find_interface(tmp_path, structure_dict=chosen)
        assert type(interface).__name__ == "TotalSegmentator_interface"
        assert interface.names_of_classes() == ("background", "liver", "spleen and adrenal_gland_left")
        interface.initialize(tmp_path)
        written = labels_of("s0000", classes=4)  # 1 spleen, 2 adrenal gland, 3 liver
        np.testing.assert_array_equal(interface.load_segmentation("s0000"), np.array([0, 2, 2, 1])[written])

    def test_unknown_ones_and_labels_with_gaps(self, tmp_path: Path) -> None:
        totalsegmentator(tmp_path)
        with pytest.raises(ConfigurationError, match=r"names 'livr', which no scan .* Did you mean 'liver'\?"):
            find_interface(tmp_path, structure_dict={"livr": 1})
        with pytest.raises(ConfigurationError, match=r"must give the labels 1, 2, … without gaps"):
            find_interface(tmp_path, structure_dict={"liver": 2})

    def test_verify_reports_overlaps_missing_masks_and_other_grids(self, tmp_path: Path) -> None:
        totalsegmentator(tmp_path)
        masks = tmp_path / "s0000" / "segmentations"
        save_nifti(masks / "liver.nii.gz", np.ones(SHAPE, np.uint8))
        (tmp_path / "s0001" / "segmentations" / "spleen.nii.gz").unlink()
        found = verify(Data_IO(find_interface(tmp_path), tmp_path))
        texts = {finding.index: finding.message for finding in found.findings}
        assert "spleen in liver (62 voxels)" in texts["s0000"]
        assert "spleen.nii.gz" in texts["s0001"]
        assert found.of_kind("missing") == ["s0001"]
        save_nifti(masks / "liver.nii.gz", np.ones(SHAPE, np.uint8), affine=np.eye(4))
        assert "s0000" in verify(Data_IO(find_interface(tmp_path), tmp_path)).of_kind("grid")

    def test_scans_without_masks_are_for_prediction(self, tmp_path: Path) -> None:
        totalsegmentator(tmp_path)
        save_nifti(tmp_path / "s0002" / "ct.nii.gz", image_of("s0002"))
        assert find_interface(tmp_path, part="test").initialize(tmp_path) == ["s0002"]
        assert find_interface(tmp_path, part="all").initialize(tmp_path) == ["s0000", "s0001", "s0002"]


class TestBraTS:
    def test_a_case_without_label_map_is_left_out_and_named(self, tmp_path: Path, caplog) -> None:
        # In the archive of 2020 the label map of case 355 has another name.
        brats(tmp_path, ("BraTS20_Training_001", "BraTS20_Training_355"))
        case = tmp_path / "BraTS20_Training_355"
        (case / "BraTS20_Training_355_seg.nii.gz").rename(case / "W39_1998.09.19_Segm.nii.gz")
        assert find_interface(tmp_path).initialize(tmp_path) == ["BraTS20_Training_001"]
        assert "left out: BraTS20_Training_355" in caplog.text
        assert find_interface(tmp_path, part="test", classes=4).initialize(tmp_path) == ["BraTS20_Training_355"]

    def test_a_missing_sequence_is_named(self, tmp_path: Path) -> None:
        brats(tmp_path, ("a", "b", "c"))
        (tmp_path / "b" / "b_flair.nii.gz").unlink()
        interface = find_interface(tmp_path)
        assert interface.modalities == ("t1", "t1ce", "t2", "flair")
        with pytest.raises(DataError, match=r"b_flair\.nii\.gz"):
            Data_IO(interface, tmp_path).check(["b"])

    def test_sequences_are_chosen(self, tmp_path: Path) -> None:
        interface = find_interface(brats(tmp_path), modalities=["flair", "t1"])
        name = interface.initialize(tmp_path)[0]
        expected = np.stack([image_of(f"{name}flair"), image_of(f"{name}t1")], axis=-1)
        np.testing.assert_array_equal(interface.load_image(name)[0], expected)
        with pytest.raises(ConfigurationError, match="modalities='flair' must be a list"):
            find_interface(tmp_path, modalities="flair")

    def test_other_values_are_not_taken_for_those_of_the_challenge(self, tmp_path: Path) -> None:
        interface = find_interface(brats_2023(tmp_path))
        assert (interface.label_map, interface.class_names) == (None, None)
        for path in brats(tmp_path / "old").rglob("*_seg.nii.gz"):
            save_nifti(path, labels_of(path.name, classes=4) * np.uint8(2))
        with pytest.raises(DataError, match=r"hold the values 0 .*2 .*4 .*6"):
            find_interface(tmp_path / "old")

    def test_unpacked_files(self, tmp_path: Path) -> None:
        for path in brats(tmp_path).rglob("*.nii.gz"):
            save_nifti(path.with_suffix(""), labels_of(path.name, classes=3))
            path.unlink()
        assert find_interface(tmp_path).initialize(tmp_path)[1] == "BraTS20_Training_002"


class TestParts:
    def test_parts_of_a_layout_with_values_of_its_own(self, tmp_path: Path) -> None:
        brats(tmp_path / "train", ("a", "b"))
        brats(tmp_path / "val", ("c",))
        interface = find_interface(tmp_path)
        assert (interface.label_map, interface.names_of_classes()[3]) == ({4: 3}, "enhancing tumour")
        interface.initialize(tmp_path)
        assert list(interface.validation_samples) == ["c"]

    def test_validation_without_label_maps_is_test_data(self, tmp_path: Path) -> None:
        brats(tmp_path / "train", ("a", "b"))
        brats(tmp_path / "val", ("c",))
        (tmp_path / "val" / "c" / "c_seg.nii.gz").unlink()
        interface = find_interface(tmp_path)
        assert interface.initialize(tmp_path) == ["a", "b"]
        assert not interface.validation_samples
        assert find_interface(tmp_path, part="all").initialize(tmp_path) == ["a", "b", "c"]

    def test_arguments_of_the_parts(self, tmp_path: Path) -> None:
        brats(tmp_path / "train", ("a", "b"))
        brats(tmp_path / "val", ("c",))
        interface = find_interface(tmp_path, "SPLIT", modalities=["t2"])
        assert interface.part_settings == {"modalities": ["t2"]}
        assert interface.initialize(tmp_path) == ["a", "b", "c"]
        assert interface.load_image("c")[0].shape == SHAPE
        with pytest.raises(ConfigurationError, match="has no argument 'modality'"):
            find_interface(tmp_path, "SPLIT", modality=["t2"])

    def test_two_folders_for_one_part(self, tmp_path: Path) -> None:
        train_and_val(tmp_path)
        (tmp_path / "train").rename(tmp_path / "training")
        pairs(tmp_path / "train" / "images", tmp_path / "train" / "masks", ("x",), ".png", "{}.png")
        with pytest.raises(DataError, match="holds train and training, which may both be the training part"):
            find_interface(tmp_path)

    def test_there_is_no_test_part(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match="no folder of test data"):
            find_interface(train_and_val(tmp_path), part="test", classes=2)

    def test_a_pattern(self, tmp_path: Path) -> None:
        interface = find_interface(train_and_val(tmp_path), pattern=".*_2")
        assert interface.initialize(tmp_path) == ["train_2", "val_2"]
        assert list(interface.validation_samples) == ["val_2"]


class TestAmos:
    def test_the_parts(self, tmp_path: Path) -> None:
        amos(tmp_path)
        assert find_interface(tmp_path, part="test").initialize(tmp_path) == ["amos_0002"]
        assert len(find_interface(tmp_path, part="all").initialize(tmp_path)) == 4

    def test_without_dataset_json(self, tmp_path: Path) -> None:
        (amos(tmp_path) / "dataset.json").unlink()
        interface = find_interface(tmp_path)
        assert interface.initialize(tmp_path) == ["amos_0001", "amos_0004", "amos_0008"]
        assert list(interface.validation_samples) == ["amos_0008"]

    def test_validation_that_is_listed_but_not_unpacked(self, tmp_path: Path) -> None:
        amos(tmp_path)
        (tmp_path / "imagesVa").rename(tmp_path / "elsewhere")
        assert find_interface(tmp_path).initialize(tmp_path) == ["amos_0001", "amos_0004"]

    def test_a_case_of_both_parts(self, tmp_path: Path) -> None:
        path = amos(tmp_path) / "dataset.json"
        content = json.loads(path.read_text())
        content["validation"] = content["training"][:1]
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match="amos_0001 are names of both training and validation cases"):
            find_interface(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": {"background": 0, "whole": [1, 2], "core": 2}},
            r"regions_class_order. is None, but it needs a value for each of the 2 regions \(whole, core\)",
        ),
        (
            {"dataset": {"prostate_01": {"images": ["a.nii.gz", "b.nii.gz"], "label": "c.nii.gz"}}},
            r'files of its 1 cases under "dataset", which is not supported. Link the files',
        ),
    ],
)
def test_what_only_nnunet_can_train_on_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    write_nnunet(tmp_path)
    write_description(tmp_path, NNUNET | change)
    with pytest.raises(DataError, match=message):
        find_interface(tmp_path)


class TestFolderPairs:
    def test_gif_masks_of_carvana_are_paired(self, tmp_path: Path) -> None:
        carvana(tmp_path)
        for path in (tmp_path / "train_masks").iterdir():
            path.with_suffix(".gif").write_bytes(b"GIF89a")
            path.unlink()
        pair = Paired_interface()._siblings(tmp_path)
        assert (pair.images.name, pair.masks.name) == ("train", "train_masks")

    def test_several_folders_of_masks(self, tmp_path: Path) -> None:
        carvana(tmp_path)
        pairs(tmp_path / "x", tmp_path / "train_labels", ("0cdf5b5d0ce1_01",), form="{}.png")
        with pytest.raises(DataError) as caught:
            find_interface(tmp_path)
        assert "image_folder='train', mask_folder='train_masks'" in str(caught.value)
        assert "image_folder='train', mask_folder='train_labels'" in str(caught.value)
        interface = find_interface(tmp_path, image_folder="train", mask_folder="train_masks")
        assert len(interface.initialize(tmp_path)) == 2

    def test_one_of_two_annotators(self, tmp_path: Path) -> None:
        chase(tmp_path)
        for name in ("Image_01L", "Image_01R"):
            save_image(tmp_path / f"{name}_2ndHO.png", np.eye(20, 24, dtype=np.uint8))
        assert find_interface(tmp_path).label_map == {255: 1}
        first = find_interface(tmp_path, mask_pattern=".*_1stHO")
        second = find_interface(tmp_path, mask_pattern=".*_2ndHO")
        assert first.initialize(tmp_path) == second.initialize(tmp_path) == ["Image_01L", "Image_01R"]
        np.testing.assert_array_equal(second.load_segmentation("Image_01R"), np.eye(20, 24))
        assert (first.label_map, second.label_map) == ({255: 1}, None)


class TestAmbiguous:
    def test_two_layouts_of_equal_rank(self, tmp_path: Path) -> None:
        acdc(brats(tmp_path))
        with pytest.raises(DataError) as caught:
            find_interface(tmp_path)
        text = str(caught.value)
        assert "  BRATS: BraTS20_Training_001 has a file per MRI sequence" in text
        assert "  ACDC: patient001 has files" in text
        assert "--layout BRATS" in text
        assert find_interface(tmp_path, "ACDC").initialize(tmp_path)[0] == "patient001_frame01"

    def test_every_two_downloads_of_equal_rank_in_one_folder(self, tmp_path: Path) -> None:
        writers = {"BRATS": brats, "ACDC": acdc, "TOTALSEGMENTATOR": totalsegmentator}
        writers |= {"CELL_TRACKING": cell_tracking, "OBJECT_MASKS": bowl}
        for first, write in writers.items():
            for second in [name for name in writers if name > first]:
                root = tmp_path / f"{first} {second}"
                writers[second](write(root))
                with pytest.raises(DataError, match="several layouts"):
                    recognise(root)


class TestDeeper:
    @pytest.mark.parametrize("inner", ["archive", "archive/MICCAI_BraTS2020_TrainingData"])
    @pytest.mark.parametrize("name", ["BraTS 2020", "LiTS", "Carvana", "Data Science Bowl 2018", "train and val"])
    def test_the_only_data_set_is_found(self, tmp_path: Path, inner: str, name: str) -> None:
        root = DOWNLOADS[name].write(tmp_path / inner)
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / "notes.txt").write_text("")
        assert locate_data(tmp_path) == root
        assert locate_data(root) == root

    def test_the_layout_decides(self, tmp_path: Path) -> None:
        brats(tmp_path / "MRI")
        kits19(tmp_path / "CT")
        assert locate_data(tmp_path, "BRATS") == tmp_path / "MRI"
        with pytest.raises(DataError) as caught:
            locate_data(tmp_path)
        assert all(f"  {tmp_path / name}" in str(caught.value) for name in ("MRI", "CT"))

    def test_nothing_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b" / "c").mkdir(parents=True)
        assert locate_data(tmp_path) == tmp_path
        kits19(tmp_path / "a" / "b" / "c")
        assert locate_data(tmp_path) == tmp_path

    def test_a_sample_is_not_left_for_a_folder_in_it(self, tmp_path: Path) -> None:
        case = kits19(tmp_path, ("case_00000",)) / "case_00000"
        kits19(case / "old")
        assert locate_data(case) == case


def test_images_that_only_look_like_a_sample_of_the_bowl(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pairs(tmp_path / name / "images", tmp_path / name / "masks", ("1", "2"), ".png", "{}.png")
    assert miscnn_data_interfaces["OBJECT_MASKS"].recognises(tmp_path, {}) is None
    save_image(tmp_path / "c" / "images" / "other.png", colours("c"))
    save_image(tmp_path / "c" / "masks" / "other.png", colours("c"))
    assert miscnn_data_interfaces["OBJECT_MASKS"].recognises(tmp_path, {}) is None


class TestOneBehaviour:
    """`find_interface` and `Data_IO` look for the data where the commands do."""

    @pytest.mark.parametrize("name", ["BraTS 2020", "LiTS", "Carvana", "Data Science Bowl 2018", "train and val"])
    def test_the_same_samples_are_found(self, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
        inner = DOWNLOADS[name].write(tmp_path / "archive" / "data")
        expected = Data_IO(find_interface(inner), inner)
        caplog.clear()
        found = Data_IO(find_interface(tmp_path), tmp_path)
        assert found.get_indiceslist() == expected.get_indiceslist()
        assert found.input_path == str(inner)
        assert f"{tmp_path} holds the data in {inner}, which is used" in caplog.text
        assert describe_interface(found.interface) == describe_interface(expected.interface)
        np.testing.assert_array_equal(
            found.sample_loader(found.get_indiceslist()[0]).seg_data,
            expected.sample_loader(expected.get_indiceslist()[0]).seg_data,
        )

    def test_several_are_an_error(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            kits19(tmp_path / name)
        with pytest.raises(DataError, match="2 folders in it do; give one of them"):
            find_interface(tmp_path)
        with pytest.raises(DataError, match="2 folders in it do; give one of them"):
            Data_IO(find_interface(tmp_path / "a"), tmp_path)

    def test_a_folder_without_data_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="does not have a known layout"):
            find_interface(tmp_path)
        with pytest.raises(DataError, match=str(tmp_path)):
            Data_IO(NIFTI_interface(), tmp_path)
