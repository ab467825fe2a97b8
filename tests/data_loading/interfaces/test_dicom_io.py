"""DICOM samples from folder to prediction: layouts, labels, formats, geometry, and every kind of bad input."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_checks import dicom_errors
from dicom_series import (
    ORIENTATIONS,
    enhanced,
    group,
    make_picture,
    make_rtstruct,
    make_series,
    random_volume,
    save_series,
    square,
)

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.cache.sample_files import read_sample, write_sample
from miscnn_tf.data_loading.dicom import write_seg
from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

SHAPE = (6, 20, 24)
STRUCTURES = {"Heart": 1, "Lung": 2}


def make_case(folder, rng, rois=None, orientation=ORIENTATIONS["axial"], **how):
    """A case as archives lay it out: folders in folders."""
    stored = random_volume(rng, SHAPE)
    series = make_series(stored, orientation, **how)
    save_series(folder / "01-01-2000-study" / "0.0-ct-17", series)
    rois = rois or {"Heart": [(n, square(3.5, 9.5)) for n in (1, 2)], "Lung": [(2, square(8.5, 14.5))]}
    save_series(folder / "01-01-2000-study" / "1.0-.simplified-9", [make_rtstruct(series, rois)])
    return stored, series


def expected_labels():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 4:10, 4:10] = 1
    labels[2, 9:15, 9:15] = 2
    return labels


@pytest.fixture
def data(tmp_path, rng):
    """A data set of two cases, and stored values of the first."""
    stored = [make_case(tmp_path / "data" / name, rng)[0] for name in ("P-002", "P-001")]
    (tmp_path / "data" / "notes.txt").write_text("no sample")
    (tmp_path / "data" / "empty").mkdir()
    return tmp_path / "data", stored[1]


def ready(folder, **how):
    how = {"classes": 3, "structure_dict": STRUCTURES, **how}
    interface = DICOM_interface(**how)
    interface.initialize(folder)
    return interface


def predicted(interface, index, labels, activation=False):
    image, extended = interface.load_image(index)
    sample = Sample(index, image, 1, interface.classes, extended, three_dim=interface.three_dim)
    sample.add_prediction(labels, activation_output=activation)
    return sample


class TestReading:
    def test_samples_are_the_folders_with_images_below_them(self, data):
        interface = DICOM_interface(classes=3)
        assert interface.initialize(data[0]) == ["P-001", "P-002"]
        assert DICOM_interface(pattern="P-0*2").initialize(data[0]) == ["P-002"]

    def test_the_volume_is_in_hounsfield_units_with_slices_first(self, data):
        image, extended = ready(data[0]).load_image("P-001")
        np.testing.assert_array_equal(image, data[1] - 1024)
        assert image.shape == SHAPE
        assert extended["type"] == "dicom"
        assert extended["spacing"].tolist() == [2.5, 0.8, 0.6]
        assert len(extended["files"]) == 6

    def test_what_is_known_of_it_comes_from_the_headers_alone(self, data, monkeypatch):
        interface = ready(data[0])
        wanted = interface.load_image("P-001")[1]
        monkeypatch.setattr("miscnn_tf.data_loading.interfaces.dicom_io.read_volume", None)
        found = interface.load_extended("P-001")
        assert found.keys() == wanted.keys()
        np.testing.assert_array_equal(found["affine"], wanted["affine"])

    def test_structures_become_labels_and_the_later_one_wins(self, data):
        labels = ready(data[0]).load_segmentation("P-001")
        np.testing.assert_array_equal(labels, expected_labels())
        turned = ready(data[0], structure_dict={"Lung": 2, "Heart": 1}).load_segmentation("P-001")
        assert turned[2, 9, 9] == 1

    def test_the_background_may_have_any_label_and_labels_may_be_mapped(self, data):
        interface = ready(data[0], mask_background=2, structure_dict={"Heart": 0, "Lung": 1}, label_map={1: 0})
        labels = interface.load_segmentation("P-001")
        np.testing.assert_array_equal(labels, np.where(expected_labels() > 0, 0, 2))

    def test_the_names_of_the_structures(self, data):
        assert ready(data[0]).get_ROI_names("P-001") == [[7, "Heart"], [8, "Lung"]]
        assert ready(data[0]).get_ROI_names("P-002") == [[7, "Heart"], [8, "Lung"]]

    def test_a_structure_that_is_not_in_the_dict_is_left_out_with_a_warning(self, data):
        interface = ready(data[0], structure_dict={"Lung": 1}, classes=2)
        with pytest.warns(UserWarning, match="Heart is not in structure_dict; the voxels become background"):
            labels = interface.load_segmentation("P-001")
        assert labels.sum() == 36

    def test_without_a_dict_the_error_writes_it(self, data):
        interface = ready(data[0], structure_dict=None)
        with pytest.raises(DataError, match=r"structure_dict=\{'Heart': 1, 'Lung': 2\}"):
            interface.load_segmentation("P-001")
        with pytest.raises(DataError, match="structure_dict="):
            interface.check("P-001")

    def test_a_seg_instead_of_an_rtstruct(self, data, rng):
        folder = data[0] / "P-001"
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        shutil.rmtree(next(folder.rglob("*simplified*")))
        write_seg(folder / "seg" / "labels.dcm", labels, next(folder.rglob("*ct-17")), {1: "Heart", 2: "Lung"})
        interface = ready(data[0])
        assert interface.get_ROI_names("P-001") == [[1, "Heart"], [2, "Lung"]]
        np.testing.assert_array_equal(interface.load_segmentation("P-001"), labels)
        swapped = ready(data[0], structure_dict={"Heart": 2, "Lung": 1})
        np.testing.assert_array_equal(swapped.load_segmentation("P-001"), np.array([0, 2, 1])[labels])
        # Without a dict, its numbers are the labels; and they are checked as labels are.
        np.testing.assert_array_equal(ready(data[0], structure_dict=None).load_segmentation("P-001"), labels)
        with pytest.raises(DataError, match="the label map holds 2"):
            ready(data[0], structure_dict=None, classes=2).load_segmentation("P-001")

    def test_a_single_image_can_be_a_2d_sample(self, tmp_path, rng):
        stored = random_volume(rng, (1, 20, 24))
        series = make_series(stored)
        save_series(tmp_path / "data" / "a", series)
        save_series(tmp_path / "data" / "a" / "rt", [make_rtstruct(series, {"Heart": [(0, square(3.5, 9.5))]})])
        interface = ready(tmp_path / "data", three_dim=False, structure_dict={"Heart": 1}, classes=2)
        image, extended = interface.load_image("a")
        np.testing.assert_array_equal(image, stored[0] - 1024)
        assert extended["spacing"].tolist() == [0.8, 0.6]
        assert interface.load_segmentation("a").shape == (20, 24)
        assert interface.load_segmentation("a").sum() == 36
        for prediction_format in ("nifti", "seg", "rtstruct"):
            interface.prediction_format = prediction_format
            interface.save_prediction(predicted(interface, "a", image > 900), tmp_path / prediction_format)
            np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / prediction_format), image > 900)

    def test_values_are_not_turned_into_hounsfield_units_again(self, data):
        from miscnn_tf.processing.subfunctions import TransformHU

        io = Data_IO(ready(data[0]), data[0])
        sample = io.sample_loader("P-001", load_seg=False)
        before = sample.img_data.copy()
        TransformHU(normalize=False).preprocessing(sample)
        np.testing.assert_array_equal(sample.img_data, before)


class TestChecks:
    def test_a_good_case_passes_without_a_word(self, data):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ready(data[0]).check("P-001")

    def test_a_missing_slice(self, data):
        next((data[0] / "P-001").rglob("*ct-17/000003.dcm")).unlink()
        with pytest.raises(DataError, match="has gaps"):
            ready(data[0]).check("P-001", load_seg=False)

    def test_a_truncated_slice(self, data):
        path = next((data[0] / "P-001").rglob("*ct-17/000003.dcm"))
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"000003\.dcm: the file is truncated"):
            ready(data[0]).check("P-001", load_seg=False)

    def test_a_missing_annotation_matters_for_training_only(self, data):
        shutil.rmtree(next((data[0] / "P-001").rglob("*simplified*")))
        interface = ready(data[0])
        interface.check("P-001", load_seg=False)
        with pytest.raises(MissingDataError, match="holds no RTSTRUCT or SEG"):
            interface.check("P-001")

    def test_two_series_without_a_choice(self, tmp_path, rng):
        save_series(tmp_path / "data" / "a", make_series(random_volume(rng), SeriesDescription="arterial"), "a{}.dcm")
        save_series(tmp_path / "data" / "a", make_series(random_volume(rng), SeriesDescription="venous"), "v{}.dcm")
        with pytest.raises(DataError, match=r"holds 2 series.*arterial.*venous"):
            ready(tmp_path / "data").load_image("a")
        assert ready(tmp_path / "data", series="venous").load_image("a")[0].shape == (6, 9, 7)

    def test_channels_and_dimension(self, data):
        with pytest.raises(DataError, match="channels=2"):
            ready(data[0], channels=2).check("P-001")
        with pytest.raises(DataError, match="three_dim=True"):
            ready(data[0], three_dim=False).check("P-001")

    def test_folders_without_samples_say_what_was_found(self, tmp_path, data, rng):
        with pytest.raises(MissingDataError, match="does not exist"):
            ready(tmp_path / "no")
        with pytest.raises(MissingDataError, match="pattern='Q' matches none of the 3 folders"):
            ready(data[0], pattern="Q")
        with pytest.raises(MissingDataError, match="holds a DICOM series"):
            ready(data[0], pattern="empty")
        with pytest.raises(MissingDataError, match="sample 'P-003' is not in"):
            ready(data[0]).load_image("P-003")
        with pytest.raises(MissingDataError, match="is itself a sample"):
            ready(next((data[0] / "P-001").rglob("*ct-17")))

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"structure_dict": {"Heart": 9}}, "not one of the 3 classes"),
            ({"mask_background": 3}, "mask_background=3"),
            ({"prediction_format": "segs"}, "Did you mean 'seg'"),
            ({"series": "("}, "not a valid regular expression"),
            ({"label_map": {1: 7}}, "label_map maps 1 to 7"),
            ({"modality": 3}, "modality=3 must be a text"),
            ({"frames": {"DiffusionBvalue": 3}}, "Did you mean 'DiffusionBValue'"),
            ({"frames": "b1000"}, "frames='b1000' must be a dict"),
            ({"frames": {"EchoTime": None}}, "the value of EchoTime must be a number"),
        ],
    )
    def test_arguments_that_cannot_be_used(self, arguments, told):
        with pytest.raises(ConfigurationError, match=told):
            DICOM_interface(classes=3, **arguments)

    def test_the_fingerprint_follows_the_files_and_the_meaning_of_labels(self, data):
        first = ready(data[0]).fingerprint("P-001", data[0])
        assert ready(data[0]).fingerprint("P-001", data[0]) == first
        changed = {
            ready(data[0], structure_dict={"Lung": 2, "Heart": 1}).fingerprint("P-001", data[0]),
            ready(data[0], mask_background=1).fingerprint("P-001", data[0]),
            ready(data[0], annotation_tag="simplified").fingerprint("P-001", data[0]),
        }
        path = next((data[0] / "P-001").rglob("*ct-17/000003.dcm"))
        path.write_bytes(path.read_bytes() + b"\0\0")
        changed.add(ready(data[0]).fingerprint("P-001", data[0]))
        assert len(changed | {first}) == 5
        assert ready(data[0]).fingerprint("P-009", data[0]) is None


class TestRadiographsAndFrames:
    def test_a_folder_of_radiographs_is_read_as_2d(self, tmp_path, rng):
        pictures = random_volume(rng, (2, 20, 24))
        for name, picture in zip("ab", pictures, strict=True):
            save_series(tmp_path / "data" / name, [make_picture(picture, Modality="CR")])
        interface = find_interface(tmp_path / "data", classes=2)
        assert (type(interface), interface.three_dim) == (DICOM_interface, False)
        data_io = Data_IO(interface, tmp_path / "data")
        data_io.check(["a", "b"], load_seg=False)
        image, extended = interface.load_image("b")
        np.testing.assert_array_equal(image, pictures[1])
        assert extended["spacing"].tolist() == [0.2, 0.1]
        assert find_interface(tmp_path / "data", classes=2, three_dim=True).three_dim
        interface.save_prediction(predicted(interface, "b", image > 900), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("b", tmp_path / "out"), image > 900)
        with pytest.raises(ConfigurationError, match=r"000000\.dcm has no position in the patient"):
            interface.write_file(predicted(interface, "b", image > 900), tmp_path / "b.dcm")
        with pytest.raises(DataError, match=r"an RTSTRUCT or SEG cannot be matched to it"):
            interface.load_segmentation("b")

    def test_a_radiograph_beside_masks_of_other_kinds_is_chosen_by_modality(self, tmp_path, rng):
        save_series(tmp_path / "data" / "a", make_series(random_volume(rng, SHAPE)), "a{}.dcm")
        picture = random_volume(rng, (20, 24))
        save_series(tmp_path / "data" / "a", [make_picture(picture)], "b{}.dcm")
        assert find_interface(tmp_path / "data", classes=2).three_dim
        interface = find_interface(tmp_path / "data", classes=2, modality="DX")
        assert (interface.modality, interface.three_dim) == ("DX", False)
        interface.initialize(tmp_path / "data")
        np.testing.assert_array_equal(interface.load_image("a")[0], picture)

    def test_folders_of_screen_captures_and_reports_get_no_advice_to_rename(self, tmp_path, rng):
        capture = make_picture(random_volume(rng, (20, 24)), Modality="OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
        save_series(tmp_path / "data" / "a", [capture])
        with pytest.raises(MissingDataError, match="1 of OT without ImagePositionPatient") as error:
            ready(tmp_path / "data")
        assert "ename" not in str(error.value)

    @pytest.mark.parametrize("prediction_format", ["nifti", "seg", "rtstruct"])
    def test_a_b_value_is_read_and_its_prediction_written(self, tmp_path, rng, prediction_format):
        stored = random_volume(rng, (2, *SHAPE))
        series = [one for volume in stored for one in make_series(volume, Modality="MR")]
        more = [{"MRDiffusionSequence": group(DiffusionBValue=value)} for value in (0, 1000) for _ in range(6)]
        one = enhanced(series, more, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR")
        save_series(tmp_path / "data" / "a", [one])
        with pytest.raises(DataError, match=r"DICOM_interface\(frames="):
            ready(tmp_path / "data").check("a", load_seg=False)
        interface = ready(tmp_path / "data", frames={"DiffusionBValue": 1000}, prediction_format=prediction_format)
        image, _ = interface.load_image("a")
        np.testing.assert_array_equal(image, stored[1] - 1018 + np.arange(6)[:, np.newaxis, np.newaxis])
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        interface.save_prediction(predicted(interface, "a", labels), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), labels)
        np.testing.assert_array_equal(interface.read_file(tmp_path / "data" / "a" / "000000.dcm")[0], image)

    def test_modality_and_frames_are_in_the_fingerprint_and_the_configuration(self, data):
        plain = ready(data[0]).fingerprint("P-001", data[0])
        chosen = [{"modality": "CT"}, {"frames": {"AcquisitionNumber": 1}}, {"frames": {"AcquisitionNumber": 2}}]
        digests = {ready(data[0], **one).fingerprint("P-001", data[0]) for one in chosen}
        assert len(digests | {plain}) == 4
        interface = DICOM_interface(modality="MR", frames={"ImageType": ("ORIGINAL", "PRIMARY"), "EchoTime": 2.5})
        config = json.loads(json.dumps(get_config(interface)))
        assert config["frames"] == {"ImageType": ["ORIGINAL", "PRIMARY"], "EchoTime": 2.5}
        assert get_config(DICOM_interface(**config)) == get_config(interface)

    def test_a_single_file_with_the_ending_ima(self, tmp_path, rng):
        stored = random_volume(rng, SHAPE)
        save_series(tmp_path, make_series(stored), "{}.IMA")
        assert DICOM_interface.check_file_termination(".IMA")
        np.testing.assert_array_equal(DICOM_interface().read_file(tmp_path / "0.IMA")[0], stored - 1024)


class TestSettings:
    def test_no_default_is_shared(self):
        one, other = DICOM_interface(), DICOM_interface()
        one.structure_dict["Heart"] = 1
        assert other.structure_dict == {}

    def test_it_can_be_written_as_json_and_copied_and_sent_to_a_process(self, data):
        interface = ready(data[0], annotation_tag="simplified", series=".*", prediction_format="seg", modality="CT")
        again = DICOM_interface(**get_config(interface))
        assert get_config(again) == get_config(interface)
        for one in (copy.deepcopy(interface), pickle.loads(pickle.dumps(interface))):
            np.testing.assert_array_equal(one.load_segmentation("P-001"), expected_labels())

    def test_the_structures_name_the_classes(self):
        assert ready_names({"Heart": 1, "Lung": 2}) == ("background", "Heart", "Lung")
        assert ready_names({"Heart": 1, "Lung": 0}, mask_background=2) == ("Lung", "Heart", "background")
        # Two names for one class, or none, name nothing.
        assert ready_names({"Heart": 1, "Cor": 1, "Lung": 2}) == ("0", "1", "2")
        assert ready_names({"Heart": 1}) == ("0", "1", "2")

    def test_endings(self):
        assert DICOM_interface.check_file_termination(".dcm")
        assert DICOM_interface.check_file_termination(".DCM")
        assert not DICOM_interface.check_file_termination(".nii.gz")
        assert DICOM_interface.writes_file_termination(".nii.gz")
        assert not DICOM_interface.writes_file_termination(".png")


def ready_names(structures, **how):
    return DICOM_interface(classes=3, structure_dict=structures, **how).names_of_classes()


class TestPredictions:
    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_nifti_lies_over_the_series_in_simpleitk(self, tmp_path, rng, name):
        make_case(tmp_path / "data" / "a", rng, orientation=ORIENTATIONS[name])
        interface = ready(tmp_path / "data")
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        interface.save_prediction(predicted(interface, "a", labels), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), labels)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(next((tmp_path / "data").rglob("*ct-17")))))
        image, prediction = reader.Execute(), sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
        assert prediction.GetPixelID() == sitk.sitkUInt8
        for index in np.ndindex(*labels.shape):
            point = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
            assert prediction[prediction.TransformPhysicalPointToIndex(point)] == labels[index]

    @pytest.mark.parametrize("prediction_format", ["seg", "rtstruct"])
    @pytest.mark.parametrize("background", [0, 1])
    def test_dicom_comes_back_and_is_valid(self, tmp_path, data, rng, prediction_format, background):
        structures = {"Heart": 1 - background, "Lung": 2}
        how = {"structure_dict": structures, "mask_background": background, "prediction_format": prediction_format}
        interface = ready(data[0], **how)
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        interface.save_prediction(predicted(interface, "P-001", labels), tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["P-001.dcm"]
        np.testing.assert_array_equal(interface.load_prediction("P-001", tmp_path / "out"), labels)
        # It can be read without knowing the format, and as the annotation of the series.
        np.testing.assert_array_equal(ready(data[0], **how).load_prediction("P-001", tmp_path / "out"), labels)
        shutil.rmtree(next((data[0] / "P-001").rglob("*simplified*")))
        shutil.copy(tmp_path / "out" / "P-001.dcm", data[0] / "P-001" / "annotation.dcm")
        np.testing.assert_array_equal(interface.load_segmentation("P-001"), labels)
        assert dicom_errors(tmp_path / "out" / "P-001.dcm") == []

    @pytest.mark.filterwarnings("ignore:.*gantry was tilted")
    @pytest.mark.parametrize("prediction_format", ["nifti", "seg", "rtstruct"])
    def test_a_tilted_gantry_keeps_its_voxels_and_their_places(self, tmp_path, rng, prediction_format):
        make_case(tmp_path / "data" / "a", rng, shift=(0, 0.7, 0))
        interface = ready(tmp_path / "data", prediction_format=prediction_format)
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        sample = predicted(interface, "a", labels)
        interface.save_prediction(sample, tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), labels)
        if prediction_format == "nifti":
            written = nibabel.load(tmp_path / "out" / "a.nii.gz")
            np.testing.assert_allclose(written.affine, sample.extended["affine"], atol=1e-5)
            # A qform cannot hold the shear, and none says nothing wrong.
            assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (0, 1)

    def test_class_probabilities_are_nifti_whatever_the_format(self, tmp_path, data, rng):
        interface = ready(data[0], prediction_format="seg")
        probabilities = rng.random((*SHAPE, 3)).astype(np.float32)
        sample = predicted(interface, "P-001", probabilities, activation=True)
        interface.save_prediction(sample, tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("P-001", tmp_path / "out"), probabilities)
        with pytest.raises(ConfigurationError, match=r"written as NIfTI only"):
            interface.write_file(sample, tmp_path / "a.dcm")

    def test_a_sample_from_elsewhere_cannot_be_dicom(self, tmp_path, data):
        interface = ready(data[0], prediction_format="rtstruct")
        sample = Sample("x", np.zeros((3, 4, 5)), 1, 3, three_dim=True)
        sample.add_prediction(np.zeros((3, 4, 5), np.uint8))
        with pytest.raises(ConfigurationError, match="was not read from DICOM"):
            interface.write_file(sample, tmp_path / "a.dcm")
        with pytest.raises(ConfigurationError, match=r"end in \.dcm or \.nii\.gz"):
            interface.write_file(sample, tmp_path / "a.png")

    def test_a_missing_prediction_is_named(self, tmp_path, data):
        with pytest.raises(MissingDataError, match=r"P-001\.nii\.gz does not exist; predict 'P-001' first"):
            ready(data[0]).load_prediction("P-001", tmp_path)
        with pytest.raises(MissingDataError, match=r"P-001\.dcm does not exist; predict 'P-001' first"):
            ready(data[0], prediction_format="seg").load_prediction("P-001", tmp_path)

    def test_what_is_known_of_a_sample_survives_the_prepared_store(self, tmp_path, data):
        interface = ready(data[0], prediction_format="seg")
        sample = predicted(interface, "P-001", expected_labels())
        write_sample(tmp_path / "store", sample)
        stored = read_sample(tmp_path / "store")
        interface.write_file(stored, tmp_path / "seg.dcm")
        assert (tmp_path / "seg.dcm").stat().st_size > 1000


class TestFiles:
    def test_a_folder_a_file_of_it_and_a_list_are_the_series(self, data):
        interface = DICOM_interface(classes=3)
        folder = next((data[0] / "P-001").rglob("*ct-17"))
        for path in (data[0] / "P-001", folder, str(folder / "000002.dcm"), sorted(folder.iterdir())):
            image, extended = interface.read_file(path)
            np.testing.assert_array_equal(image, data[1] - 1024)
            assert len(extended["files"]) == 6

    def test_what_is_no_image_is_refused(self, tmp_path, data):
        interface = DICOM_interface(classes=3)
        with pytest.raises(MissingDataError, match="the file or folder does not exist"):
            interface.read_file(tmp_path / "no.dcm")
        with pytest.raises(DataError, match="is not a DICOM image"):
            interface.read_file(next((data[0] / "P-001").rglob("*simplified*/*.dcm")))
        with pytest.raises(MissingDataError, match="holds no DICOM series"):
            interface.read_file(data[0] / "empty")

    def test_a_result_file_next_to_the_data(self, tmp_path, data):
        interface = DICOM_interface(classes=3)
        image, extended = interface.read_file(data[0] / "P-001")
        sample = Sample("x", image, 1, 3, extended, three_dim=True)
        sample.add_prediction(expected_labels())
        for name in ("a.dcm", "a.nii.gz", "a.nii"):
            interface.write_file(sample, tmp_path / name)
            assert (tmp_path / name).stat().st_size > 100
