"""An interface with fewer classes than the label maps hold: data may be looked at, but not trained on or scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import (
    Dictionary_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
)
from miscnn_tf.data_loading.labels import LabelWarning
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError, LabelError
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.experiment.fingerprint import take_fingerprint
from miscnn_tf.explore.data_exploration import explore
from miscnn_tf.pictures.visualizer import visualize_prediction_overlap_3D, visualize_samples
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

LABELS = np.zeros((6, 7, 8), np.uint8)
LABELS[1:4, 1:4, 1:4], LABELS[4:, 4:, 4:] = 1, 5


@pytest.fixture
def volumes(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A sample with the labels 0, 1 and 5, and the same as its prediction."""
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    nib.save(
        nib.Nifti1Image(rng.normal(size=LABELS.shape).astype(np.float32), np.eye(4)), root / "a" / "imaging.nii.gz"
    )
    nib.save(nib.Nifti1Image(LABELS, np.eye(4)), root / "a" / "segmentation.nii.gz")
    (tmp_path / "predictions").mkdir()
    shutil.copy(root / "a" / "segmentation.nii.gz", tmp_path / "predictions" / "a.nii.gz")
    return root


@pytest.fixture
def data_io(volumes: Path) -> Data_IO:
    return Data_IO(NIFTI_interface(classes=2), volumes, volumes.parent / "predictions", volumes.parent / "batches")


def test_loading_warns_with_sample_value_and_classes_and_hands_over_the_stored_labels(data_io):
    with pytest.warns(LabelWarning, match=r"sample 'a': .*segmentation\.nii\.gz.* holds 5 \(24 voxels\).*classes=2"):
        sample = data_io.sample_loader("a", load_seg=True)
    np.testing.assert_array_equal(sample.seg_data[..., 0], LABELS)
    assert sample.seg_data.dtype == np.uint8
    assert sample.classes == data_io.interface.classes == 2
    with pytest.raises(LabelError, match="holds 5"):
        data_io.interface.load_segmentation("a")


def test_a_saved_prediction_warns_and_is_handed_over(data_io):
    with pytest.warns(LabelWarning, match=r"predictions/a\.nii\.gz: the label map holds 5"):
        sample = data_io.sample_loader("a", load_seg=False, load_pred=True)
    np.testing.assert_array_equal(sample.pred_data[..., 0], LABELS)


def test_the_label_map_still_holds_for_what_is_looked_at(volumes):
    (volumes.parent / "predictions" / "a.nii.gz").unlink()
    data_io = Data_IO(NIFTI_interface(classes=2, label_map={1: 0}), volumes)
    with pytest.warns(LabelWarning, match="holds 5"):
        labels = data_io.sample_loader("a").seg_data[..., 0]
    np.testing.assert_array_equal(labels, np.where(LABELS == 1, 0, LABELS))


def test_every_format_hands_over_labels_without_a_class(volumes, tmp_path, rng):
    for folder in ("cells", "pairs/images", "pairs/masks"):
        (tmp_path / folder / ("x" if folder == "cells" else "")).mkdir(parents=True)
    mask = np.where(np.eye(6, dtype=bool), 300, 0).astype(np.uint16)
    for image, label in (
        ("cells/x/imaging.png", "cells/x/segmentation.png"),
        ("pairs/images/x.png", "pairs/masks/x.png"),
    ):
        Image.fromarray(rng.integers(0, 250, (6, 6)).astype(np.uint8)).save(tmp_path / image)
        Image.fromarray(mask).save(tmp_path / label)
    array = {"x": (np.zeros((6, 6), np.float32), mask)}
    for interface, root in (
        (Image_interface(classes=2), tmp_path / "cells"),
        (Paired_interface(classes=2), tmp_path / "pairs"),
        (Dictionary_interface(array, classes=2, three_dim=False), ""),
    ):
        with pytest.warns(LabelWarning, match="holds 300"):
            labels = Data_IO(interface, root).sample_loader("x").seg_data[..., 0]
        np.testing.assert_array_equal(labels, mask)
        assert labels.dtype == np.uint16
    slices = Data_IO(NIFTIslicer_interface(slice_axis=2, classes=2), volumes)
    with pytest.warns(LabelWarning, match="slice 5: the label map holds 5"):
        np.testing.assert_array_equal(slices.sample_loader("a:#:5").seg_data[..., 0], LABELS[:, :, 5])


class Bare_interface:
    """A user's own interface without our base class."""

    channels, classes, three_dim = 1, 3, False

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def initialize(self, path: str) -> list[str]:
        return ["a"]

    def load_image(self, index: str) -> tuple[np.ndarray, dict[str, object]]:
        return np.zeros((6, 7), np.int16), {}

    def load_segmentation(self, index: str) -> np.ndarray:
        return self.labels


@pytest.mark.parametrize("value", [3, 255, 65535])
def test_a_users_own_interface_warns_as_well(value):
    labels = np.full((6, 7), value, np.int64)
    with pytest.warns(LabelWarning, match=rf"sample 'a'.*holds {value} .*classes=3"):
        sample = Data_IO(Bare_interface(labels), "nowhere").sample_loader("a")
    np.testing.assert_array_equal(sample.seg_data[..., 0], labels)


@pytest.mark.parametrize("value", [-1, 0.5, np.nan, 65536])
def test_what_is_no_label_at_all_stays_an_error(value):
    data_io = Data_IO(Bare_interface(np.full((6, 7), value)), "nowhere")
    with pytest.raises(DataError, match=r"'a'"):
        data_io.sample_loader("a")


def test_pictures_show_labels_without_a_class(data_io, tmp_path):
    with pytest.warns(LabelWarning, match="holds 5"):
        (path,) = visualize_samples(["a"], tmp_path / "vis", mask_seg=True, data_io=data_io, size=64)
    with Image.open(path) as gif:
        gif.seek(6)
        shown = {tuple(pixel) for pixel in np.asarray(gif.convert("RGB")).reshape(-1, 3).tolist()}
        gif.seek(0)
        empty = {tuple(pixel) for pixel in np.asarray(gif.convert("RGB")).reshape(-1, 3).tolist()}
    assert shown - empty
    with pytest.warns(LabelWarning, match="holds 5"):
        path = visualize_prediction_overlap_3D("a", [5], tmp_path / "vis", data_io=data_io, size=64)
    assert path.is_file()


class Counted(Abstract_Subfunction):
    """Counts how often it is asked to do something."""

    calls = 0

    def preprocessing(self, sample, training=True):
        Counted.calls += 1


@pytest.mark.filterwarnings("ignore::miscnn_tf.data_loading.labels.LabelWarning")
def test_training_refuses_them_before_any_step(data_io):
    preprocessor = Preprocessor(data_io, batch_size=1, subfunctions=[Counted()], patch_shape=(4, 4, 4))
    Counted.calls = 0
    with pytest.raises(LabelError, match=r"segmentation.*holds 5.*classes=2"):
        preprocessor.run(["a"], training=True)
    with pytest.raises(LabelError, match="holds 5"):
        preprocessor.run_subfunctions(["a"], training=True)
    assert Counted.calls == 0
    preprocessor.run(["a"], training=False)  # a prediction needs no labels


@pytest.mark.filterwarnings("ignore::miscnn_tf.data_loading.labels.LabelWarning")
def test_verification_exploration_and_planning_do_not_count_them(data_io):
    found = verify(data_io)
    assert [(one.index, one.kind) for one in found.findings] == [("a", "labels")]
    assert "holds 5" in found.findings[0].message
    ((index, error),) = explore(data_io).unreadable
    assert index == "a"
    assert isinstance(error, LabelError)
    with pytest.raises(LabelError, match="holds 5"):
        take_fingerprint(data_io)


def test_an_evaluation_refuses_them_before_it_predicts(data_io, tmp_path):
    def predict(*arguments, **settings):
        pytest.fail("the truth is looked at first")

    model = SimpleNamespace(
        preprocessor=SimpleNamespace(data_io=data_io), classes=2, predict=predict, model=None, metrics=[]
    )
    with pytest.raises(LabelError, match="holds 5"):
        detailed_validation(["a"], model, tmp_path / "scores", save_predictions=False)


def test_a_sample_outside_the_list_is_checked_for_training(data_io):
    (Path(data_io.input_path) / "a").rename(Path(data_io.input_path) / "late")
    with pytest.warns(LabelWarning), pytest.raises(DataError, match=r"'late': .*holds 5"):
        data_io.check(["late"])
