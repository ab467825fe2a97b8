"""Predictions are in the user's own values: each interface writes them, reads them back, and nobody else need know."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pytest
from dicom_series import make_rtstruct, make_series, random_volume, save_series, square
from PIL import Image

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    Dictionary_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import label_values_of, with_label_values
from miscnn_tf.data_loading.labels import normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, RepeatedWarning

AFFINE = np.diag([1.0, 2, 3, 1])


def nifti(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def predicted(data_io: Data_IO, index: str) -> Sample:
    """A sample whose prediction is its truth, saved."""
    sample = data_io.sample_loader(index)
    sample.add_prediction(sample.seg_data)
    data_io.save_prediction(sample)
    read = data_io.sample_loader(index, load_pred=True)
    np.testing.assert_array_equal(read.pred_data, sample.seg_data)
    return read


@pytest.mark.parametrize(
    ("values", "label_map", "dtype"),
    [
        ([0, 255], {255: 1}, np.uint8),
        ([0, 1, 2, 4], {4: 3}, np.uint8),
        ([0, 65535], {65535: 1}, np.uint16),
        ([0, -1], {-1: 1}, np.int16),
        ([0, 70000], {70000: 1}, np.int32),
        ([0, 1, 2], {1: 2, 2: 1}, np.uint8),
    ],
)
def test_nifti_predictions_hold_the_values_of_the_segmentations(tmp_path, rng, values, label_map, dtype):
    stored = rng.choice(values, (5, 6, 7)).astype(np.int32)
    nifti(tmp_path / "data" / "a" / "imaging.nii.gz", rng.normal(size=stored.shape).astype(np.float32))
    nifti(tmp_path / "data" / "a" / "segmentation.nii.gz", stored)
    interface = NIFTI_interface(classes=len(values), label_map=label_map)
    predicted(Data_IO(interface, tmp_path / "data", tmp_path / "out"), "a")
    written = voxels(tmp_path / "out" / "a.nii.gz")
    assert written.dtype == dtype
    np.testing.assert_array_equal(written, stored)


def test_png_predictions_of_masks_of_0_and_255_are_not_black(tmp_path, rng):
    mask = 255 * rng.integers(0, 2, (9, 8)).astype(np.uint8)
    png(tmp_path / "images" / "a.png", rng.integers(0, 250, (9, 8)).astype(np.uint8))
    png(tmp_path / "masks" / "a.png", mask)
    data_io = Data_IO(Paired_interface(classes=2, label_map={255: 1}), tmp_path, tmp_path / "out")
    predicted(data_io, "a")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), mask)


@pytest.mark.parametrize("value", [-1, 70000])
def test_tiff_predictions_hold_signed_and_wide_values(tmp_path, value):
    interface = Image_interface(classes=2, img_format="tif", label_map={value: 1})
    sample = Sample("a", np.zeros((4, 4), np.float32), 1, 2, three_dim=False)
    sample.add_prediction(np.eye(4, dtype=np.uint8))
    interface.save_prediction(sample, tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.tif")), value * np.eye(4, dtype=int))
    np.testing.assert_array_equal(interface.load_prediction("a", tmp_path), np.eye(4))


@pytest.mark.parametrize(
    ("ending", "value", "limits"), [("png", -1, "0 to 65535"), ("png", 70000, "0 to 65535"), ("bmp", 256, "0 to 255")]
)
def test_values_that_a_format_cannot_hold_are_refused_before_anything_is_predicted(ending, value, limits):
    with pytest.raises(
        ConfigurationError, match=rf"predictions would hold {value}, but \.{ending} files hold {limits}"
    ):
        Image_interface(classes=2, img_format=ending, label_map={value: 1})
    interface = Image_interface(classes=2, img_format="tif", label_map={value: 1})
    with pytest.raises(ConfigurationError, match=f"{value}"):
        interface.writes_file_termination(f".{ending}")
    Image_interface(classes=2, img_format=ending, label_map={value: 0})  # the background is written as 0


def test_predictions_of_earlier_versions_hold_class_numbers_and_are_read(tmp_path):
    old = np.tile(np.arange(4, dtype=np.uint8), (4, 4, 1))
    nifti(tmp_path / "a.nii.gz", old)
    read = NIFTI_interface(classes=4, label_map={4: 3}).load_prediction("a", tmp_path)
    np.testing.assert_array_equal(read, old)


def test_slices_and_the_volume_of_them_hold_the_values(tmp_path, rng):
    stored = 255 * rng.integers(0, 2, (4, 5, 6)).astype(np.uint8)
    nifti(tmp_path / "data" / "a" / "imaging.nii.gz", rng.normal(size=stored.shape).astype(np.float32))
    nifti(tmp_path / "data" / "a" / "segmentation.nii.gz", stored)
    interface = NIFTIslicer_interface(slice_axis=2, classes=2, label_map={255: 1})
    data_io = Data_IO(interface, tmp_path / "data", tmp_path / "out")
    for index in data_io.get_indiceslist():
        predicted(data_io, str(index))
    np.testing.assert_array_equal(voxels(tmp_path / "out" / "a:#:2.nii.gz")[:, :, 0], stored[:, :, 2])
    np.testing.assert_array_equal(voxels(interface.assemble_volume("a", tmp_path / "out")), stored)


def test_predictions_in_a_dictionary_have_the_values_of_its_segmentations():
    mask = 255 * np.eye(4, dtype=np.uint8)
    data = {"a": (np.zeros((4, 4), np.float32), mask)}
    data_io = Data_IO(Dictionary_interface(data, three_dim=False, label_map={255: 1}), "")
    assert predicted(data_io, "a").pred_data.max() == 1
    np.testing.assert_array_equal(data["a"][2], mask)
    data["a"] = (*data["a"][:2], np.full((4, 4, 2), 0.5, np.float32))
    assert data_io.sample_loader("a", load_pred=True).pred_data.shape == (4, 4, 2)  # probabilities


@pytest.mark.parametrize("prediction_format", ["nifti", "seg", "rtstruct"])
def test_dicom_segments_are_numbered_by_class_and_nifti_holds_the_labels(tmp_path, rng, recwarn, prediction_format):
    series = make_series(random_volume(rng, (6, 20, 24)))
    save_series(tmp_path / "data" / "P" / "ct", series)
    rois = {"Heart": [(1, square(3.5, 9.5))], "Lung": [(2, square(8.5, 14.5))], "Rib": [(3, square(8.5, 14.5))]}
    save_series(tmp_path / "data" / "P" / "rt", [make_rtstruct(series, rois)])
    interface = DICOM_interface(
        classes=4,
        structure_dict={"Heart": 1, "Lung": 2, "Rib": 3},
        label_map={3: 1, 2: 3},
        prediction_format=prediction_format,
    )
    # 1 is there as well as 3, so that class 1 is written as 1.
    assert interface.values_of_classes() == (0, 1, 4, 2)
    sample = predicted(Data_IO(interface, tmp_path / "data", tmp_path / "out"), "P")
    assert np.unique(sample.pred_data).tolist() == [0, 1, 3]
    if prediction_format == "nifti":
        assert np.unique(voxels(tmp_path / "out" / "P.nii.gz")).tolist() == [0, 1, 2]
    assert not [one for one in recwarn if issubclass(one.category, RepeatedWarning)]  # nothing is a guess here


def test_writing_other_values_needs_no_more_than_the_result(tmp_path):
    labels = np.zeros((200, 200, 100), np.uint8, order="F")
    labels[50:100] = 1
    interface = NIFTI_interface(label_map={255: 1})
    sample = Sample("a", np.zeros((2, 2, 2)), 1, 2, three_dim=True)
    sample.pred_data = labels[:4]
    interface.write_file(sample, tmp_path / "first.nii.gz")  # what is imported at first use
    sample.pred_data = labels
    tracemalloc.start()
    try:
        interface.write_file(sample, tmp_path / "a.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * labels.nbytes


def test_two_values_of_one_class_of_which_the_label_map_names_one(tmp_path):
    nifti(tmp_path / "a" / "imaging.nii.gz", np.zeros((2, 2, 2), np.float32))
    nifti(tmp_path / "a" / "segmentation.nii.gz", np.arange(8, dtype=np.uint8).reshape(2, 2, 2) % 3)
    data_io = Data_IO(NIFTI_interface(label_map={2: 1}), tmp_path)
    with pytest.warns(
        RepeatedWarning, match=r"segmentation\.nii\.gz.* holds 1, .*give label_map=\{1: 1, 2: 1\}"
    ) as told:
        data_io.sample_loader("a")
    assert len({one.message.key for one in told}) == 1
    whole = NIFTI_interface(label_map={1: 1, 2: 1})
    assert whole.values_of_classes() == (0, 1)


def test_a_label_map_complete_or_of_background_does_not_warn(tmp_path, recwarn):
    nifti(tmp_path / "a" / "imaging.nii.gz", np.zeros((2, 2, 2), np.float32))
    nifti(tmp_path / "a" / "segmentation.nii.gz", np.arange(8, dtype=np.uint8).reshape(2, 2, 2) % 3)
    for label_map in ({1: 1, 2: 1}, {2: 0}, {1: 2, 2: 1}):
        Data_IO(NIFTI_interface(classes=3, label_map=label_map), tmp_path).sample_loader("a")
    assert not [one for one in recwarn if issubclass(one.category, RepeatedWarning)]


def test_a_label_map_of_fractions_is_refused():
    with pytest.raises(ConfigurationError, match=r"must map integers to integers, e\.g\. \{255: 1\}; got \{2\.7: 1\}"):
        normalised_label_map({2.7: 1}, 2)
    assert normalised_label_map({np.uint8(255): 1.0, "4": 1}, 2) == {255: 1, 4: 1}


def test_an_interface_that_stands_in_for_another_one_writes_the_same_values():
    trained = Dictionary_interface({}, classes=4, label_map={4: 3})
    general = NIFTI_interface(classes=4)
    general.class_names = ("background", "a", "b", "c")
    made = with_label_values(general, label_values_of(trained))
    assert isinstance(made, NIFTI_interface)
    assert (made.values_of_classes(), made.class_names) == ((0, 1, 2, 4), general.class_names)
    assert with_label_values(general, None) is general
    for wrong in ([0, 1], [0, 1, 1, 2], [0, 1, 2, "4"], 7, {"0": 1}, [0, 1, 2, 2.5]):
        with pytest.raises(ConfigurationError, match="label_values="):
            with_label_values(general, wrong)


def test_an_interface_of_a_users_own_writes_class_numbers():
    class Own(Abstract_IO):
        label_map: ClassVar = {255: 1}
        initialize = load_image = load_segmentation = load_prediction = save_prediction = None  # type: ignore[assignment]
        check_file_termination = None  # type: ignore[assignment]

    assert Own(classes=3).values_of_classes() == (0, 1, 2)
    assert label_values_of(Own()) is None
    assert label_values_of(object()) is None
