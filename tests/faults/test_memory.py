"""Too little memory for one sample is one error with its name and size; the others are segmented."""

from __future__ import annotations

import pytest
from hungry import ASKED, Hungry, too_much
from small_data import SHAPE
from toy import ToyInterface

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.cli.main import main
from miscnn_tf.data_loading.formats import voxel_file
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture


@pytest.fixture
def no_memory_for_case_1(monkeypatch):
    """The voxels of one image do not fit into memory."""
    read = voxel_file.open_unpacked

    def opened(path, *arguments):
        if "case_1" in str(path) and "imaging" in str(path):
            too_much()
        return read(path, *arguments)

    monkeypatch.setattr(voxel_file, "open_unpacked", opened)


def test_memory_error_of_one_image_does_not_stop_predict(data, model, tmp_path, capsys, no_memory_for_case_1):
    assert main(["predict", str(model), str(data), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "1 of 4 images could not be segmented; the others are done" in error
    assert f"sample 'case_1' of shape {SHAPE}: too little memory for reading it ({ASKED}" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "case_0.nii.gz",
        "case_2.nii.gz",
        "case_3.nii.gz",
    ]


def test_memory_error_of_one_file_does_not_stop_predict(data, model, tmp_path, capsys, no_memory_for_case_1):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(3):
        (flat / f"imaging_of_case_{number}.nii.gz").hardlink_to(data / f"case_{number}" / "imaging.nii.gz")
    assert main(["predict", str(model), str(flat), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "1 of 3 images could not be segmented; the others are done" in error
    assert f"too little memory for reading it ({ASKED}" in error
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_memory_error_is_a_finding_of_verify(data, no_memory_for_case_1):
    found = verify(Data_IO(NIFTI_interface(1, 3), data))
    assert found.bad == ["case_1"]
    assert found.findings[0].message.startswith(f"sample 'case_1' of shape {SHAPE}: too little memory for reading it")


def test_memory_error_in_evaluate_names_the_case(data, tmp_path, capsys, monkeypatch):
    def scores(labels, predicted, *arguments, **options):
        return too_much()

    monkeypatch.setattr("miscnn_tf.evaluation.label_folders.score_by_scheme", scores)
    assert main(["evaluate", str(data), str(data)]) == 1
    error = capsys.readouterr().err
    assert f"sample 'case_0' of shape {SHAPE}: too little memory for its scores ({ASKED}" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_memory_error_while_samples_are_prepared_names_sample_and_step(processes, tmp_path):
    data_io = Data_IO(ToyInterface((16, 16), cases=3), "", batch_path=tmp_path / "batches")
    preprocessor = Preprocessor(data_io, 1, [Hungry()], patch_shape=(8, 8), use_multiprocessing=processes)
    network = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1))
    with pytest.raises(MemoryBudgetError) as raised:
        network.train(data_io.get_indiceslist(), epochs=1)
    assert str(raised.value).startswith(
        f"sample 'case_1' of shape (16, 16, 1): too little memory for preparing it by Hungry ({ASKED}"
    )


def test_memory_error_in_a_loader_thread_stops_the_training_with_the_samples_name(tmp_path, monkeypatch):
    data_io = Data_IO(ToyInterface((16, 16), cases=2), "", batch_path=tmp_path / "batches")
    preprocessor = Preprocessor(data_io, 1, patch_shape=(8, 8), data_aug=None)
    network = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1), workers=2)
    monkeypatch.setattr("miscnn_tf.processing.batches.cut", lambda *arguments: too_much())
    with pytest.raises(
        MemoryBudgetError, match=r"of shape \(16, 16, 1\): too little memory for a patch of \(8, 8\) vo"
    ):
        network.train(data_io.get_indiceslist(), epochs=1)


def test_a_memory_error_without_words_is_one_line(monkeypatch, capsys):
    def run(arguments):
        raise MemoryError

    monkeypatch.setattr("miscnn_tf.cli.doctor.run", run)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "miscnn-tf: error: out of memory (no details); close other programs\n"
