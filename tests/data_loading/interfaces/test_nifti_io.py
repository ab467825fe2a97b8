"""NIfTI samples: geometry from read to write, and every kind of bad input."""

from __future__ import annotations

import itertools
import json
import logging
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from layout_data import image_of, labels_of, save_nifti
from scipy.spatial.transform import Rotation

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, RepeatedWarning, StorageError

SHAPE = (5, 6, 7)


def write(folder: Path, image: np.ndarray, seg: np.ndarray | None = None, affine=None, ending=".nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([0.7, 0.9, 3, 1]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(image, affine, dtype=image.dtype), folder / f"imaging{ending}")
    if seg is not None:
        nibabel.save(nibabel.Nifti1Image(seg, affine, dtype=seg.dtype), folder / f"segmentation{ending}")
    return folder


def random_image(rng, shape=SHAPE) -> np.ndarray:
    return rng.integers(-1000, 1000, shape).astype(np.int16)


def random_labels(rng, shape=SHAPE, classes=3) -> np.ndarray:
    return rng.integers(0, classes, shape).astype(np.uint8)


def loaded(interface: NIFTI_interface, index: str, prediction: np.ndarray, activation=False) -> Sample:
    image, extended = interface.load_image(index)
    sample = Sample(
        index, image, interface.channels, interface.classes, extended=extended, three_dim=interface.three_dim
    )
    sample.add_prediction(prediction, activation_output=activation)
    return sample


def assert_lies_over(image_path: Path, prediction_path: Path, labels: np.ndarray) -> None:
    """Each voxel centre of the image, taken through the world, finds its own label in the prediction."""
    image, prediction = sitk.ReadImage(str(image_path)), sitk.ReadImage(str(prediction_path))
    for index in np.ndindex(*labels.shape):
        point = image.TransformIndexToPhysicalPoint([int(i) for i in index])
        assert prediction[prediction.TransformPhysicalPointToIndex(point)] == labels[index]
    np.testing.assert_allclose(image.GetSpacing(), prediction.GetSpacing(), rtol=1e-5)


def oriented(order, signs) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[3] = (0, 0, 0, 1)
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (0.7, 0.9, 3.0)[axis]
    affine[:3, 3] = (11, -23, 5)
    return affine


@pytest.fixture
def two_cases(tmp_path, rng) -> Path:
    for name in ("case_00001", "case_00000"):
        write(tmp_path / "data" / name, random_image(rng), random_labels(rng))
    return tmp_path / "data"


class TestGeometry:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
    def test_all_48_orientations_come_back_in_place(self, tmp_path, rng, order, signs):
        labels = random_labels(rng)
        folder = write(tmp_path / "data" / "a", random_image(rng), labels, oriented(order, signs))
        interface = NIFTI_interface(classes=3)
        interface.initialize(tmp_path / "data")
        sample = loaded(interface, "a", interface.load_segmentation("a"))
        assert sample.extended["spacing"].tolist() == [0.7, 0.9, 3.0]
        interface.save_prediction(sample, tmp_path / "out")
        assert_lies_over(folder / "imaging.nii.gz", tmp_path / "out" / "a.nii.gz", labels)

    @pytest.mark.parametrize("code", [(0, 1), (1, 0), (1, 1), (2, 4), (0, 0)])
    @pytest.mark.parametrize("angles", [(0, 0, 30), (12, -25, 77), (180, 3, 90)])
    def test_oblique_volumes_come_back_in_place(self, tmp_path, rng, angles, code):
        labels = random_labels(rng)
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * (0.7, 0.9, 3.0)
        affine[:3, 3] = (-80, 40, 900)
        image = nibabel.Nifti1Image(random_image(rng), None)
        image.set_qform(affine, code[0])
        image.set_sform(affine, code[1])
        (tmp_path / "data" / "a").mkdir(parents=True)
        nibabel.save(image, tmp_path / "data" / "a" / "imaging.nii.gz")
        interface = NIFTI_interface(classes=3)
        interface.initialize(tmp_path / "data")
        sample = loaded(interface, "a", labels)
        assert sample.extended["spacing"].tolist() == [0.7, 0.9, 3.0]
        interface.save_prediction(sample, tmp_path / "out")
        assert_lies_over(tmp_path / "data" / "a" / "imaging.nii.gz", tmp_path / "out" / "a.nii.gz", labels)

    def test_real_mri_comes_back_in_place(self, tmp_path, hippocampus):
        interface = NIFTI_interface(classes=3)
        interface.initialize(hippocampus / "cases")
        labels = interface.load_segmentation("hippocampus_007")
        interface.save_prediction(loaded(interface, "hippocampus_007", labels), tmp_path)
        source = hippocampus / "cases" / "hippocampus_007" / "imaging.nii.gz"
        first, second = nibabel.load(source), nibabel.load(tmp_path / "hippocampus_007.nii.gz")
        np.testing.assert_array_equal(first.affine, second.affine)
        for form in ("qform_code", "sform_code"):
            assert first.header[form] == second.header[form]
        np.testing.assert_array_equal(np.asanyarray(second.dataobj), labels)

    def test_geometry_survives_storage_as_json_and_arrays(self, two_cases):
        interface = NIFTI_interface(classes=3)
        interface.initialize(two_cases)
        _, extended = interface.load_image("case_00000")
        plain = {name: fact for name, fact in extended.items() if not isinstance(fact, np.ndarray)}
        assert json.loads(json.dumps(plain)) == plain
        assert extended["type"] == "nifti"
        assert extended["affine"].shape == (4, 4)
        assert extended["spacing"].shape == (3,)


class TestPredictions:
    def test_labels_are_3d_integers(self, two_cases, tmp_path, rng):
        # MIScnn writes a fourth axis of length 1.
        interface = NIFTI_interface(classes=3)
        interface.initialize(two_cases)
        labels = random_labels(rng)
        interface.save_prediction(loaded(interface, "case_00000", labels), tmp_path / "out")
        image = nibabel.load(tmp_path / "out" / "case_00000.nii.gz")
        assert image.shape == SHAPE
        assert image.get_data_dtype() == np.uint8
        read = interface.load_prediction("case_00000", tmp_path / "out")
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)

    def test_activation_output_stays_probabilities(self, two_cases, tmp_path, rng):
        # MIScnn casts them to uint16, so that they become 0 and 1.
        interface = NIFTI_interface(classes=3)
        interface.initialize(two_cases)
        probabilities = rng.random((*SHAPE, 3))
        interface.save_prediction(loaded(interface, "case_00000", probabilities, True), tmp_path)
        image = nibabel.load(tmp_path / "case_00000.nii.gz")
        assert image.shape == (*SHAPE, 3)
        assert image.get_data_dtype() == np.float32
        read = interface.load_prediction("case_00000", tmp_path)
        np.testing.assert_array_equal(read, probabilities.astype(np.float32))

    def test_more_than_256_classes(self, two_cases, tmp_path):
        interface = NIFTI_interface(classes=300)
        interface.initialize(two_cases)
        labels = np.full(SHAPE, 299, np.int64)
        interface.save_prediction(loaded(interface, "case_00000", labels), tmp_path)
        assert nibabel.load(tmp_path / "case_00000.nii.gz").get_data_dtype() == np.uint16
        np.testing.assert_array_equal(interface.load_prediction("case_00000", tmp_path), labels)

    def test_no_prediction_yet(self, two_cases, tmp_path):
        interface = NIFTI_interface()
        interface.initialize(two_cases)
        with pytest.raises(MissingDataError, match=r"prediction .*case_00000\.nii\.gz does not exist"):
            interface.load_prediction("case_00000", tmp_path)

    def test_sample_without_prediction(self, two_cases, tmp_path):
        interface = NIFTI_interface()
        interface.initialize(two_cases)
        image, extended = interface.load_image("case_00000")
        with pytest.raises(ConfigurationError, match="has no prediction"):
            interface.save_prediction(Sample("case_00000", image, 1, 2, extended), tmp_path)

    def test_fractional_labels_are_not_written(self, two_cases, tmp_path):
        interface = NIFTI_interface()
        interface.initialize(two_cases)
        with pytest.raises(DataError, match=r"holds 0\.5"):
            interface.save_prediction(loaded(interface, "case_00000", np.full(SHAPE, 0.5)), tmp_path)

    @pytest.mark.parametrize("index", ["../evil", "/tmp/evil", "a/../../evil", ""])
    def test_an_index_that_leads_out_is_refused(self, two_cases, tmp_path, index, rng):
        interface = NIFTI_interface(classes=3)
        interface.initialize(two_cases)
        sample = loaded(interface, "case_00000", random_labels(rng))
        sample.index = index
        for act in (
            lambda: interface.save_prediction(sample, tmp_path / "out"),
            lambda: interface.load_prediction(index, tmp_path / "out"),
            lambda: interface.load_image(index),
            lambda: interface.load_segmentation(index),
            lambda: interface.check(index),
        ):
            with pytest.raises(DataError, match="cannot be a file name"):
                act()
        assert not list(tmp_path.rglob("*evil*"))

    def test_an_output_folder_that_is_a_file(self, two_cases, tmp_path, rng):
        (tmp_path / "out").write_text("")
        interface = NIFTI_interface(classes=3)
        interface.initialize(two_cases)
        with pytest.raises(StorageError, match="out"):
            interface.save_prediction(loaded(interface, "case_00000", random_labels(rng)), tmp_path / "out")


class TestReading:
    def test_integer_types_are_kept(self, two_cases):
        interface = NIFTI_interface()
        interface.initialize(two_cases)
        assert interface.load_image("case_00000")[0].dtype == np.int16

    def test_float64_becomes_float32(self, tmp_path, rng):
        write(tmp_path / "a", rng.random(SHAPE))
        interface = NIFTI_interface()
        interface.initialize(tmp_path)
        assert interface.load_image("a")[0].dtype == np.float32

    def test_plain_nii(self, tmp_path, rng):
        image, labels = random_image(rng), random_labels(rng)
        write(tmp_path / "a", image, labels, ending=".nii")
        interface = NIFTI_interface(classes=3)
        assert interface.initialize(tmp_path) == ["a"]
        interface.check("a")
        np.testing.assert_array_equal(interface.load_image("a")[0], image)
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels)

    def test_the_fourth_axis_is_channels(self, tmp_path, rng):
        image = random_image(rng, (*SHAPE, 4))
        write(tmp_path / "a", image, random_labels(rng))
        interface = NIFTI_interface(channels=4, classes=3)
        interface.initialize(tmp_path)
        interface.check("a")
        np.testing.assert_array_equal(interface.load_image("a")[0], image)

    @pytest.mark.parametrize("shape", [(5, 6, 4), (5, 6, 1)])
    def test_a_short_last_axis_is_not_taken_for_channels(self, tmp_path, rng, shape):
        write(tmp_path / "a", random_image(rng, shape))
        interface = NIFTI_interface(channels=1)
        interface.initialize(tmp_path)
        assert loaded(interface, "a", np.zeros(shape)).shape == (*shape, 1)

    def test_multi_modal_files_are_channels(self, tmp_path, rng):
        images = [random_image(rng) for _ in range(3)]
        images[2] = images[2].astype(np.float32)
        for number, image in enumerate(images):
            write(tmp_path / "a", image)
            (tmp_path / "a" / "imaging.nii.gz").rename(tmp_path / "a" / f"imaging_{number:04d}.nii.gz")
        interface = NIFTI_interface(channels=3)
        assert interface.initialize(tmp_path) == ["a"]
        interface.check("a", load_seg=False)
        image = interface.load_image("a")[0]
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, np.stack(images, axis=-1))
        np.testing.assert_array_equal(interface.read_file(tmp_path / "a")[0], image)
        files = sorted((tmp_path / "a").iterdir())
        np.testing.assert_array_equal(interface.read_file(files[::-1])[0], image[..., ::-1])
        fewer = NIFTI_interface(channels=2)
        fewer.initialize(tmp_path)
        with pytest.raises(DataError, match=r"3 channel.*channels=2"):
            fewer.load_image("a")

    def test_a_gap_in_the_modalities(self, tmp_path, rng):
        for number in (0, 2):
            write(tmp_path / "a", random_image(rng))
            (tmp_path / "a" / "imaging.nii.gz").rename(tmp_path / "a" / f"imaging_{number:04d}.nii.gz")
        interface = NIFTI_interface(channels=2)
        interface.initialize(tmp_path)
        with pytest.raises(MissingDataError, match=r"imaging_0001\.nii\.gz is missing"):
            interface.load_image("a")

    def test_modalities_on_different_grids(self, tmp_path, rng):
        for number in range(2):
            write(tmp_path / "a", random_image(rng), affine=np.diag([1, 1, 1 + number, 1]))
            (tmp_path / "a" / "imaging.nii.gz").rename(tmp_path / "a" / f"imaging_{number:04d}.nii.gz")
        interface = NIFTI_interface(channels=2)
        interface.initialize(tmp_path)
        with pytest.raises(DataError, match=r"imaging_0001.*spacing \(1, 1, 1\) mm against \(1, 1, 2\) mm"):
            interface.check("a", load_seg=False)

    @pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
    def test_2d_images(self, tmp_path, rng, shape):
        image, labels = random_image(rng, shape), random_labels(rng, shape)
        write(tmp_path / "data" / "a", image, labels)
        interface = NIFTI_interface(classes=3, three_dim=False)
        interface.initialize(tmp_path / "data")
        interface.check("a")
        found, extended = interface.load_image("a")
        np.testing.assert_array_equal(found, image.reshape(5, 6))
        assert extended["spacing"].tolist() == [0.7, 0.9]
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels.reshape(5, 6))
        interface.save_prediction(loaded(interface, "a", labels.reshape(5, 6)), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), labels.reshape(5, 6))
        assert_lies_over(tmp_path / "data" / "a" / "imaging.nii.gz", tmp_path / "out" / "a.nii.gz", labels)
        probabilities = rng.random((5, 6, 3)).astype(np.float32)
        interface.save_prediction(loaded(interface, "a", probabilities, True), tmp_path / "out")
        np.testing.assert_array_equal(interface.load_prediction("a", tmp_path / "out"), probabilities)

    def test_2d_channels(self, tmp_path, rng):
        image = random_image(rng, (5, 6, 1, 3))
        write(tmp_path / "a", image)
        interface = NIFTI_interface(channels=3, three_dim=False)
        interface.initialize(tmp_path)
        np.testing.assert_array_equal(interface.load_image("a")[0], image[:, :, 0])

    def test_files_from_anywhere_round_trip(self, two_cases, tmp_path, rng):
        interface = NIFTI_interface(classes=3)
        image, extended = interface.read_file(two_cases / "case_00000" / "imaging.nii.gz")
        sample = Sample("scan", image, 1, 3, extended)
        labels = random_labels(rng)
        sample.add_prediction(labels)
        interface.write_file(sample, tmp_path / "seg.nii.gz")
        assert_lies_over(two_cases / "case_00000" / "imaging.nii.gz", tmp_path / "seg.nii.gz", labels)

    def test_nan_voxels_are_warned_with_the_file(self, tmp_path, rng):
        image = rng.random(SHAPE).astype(np.float32)
        image[1, 2, 3] = np.nan
        write(tmp_path / "a", image)
        interface = NIFTI_interface()
        interface.initialize(tmp_path)
        with pytest.warns(UserWarning, match=r"a/imaging\.nii\.gz: 1 of 210 voxels are NaN"):
            interface.load_image("a")

    def test_labels_are_checked_and_mapped(self, tmp_path, rng):
        labels = random_labels(rng, classes=2) * np.uint8(255)
        write(tmp_path / "a", random_image(rng), labels)
        interface = NIFTI_interface()
        interface.initialize(tmp_path)
        with pytest.raises(DataError, match=r"a/segmentation\.nii\.gz: the label map holds 255"):
            interface.load_segmentation("a")
        interface = NIFTI_interface(label_map={255: 1})
        interface.initialize(tmp_path)
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels // 255)
        assert NIFTI_interface(**get_config(interface)).label_map == {255: 1}


class TestCheck:
    def check(self, folder: Path, **arguments) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            interface = NIFTI_interface(**arguments)
            interface.initialize(folder.parent)
            interface.check(folder.name)

    def test_good(self, tmp_path, rng):
        self.check(write(tmp_path / "a", random_image(rng), random_labels(rng)))

    def test_decodes_nothing(self, two_cases, monkeypatch):
        from miscnn_tf.data_loading.interfaces import nifti_io

        monkeypatch.setattr(nifti_io, "read_voxels", lambda info: pytest.fail("decoded"))
        self.check(two_cases / "case_00000")

    def test_missing_segmentation(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng))
        with pytest.raises(MissingDataError, match=r"a holds no segmentation\.nii\.gz \(found: imaging\.nii\.gz\)"):
            self.check(folder)
        interface = NIFTI_interface()
        interface.initialize(tmp_path)
        interface.check("a", load_seg=False)

    def test_different_shape(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng, (5, 6, 8)))
        with pytest.raises(
            DataError,
            match=r"segmentation\.nii\.gz is not on the grid.*shape \(5, 6, 7\) against \(5, 6, 8\).*Resample",
        ):
            self.check(folder)

    def test_different_affine(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng))
        moved = np.diag([0.7, 0.9, 3, 1])
        moved[0, 3] = 5
        nibabel.save(nibabel.Nifti1Image(random_labels(rng), moved), folder / "segmentation.nii.gz")
        with pytest.raises(DataError, match=r"segmentation\.nii\.gz is not on the grid.*first voxel 5 mm apart"):
            self.check(folder)

    def test_affines_that_differ_by_rounding(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng))
        moved = np.diag([0.70001, 0.9, 3, 1])
        moved[0, 3] = 1e-3
        nibabel.save(nibabel.Nifti1Image(random_labels(rng), moved), folder / "segmentation.nii.gz")
        self.check(folder)

    def test_wrong_channels(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng, (*SHAPE, 2)), random_labels(rng))
        with pytest.raises(DataError, match=r"imaging\.nii\.gz: the image has 2 channel.*channels=2"):
            self.check(folder)

    def test_2d_data_with_a_3d_interface(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng, (5, 6)), random_labels(rng, (5, 6)))
        with pytest.raises(DataError, match=r"imaging\.nii\.gz.*reads 3D.*three_dim=False"):
            self.check(folder)

    def test_3d_data_with_a_2d_interface(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng))
        with pytest.raises(DataError, match=r"imaging\.nii\.gz"):
            self.check(folder, three_dim=False)

    def test_one_hot_segmentation(self, tmp_path, rng):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng, (*SHAPE, 2)))
        with pytest.raises(DataError, match=r"segmentation\.nii\.gz.*one value per voxel"):
            self.check(folder)

    @pytest.mark.parametrize("name", ["imaging", "segmentation"])
    def test_truncated_file(self, tmp_path, rng, name):
        folder = write(tmp_path / "a", random_image(rng), random_labels(rng))
        path = folder / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(DataError, match=rf"{name}\.nii\.gz"):
            self.check(folder)


class TestInitialize:
    def test_sorted_and_without_stray_files(self, two_cases, caplog):
        (two_cases / "notes.txt").write_text("stray")
        (two_cases / ".hidden").mkdir()
        (two_cases / ".hidden" / "imaging.nii.gz").write_text("")
        (two_cases / "case_00002").mkdir()
        with caplog.at_level(logging.INFO):
            assert NIFTI_interface().initialize(two_cases) == ["case_00000", "case_00001"]
        assert "case_00002 is not a sample" in caplog.text

    def test_pattern_matches_the_whole_name(self, two_cases):
        assert NIFTI_interface(pattern="case_0000[1-9]*").initialize(two_cases) == ["case_00001"]
        with pytest.raises(MissingDataError, match=r"pattern='case' matches none of the 2 folders.*case_00000"):
            NIFTI_interface(pattern="case").initialize(two_cases)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(MissingDataError, match="nowhere does not exist"):
            NIFTI_interface().initialize(tmp_path / "nowhere")

    def test_a_file_instead_of_a_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(MissingDataError, match="file is a file, not a folder"):
            NIFTI_interface().initialize(tmp_path / "file")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"holds no sample folders \(found: nothing\)"):
            NIFTI_interface().initialize(tmp_path)

    def test_folders_without_images(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "scan.mha").write_text("")
        with pytest.raises(MissingDataError, match=r"holds imaging\.nii\.gz; a holds scan\.mha"):
            NIFTI_interface().initialize(tmp_path)

    def test_the_folder_of_one_sample(self, two_cases):
        with pytest.raises(MissingDataError, match=r"is itself a sample.*give the folder above"):
            NIFTI_interface().initialize(two_cases / "case_00000")

    def test_bad_pattern(self, two_cases):
        with pytest.raises(ConfigurationError, match=r"pattern='case_\[' is not a valid regular expression"):
            NIFTI_interface(pattern="case_[").initialize(two_cases)

    def test_use_before_initialize(self):
        with pytest.raises(ConfigurationError, match="call initialize"):
            NIFTI_interface().load_image("a")

    def test_unknown_sample(self, two_cases):
        interface = NIFTI_interface()
        interface.initialize(two_cases)
        with pytest.raises(MissingDataError, match="sample 'case_9' is not in"):
            interface.load_image("case_9")


def test_fingerprint_notices_a_changed_file_and_no_other(two_cases, rng):
    interface = NIFTI_interface(classes=3)
    interface.initialize(two_cases)
    before = interface.fingerprint("case_00000", two_cases)
    (two_cases / "case_00000" / "notes.txt").write_text("stray")
    assert interface.fingerprint("case_00000", two_cases) == before
    write(two_cases / "case_00000", random_image(rng, (8, 8, 8)))
    assert interface.fingerprint("case_00000", two_cases) != before
    assert interface.fingerprint("nothing", two_cases) is None


def test_what_is_known_of_an_image_is_read_from_its_header_alone(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([0.5, 1.5, 3.0, 1.0]))
    nibabel.save(image, tmp_path / "a" / "imaging.nii.gz")
    interface = NIFTI_interface()
    interface.initialize(tmp_path)
    _, expected = interface.load_image("a")
    monkeypatch.setattr("miscnn_tf.data_loading.interfaces.nifti_io.read_voxels", None)
    found = interface.load_extended("a")
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["spacing"], [0.5, 1.5, 3.0])
    np.testing.assert_array_equal(found["affine"], expected["affine"])


def test_the_values_of_a_segmentation_are_there_to_be_looked_at(tmp_path, rng):
    labels = random_labels(rng) * np.uint8(100)
    write(tmp_path / "data" / "a", random_image(rng), labels)
    interface = NIFTI_interface(label_map={100: 1})
    interface.initialize(tmp_path / "data")
    np.testing.assert_array_equal(interface.stored_labels("a"), labels)


class TestSpelling:
    """Case of letters and Unicode form of the names of files and folders."""

    @pytest.mark.parametrize("image", ["imaging.NII.GZ", "IMAGING.nii.gz", "Imaging.Nii", "IMAGING_0000.NII.GZ"])
    @pytest.mark.parametrize("segmentation", ["segmentation.NII", "Segmentation.nii.gz"])
    def test_imaging_nii_gz_in_capitals(self, tmp_path, image, segmentation):
        save_nifti(tmp_path / "a" / image.lower(), image_of("a")).rename(tmp_path / "a" / image)
        save_nifti(tmp_path / "a" / segmentation.lower(), labels_of("a")).rename(tmp_path / "a" / segmentation)
        interface = NIFTI_interface(classes=3)
        assert interface.initialize(tmp_path) == ["a"]
        interface.check("a")
        np.testing.assert_array_equal(interface.load_image("a")[0], image_of("a"))
        np.testing.assert_array_equal(interface.load_segmentation("a"), labels_of("a"))
        assert [path.name for path in interface.source_paths("a", tmp_path)] == [image, segmentation]

    def test_a_prediction_in_capitals(self, tmp_path):
        save_nifti(tmp_path / "a.nii.gz", labels_of("a")).rename(tmp_path / "a.NII.GZ")
        np.testing.assert_array_equal(NIFTI_interface(classes=3).load_prediction("a", tmp_path), labels_of("a"))
        with pytest.raises(MissingDataError, match=r"prediction .*A\.nii\.gz does not exist"):
            NIFTI_interface(classes=3).load_prediction("A", tmp_path)

    def test_both_nii_and_nii_gz_are_said(self, tmp_path):
        save_nifti(tmp_path / "a" / "imaging.nii.gz", image_of("a"))
        save_nifti(tmp_path / "a" / "imaging.nii", image_of("b"))
        with pytest.warns(RepeatedWarning, match=r"holds imaging\.nii\.gz and imaging\.nii; imaging\.nii\.gz is read"):
            image, _ = NIFTI_interface().read_file(tmp_path / "a")
        np.testing.assert_array_equal(image, image_of("a"))

    def test_one_image_beside_numbered_channels_is_said(self, tmp_path):
        save_nifti(tmp_path / "a" / "imaging.nii.gz", image_of("a"))
        save_nifti(tmp_path / "a" / "imaging_0000.nii.gz", image_of("b"))
        with pytest.warns(
            RepeatedWarning, match=r"imaging\.nii\.gz and imaging_0000\.nii\.gz; imaging\.nii\.gz is read"
        ):
            NIFTI_interface().initialize(tmp_path)

    @pytest.mark.parametrize(("folder", "asked"), [("M\u00fcller", "Mu\u0308ller"), ("Mu\u0308ller", "M\u00fcller")])
    def test_a_sample_is_found_by_either_unicode_form(self, tmp_path, folder, asked):
        save_nifti(tmp_path / folder / "imaging.nii.gz", image_of("a"))
        interface = NIFTI_interface(pattern="M\u00fcl.*")
        assert interface.initialize(tmp_path) == [folder]
        np.testing.assert_array_equal(interface.load_image(asked)[0], image_of("a"))
        assert interface.fingerprint(asked, tmp_path) == interface.fingerprint(folder, tmp_path) is not None

    def test_a_folder_called_like_the_image_is_reported_as_one(self, tmp_path):
        (tmp_path / "a" / "imaging.nii.gz").mkdir(parents=True)
        interface = NIFTI_interface()
        assert interface.initialize(tmp_path) == ["a"]
        with pytest.raises(DataError, match=r"imaging\.nii\.gz: not a regular file but a folder"):
            interface.check("a")

    def test_a_link_that_leads_nowhere_is_a_missing_file(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "imaging.nii.gz").symlink_to(tmp_path / "nowhere")
        interface = NIFTI_interface()
        assert interface.initialize(tmp_path) == ["a"]
        with pytest.raises(MissingDataError, match=r"imaging\.nii\.gz: the file does not exist"):
            interface.check("a")

    def test_hidden_files_of_macos_are_no_images(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "._imaging.nii.gz").write_bytes(b"\0\5\26\7Mac OS X")
        save_nifti(tmp_path / "b" / "imaging.nii.gz", image_of("b"))
        assert NIFTI_interface().initialize(tmp_path) == ["b"]
