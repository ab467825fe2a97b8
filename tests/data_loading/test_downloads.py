"""Data sets as they are downloaded: each is recognised by one layout, read, and verified without a finding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from downloaded_data import (
    DOWNLOADS,
    Download,
    cell_tracking_in_3d,
    cells_in_3d,
    chase_as_downloaded,
    drive_as_downloaded,
    eye,
    field_of_view,
    grey,
    lits,
    lits_batches,
    lits_compressed,
    lits_of_kaggle,
    mask,
    numbered,
    stare_as_downloaded,
)
from layout_data import image_of, labels_of, save_image, save_nifti, write_msd, write_nnunet, write_pairs

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import build, describe
from miscnn_tf.data_loading.formats.image_file import read_mask
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.registered import recognising
from miscnn_tf.data_loading.layout_detection import find_interface, recognise
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError


@pytest.fixture(params=DOWNLOADS)
def download(request: pytest.FixtureRequest) -> Download:
    return DOWNLOADS[request.param]


def test_it_is_understood(download: Download, tmp_path: Path) -> None:
    root = download.write(tmp_path / "data")
    interface = find_interface(root)
    data_io = Data_IO(interface, root, output_path=tmp_path / "predictions")
    assert miscnn_data_interfaces.name_of(type(interface)) == download.layout
    assert data_io.get_indiceslist() == list(download.samples)
    assert (interface.channels, interface.three_dim) == (download.channels, download.three_dim)
    assert interface.values_of_classes() == download.values
    assert interface.class_names == download.names
    assert list(interface.validation_samples) == list(download.validation)


def test_verify_finds_nothing(download: Download, tmp_path: Path) -> None:
    root = download.write(tmp_path / "data")
    found = verify(Data_IO(find_interface(root), root))
    assert [finding.message for finding in found.findings] == []
    assert verify(Data_IO(find_interface(root), root), quick=True).findings == []


def test_predictions_have_the_name_of_the_sample_and_come_back(download: Download, tmp_path: Path) -> None:
    root = download.write(tmp_path / "data")
    data_io = Data_IO(find_interface(root), root, output_path=tmp_path / "predictions")
    sample = data_io.sample_loader(download.samples[-1])
    sample.add_prediction(sample.seg_data)
    data_io.save_prediction(sample)
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == [
        f"{download.samples[-1]}{download.prediction}"
    ]
    back = data_io.sample_loader(download.samples[-1], load_pred=True)
    np.testing.assert_array_equal(back.pred_data, sample.seg_data)


def test_a_model_file_rebuilds_the_interface_for_the_same_samples(download: Download, tmp_path: Path) -> None:
    root = download.write(tmp_path / "data")
    interface = find_interface(root)
    description = json.loads(json.dumps(describe(interface, download.layout)))
    rebuilt = build(description, miscnn_data_interfaces)
    indices = rebuilt.initialize(root)
    assert indices == list(download.samples)
    interface.initialize(root)
    for index in indices:
        np.testing.assert_array_equal(rebuilt.load_image(index)[0], interface.load_image(index)[0])
        np.testing.assert_array_equal(rebuilt.load_segmentation(index), interface.load_segmentation(index))


#: Layouts that recognise the folders of another one, too, which has priority: parts of a data set are read together.
PRIORITIES = {("SPLIT", "PAIRED"), ("BRATS", "SPLIT")}


def test_one_layout_recognises_it_or_has_priority(download: Download, tmp_path: Path) -> None:
    root = download.write(tmp_path / "data")
    assert [one.name for one in recognising(miscnn_data_interfaces, root, {"part": "training"})] == [download.layout]
    wanted = {name: cls.recognises(root, {}) for name, cls in miscnn_data_interfaces.items() if name != download.layout}
    others = {(download.layout, name) for name, evidence in wanted.items() if evidence is not None}
    assert others <= PRIORITIES


@pytest.mark.parametrize("write", [write_msd, write_nnunet, write_pairs])
def test_no_new_layout_takes_a_folder_of_an_old_one(write, tmp_path: Path) -> None:
    root = write(tmp_path)
    wanted = [name for name, cls in miscnn_data_interfaces.items() if cls.recognises(root, {}) is not None]
    assert wanted == [recognise(root)]


class TestVoxels:
    """The content, against the arrays that were written."""

    def test_channels_of_brats_are_in_the_usual_order(self, tmp_path: Path) -> None:
        for year, words in (("2020", ("t1", "t1ce", "t2", "flair")), ("2023", ("t1n", "t1c", "t2w", "t2f"))):
            download = DOWNLOADS[f"BraTS {year}"]
            interface = find_interface(download.write(tmp_path / year))
            name = interface.initialize(tmp_path / year)[0]
            expected = np.stack([image_of(f"{name}{word}") for word in words], axis=-1)
            np.testing.assert_array_equal(interface.load_image(name)[0], expected)
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of(name, classes=4))
            assert interface.modalities == words

    def test_structures_get_labels_in_alphabetical_order(self, tmp_path: Path) -> None:
        interface = find_interface(DOWNLOADS["TotalSegmentator"].write(tmp_path))
        interface.initialize(tmp_path)
        written = labels_of("s0001", classes=4)  # 1 spleen, 2 adrenal gland, 3 liver
        expected = np.select([written == 2, written == 3, written == 1], [1, 2, 3]).astype(np.uint8)
        np.testing.assert_array_equal(interface.load_segmentation("s0001"), expected)

    def test_numbered_cells_are_one_class(self, tmp_path: Path) -> None:
        interface = find_interface(DOWNLOADS["Cell Tracking Challenge"].write(tmp_path))
        interface.initialize(tmp_path)
        np.testing.assert_array_equal(interface.load_segmentation("02_t001"), numbered("ST") > 0)
        assert (
            "the gold truth may lack cells, which would be background: choose it with truth='GT'" in interface.found_in
        )
        gold = find_interface(tmp_path, truth="GT")
        assert gold.initialize(tmp_path) == ["01_t002", "02_t002"]
        np.testing.assert_array_equal(gold.load_segmentation("02_t002"), numbered("GT") > 0)
        with pytest.raises(ConfigurationError, match=r"truth='gt': choose one of ST, GT"):
            find_interface(tmp_path, truth="gt")

    @pytest.mark.parametrize("truth", ["GT", "ST"])
    def test_frames_of_volumes(self, truth: str, tmp_path: Path) -> None:
        with pytest.warns(
            UserWarning, match=rf"2 frames with single annotated slices \(\*_{truth}/SEG/man_seg_<frame>_"
        ):
            interface = find_interface(cell_tracking_in_3d(tmp_path, truth=truth))
        names = interface.initialize(tmp_path)
        assert names == ["01_t001", "01_t002", "02_t001", "02_t002"]
        for name in names:
            sequence, _, frame = name.partition("_t")
            np.testing.assert_array_equal(interface.load_image(name)[0], image_of(sequence + frame, shape=(9, 8, 5)))
            np.testing.assert_array_equal(interface.load_segmentation(name), cells_in_3d(sequence, frame) > 0)
        assert find_interface(tmp_path, part="test").initialize(tmp_path) == [
            "01_t000",
            "01_t003",
            "02_t000",
            "02_t003",
        ]

    def test_frames_with_annotated_slices_alone(self, tmp_path: Path) -> None:
        cell_tracking_in_3d(tmp_path, ())
        with pytest.raises(
            MissingDataError, match=r"6 frames with single annotated slices .* no frame is annotated comp"
        ):
            find_interface(tmp_path)
        cell_tracking_in_3d(tmp_path, ("000", "001", "002"), "ST")
        interface = find_interface(tmp_path)
        assert len(interface.initialize(tmp_path)) == 6
        np.testing.assert_array_equal(interface.load_segmentation("01_t001"), cells_in_3d("01", "001") > 0)

    def test_masks_of_nuclei_are_united(self, tmp_path: Path) -> None:
        interface = find_interface(DOWNLOADS["Data Science Bowl 2018"].write(tmp_path))
        name = interface.initialize(tmp_path)[0]
        files = (tmp_path / name / "masks").iterdir()
        np.testing.assert_array_equal(interface.load_segmentation(name), np.any([read_mask(file) for file in files], 0))

    @pytest.mark.parametrize("annotators", [("1st_manual", "2nd_manual"), ()])
    def test_drive_has_vessels_of_the_first_annotator_and_no_fields_of_view(self, annotators, tmp_path: Path) -> None:
        drive_as_downloaded(tmp_path, annotators)
        interface = find_interface(tmp_path)
        for shift, name in enumerate(interface.initialize(tmp_path)):
            number = name.removesuffix("_training")
            np.testing.assert_array_equal(interface.load_image(name)[0], eye(number, shift))
            vessels = (mask(f"1st_manual{number}") * field_of_view(shift)) // 255
            np.testing.assert_array_equal(interface.load_segmentation(name), vessels)
        assert "; mask holds fields of view" in interface.found_in
        test = find_interface(tmp_path, part="test", classes=2, label_map=interface.label_map)
        assert test.initialize(tmp_path) == ["01_test", "02_test"]
        if annotators:
            vessels = (mask("1st_manual02") * field_of_view(1)) // 255
            np.testing.assert_array_equal(test.load_segmentation("02_test"), vessels)
        else:
            with pytest.raises(MissingDataError, match="has no label map"):
                test.load_segmentation("02_test")

    def test_annotators_of_drive_s_test(self, tmp_path: Path) -> None:
        root = drive_as_downloaded(tmp_path) / "test"
        interface = find_interface(root)
        interface.initialize(root)
        assert interface.found_in == (
            f"images from {root / 'images'}, masks from {root / '1st_manual'}; of 2 annotators the first, 1st_manual; "
            "choose another one with mask_folder='2nd_manual'; mask holds fields of view"
        )
        second = find_interface(root, mask_folder="2nd_manual")
        second.initialize(root)
        vessels = (mask("2nd_manual02") * field_of_view(1)) // 255
        np.testing.assert_array_equal(second.load_segmentation("02_test"), vessels)

    def test_fields_of_view_alone_are_no_annotations(self, tmp_path: Path) -> None:
        root = drive_as_downloaded(tmp_path, ()) / "test"
        with pytest.raises(MissingDataError, match=r"mask seems to hold fields of view.* give mask_folder='mask'"):
            find_interface(root)
        forced = find_interface(root, mask_folder="mask")
        forced.initialize(root)
        np.testing.assert_array_equal(forced.load_segmentation("02_test"), field_of_view(1))

    def test_objects_on_black_are_annotations(self, tmp_path: Path) -> None:
        """Large cells of fluorescence images are in places of their own, unlike fields of view."""
        for shift, name in enumerate(("a", "b", "c")):
            cell = np.roll(field_of_view(), 6 * shift, 1)
            save_image(tmp_path / "images" / f"{name}.png", 200 * cell)
            save_image(tmp_path / "mask" / f"{name}.png", cell)
        interface = find_interface(tmp_path)
        interface.initialize(tmp_path)
        np.testing.assert_array_equal(interface.load_segmentation("c"), np.roll(field_of_view(), 12, 1))

    @pytest.mark.parametrize(("pattern", "observer"), [(None, "1stHO"), (".*_2ndHO", "2ndHO")])
    def test_observers_of_chase(self, pattern, observer, tmp_path: Path) -> None:
        chase_as_downloaded(tmp_path)
        interface = find_interface(tmp_path, mask_pattern=pattern)
        for name in interface.initialize(tmp_path):
            np.testing.assert_array_equal(interface.load_segmentation(name), mask(name + observer) // 255)
        remark = "; of 2 annotators the first, _1stHO; choose another one with mask_pattern='.*_2ndHO'"
        assert interface.found_in == f"images and masks from {tmp_path}" + (remark if pattern is None else "")

    def test_images_of_the_second_observer_alone_are_left_out(self, tmp_path: Path, caplog) -> None:
        chase_as_downloaded(tmp_path)
        (tmp_path / "Image_01R_1stHO.png").unlink()
        interface = find_interface(tmp_path)
        assert interface.initialize(tmp_path) == ["Image_01L"]
        assert "1 image without a mask, left out: Image_01R" in caplog.text

    @pytest.mark.parametrize(("folder", "annotator"), [(None, "ah"), ("labels-vk", "vk")])
    @pytest.mark.parametrize("ending", [".ppm.gz", ".ppm"])
    def test_annotators_of_stare(self, ending, folder, annotator, tmp_path: Path) -> None:
        stare_as_downloaded(tmp_path, ending)
        interface = find_interface(tmp_path, mask_folder=folder)
        for name in interface.initialize(tmp_path):
            np.testing.assert_array_equal(interface.load_image(name)[0], eye(name))
            np.testing.assert_array_equal(interface.load_segmentation(name), mask(name + annotator) // 255)
        assert ("mask_folder='labels-vk'" in interface.found_in) is (folder is None)

    @pytest.mark.parametrize("write", [lits, lits_compressed, lits_of_kaggle, lits_batches])
    def test_volumes_of_lits(self, write, tmp_path: Path) -> None:
        interface = find_interface(write(tmp_path))
        names = interface.initialize(tmp_path)
        assert names[:2] == ["volume-0", "volume-1"]
        for name in names:
            source = name.replace("volume-", "v")
            np.testing.assert_array_equal(interface.load_image(name)[0], image_of(source))
            np.testing.assert_array_equal(interface.load_segmentation(name), labels_of(source))

    def test_a_volume_in_two_folders_is_an_error(self, tmp_path: Path) -> None:
        lits_of_kaggle(tmp_path)
        save_nifti(tmp_path / "volume_pt2" / "volume-0.nii", image_of("other"))
        with pytest.raises(DataError, match=r"several files of one sample, .*volume_pt1.* and .*volume_pt2"):
            find_interface(tmp_path)

    def test_parts_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        interface = find_interface(DOWNLOADS["train and val"].write(tmp_path))
        interface.initialize(tmp_path)
        for name, source in (("train_1", "train1"), ("val_1", "val1")):
            np.testing.assert_array_equal(interface.load_image(name)[0], grey(source))
            np.testing.assert_array_equal(interface.load_segmentation(name), mask(source, 1))
