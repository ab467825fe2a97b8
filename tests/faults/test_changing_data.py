"""Files that vanish or change while a network is trained on them: right results, or one error that names the sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest
from small_data import write_case, write_cases
from small_network import SmallNetwork

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.processing.subfunctions import Normalization

SAMPLES = [f"case_{number}" for number in range(4)]


class At(keras.callbacks.Callback):
    """Does something at the end of the first epoch, and counts epochs."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act, self.epochs = act, 0

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.epochs += 1
        if self.epochs == 1:
            self.act()


def remove_folder(folder: Path) -> None:
    """Remove a folder into which loader threads may write at the same time."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Neural_Network]:
    write_cases(tmp_path / "data")

    def make(**options: object) -> Neural_Network:
        data_io = Data_IO(NIFTI_interface(1, 3), tmp_path / "data", batch_path=tmp_path / "batches")
        preprocessor = Preprocessor(data_io, 1, [Normalization()], data_aug=None, patch_shape=(8, 8, 4), **options)
        return Neural_Network(preprocessor, SmallNetwork(), precision="float32", seed=1)

    return make


def evaluate(network: Neural_Network, folder: Path, at: At) -> None:
    cross_validation(
        SAMPLES,
        network,
        k_fold=2,
        epochs=2,
        iterations=2,
        evaluation_path=folder,
        callbacks=[at],
        run_detailed_evaluation=True,
        report=False,
    )


def other_shape(data: Path) -> None:
    for number in range(4):
        write_case(data / f"case_{number}", number, shape=(14, 9, 6))


def other_shape_of_the_labels(data: Path) -> None:
    for number in range(4):
        path = data / f"case_{number}" / "segmentation.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine), path)


def half_a_file(data: Path) -> None:
    for path in data.glob("*/imaging.nii.gz"):
        path.write_bytes(path.read_bytes()[:200])


def gone(data: Path) -> None:
    shutil.rmtree(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(gone, "sample 'case_", marks=pytest.mark.slow),
        pytest.param(half_a_file, "imaging.nii.gz", marks=pytest.mark.slow),
        (other_shape_of_the_labels, r"\(12, 10, 6\).*\(11, 10, 6\)|\(11, 10, 6\).*\(12, 10, 6\)"),
    ],
)
def test_samples_that_change_before_they_are_measured(
    change: Callable[[Path], None], message: str, make: Callable[..., Neural_Network], tmp_path: Path
) -> None:
    """The training itself goes on with the samples that it has; the error comes when they are read again."""
    shutil.copytree(tmp_path / "data", tmp_path / "kept")
    at = At(lambda: change(tmp_path / "data"))
    with pytest.raises(DataError, match=message):
        evaluate(make(), tmp_path / "run", at)
    assert at.epochs == 2
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    shutil.copytree(tmp_path / "kept", tmp_path / "data")
    again = At(lambda: None)
    evaluate(make(), tmp_path / "run", again)
    assert again.epochs == 2  # of the second fold: the first one was trained already
    assert (tmp_path / "run" / "summary.json").is_file()
    assert not list((tmp_path / "run").rglob(".*"))


@pytest.mark.slow
def test_samples_of_another_shape_are_measured_as_they_are_then(
    make: Callable[..., Neural_Network], tmp_path: Path
) -> None:
    at = At(lambda: other_shape(tmp_path / "data"))
    evaluate(make(), tmp_path / "run", at)
    for path in (tmp_path / "run").glob("fold_*/predictions/*.nii.gz"):
        assert nib.load(path).shape == (14, 9, 6)


@pytest.mark.parametrize(
    "options", [{"prepare_subfunctions": True}, pytest.param({"cache_bytes": 0}, marks=pytest.mark.slow)]
)
def test_prepared_files_that_vanish_during_training(
    options: dict[str, object], make: Callable[..., Neural_Network], tmp_path: Path
) -> None:
    batches = tmp_path / "batches"

    def remove() -> None:
        assert list(batches.rglob("image.npy"))
        remove_folder(batches)

    network = make(**options)
    at = At(remove)
    network.train(SAMPLES, epochs=3, iterations=3, callbacks=[at])
    assert at.epochs == 3


@pytest.mark.slow
def test_batches_that_vanish_during_training(make: Callable[..., Neural_Network], tmp_path: Path) -> None:
    network = make(prepare_batches=True)
    at = At(lambda: remove_folder(tmp_path / "batches"))
    with pytest.raises(
        MissingDataError, match=r"batch.*of this run is missing: .*batches/.*; prepare the batches again"
    ):
        network.train(SAMPLES, epochs=9, iterations=3, callbacks=[at])
    network.train(SAMPLES, epochs=1, iterations=3)


def test_prepared_samples_and_their_sources_that_vanish(
    make: Callable[..., Neural_Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more samples than stay open."""
    monkeypatch.setattr("miscnn_tf.data_loading.cache.prepared_store._OPEN_SAMPLES", 1)

    def remove() -> None:
        remove_folder(tmp_path / "batches")
        shutil.rmtree(tmp_path / "data" / "case_2")

    with pytest.raises(DataError, match=r"sample 'case_2'|case_2"):
        make(cache_bytes=0).train(SAMPLES, epochs=3, callbacks=[At(remove)])


@pytest.mark.parametrize(
    "options", [{"prepare_subfunctions": True}, pytest.param({"cache_bytes": 0}, marks=pytest.mark.slow)]
)
def test_a_sample_that_changed_is_not_kept_as_what_it_was(
    options: dict[str, object], make: Callable[..., Neural_Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miscnn_tf.data_loading.cache.prepared_store._OPEN_SAMPLES", 1)

    def change() -> None:
        remove_folder(tmp_path / "batches")
        other_shape(tmp_path / "data")

    with pytest.raises(DataError, match=r"sample 'case_\d': its files have changed"):
        make(**options).train(SAMPLES, epochs=3, callbacks=[At(change)])
