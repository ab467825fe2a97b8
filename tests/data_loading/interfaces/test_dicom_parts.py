"""DICOM studies in train, val and test: the samples, the split, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_rtstruct, make_series, random_volume, save_series, square

from miscnn_tf import Data_IO
from miscnn_tf._base.configuration import build, describe
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.interfaces import DICOM_interface, miscnn_data_interfaces
from miscnn_tf.data_loading.layout_detection import find_interface, recognise
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.experiment.build import make_data_io, make_split
from miscnn_tf.experiment.toml_file import read_experiment

SHAPE = (4, 16, 18)


def write_study(folder: Path, seed: int, annotated: bool = True) -> np.ndarray:
    """Write a CT and, in a slice that depends on the seed, a contour of 6 x 6 voxels."""
    stored = random_volume(np.random.default_rng(seed), SHAPE)
    series = make_series(stored)
    save_series(folder / "CT", series)
    if annotated:
        save_series(folder / "RTSTRUCT", [make_rtstruct(series, {"Heart": [(seed % 4, square(3.5, 9.5))]})])
    return stored - 1024


def labels_of(seed: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[seed % 4, 4:10, 4:10] = 1
    return labels


def write_parts(root: Path, names=("train", "val", "test"), same: bool = False) -> dict[str, tuple[np.ndarray, int]]:
    """Return the voxels and the seed of each sample of the first two parts."""
    training, validation, test = names
    written = {}
    for seed, (part, name) in enumerate([(training, "P1"), (training, "P2"), (validation, "P2" if same else "P3")]):
        sample = f"{part}_{name}" if same else name
        written[sample] = (write_study(root / part / name, seed), seed)
    write_study(root / test / "P9", 9, annotated=False)
    return written


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "Testing")])
@pytest.mark.parametrize("same", [False, True])
def test_samples_are_those_of_training_and_validation(names, same: bool, tmp_path: Path) -> None:
    written = write_parts(tmp_path, names, same)
    assert recognise(tmp_path) == "DICOM"
    interface = find_interface(tmp_path)
    assert interface.structure_dict == {"Heart": 1}
    data_io = Data_IO(interface, tmp_path, output_path=tmp_path / "out")
    assert data_io.get_indiceslist() == sorted(written)
    assert list(interface.validation_samples) == [sorted(written)[-1]]
    assert interface.found_in == (
        f"samples in {names[0]} (2 training samples), {names[1]} (1 validation sample); {names[2]} (1 sample) left out"
    )
    for name, (voxels, seed) in written.items():
        interface.check(name)
        sample = data_io.sample_loader(name)
        np.testing.assert_array_equal(sample.img_data[..., 0], voxels)
        np.testing.assert_array_equal(sample.seg_data[..., 0], labels_of(seed))
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
        np.testing.assert_array_equal(data_io.sample_loader(name, load_pred=True).pred_data[..., 0], labels_of(seed))


def test_the_test_part_is_read_by_its_own_folder(tmp_path: Path) -> None:
    write_parts(tmp_path)
    interface = DICOM_interface()
    assert interface.initialize(tmp_path / "test") == ["P9"]
    assert interface.found_in is None
    assert list(interface.validation_samples) == []
    # An interface that is used for another folder forgets the first one.
    interface.initialize(tmp_path)
    interface.initialize(tmp_path / "test")
    with pytest.raises(MissingDataError, match="sample 'P1' is not in"):
        interface.load_shape("P1")


def test_digests_of_samples_differ_and_follow_their_files(tmp_path: Path) -> None:
    write_parts(tmp_path, same=True)
    interface = DICOM_interface()
    names = interface.initialize(tmp_path)
    digests = [interface.fingerprint(name, tmp_path) for name in names]
    assert None not in digests
    assert len(set(digests)) == 3
    (tmp_path / "train" / "P1" / "CT" / "notes.txt").write_text("new")
    changed = [interface.fingerprint(name, tmp_path) for name in names]
    assert [old == new for old, new in zip(digests, changed, strict=True)] == [False, True, True]


def test_pattern_matches_the_studies(tmp_path: Path) -> None:
    write_parts(tmp_path)
    interface = find_interface(tmp_path, pattern="P[13]")
    assert interface.initialize(tmp_path) == ["P1", "P3"]
    assert interface.found_in.endswith("; 1 folder without images, or that the pattern excludes: train/P2")
    with pytest.raises(MissingDataError, match=r"pattern='X' matches none of the folders in .*train"):
        DICOM_interface(pattern="X").initialize(tmp_path)


def test_a_model_file_rebuilds_the_interface(tmp_path: Path) -> None:
    write_parts(tmp_path)
    interface = find_interface(tmp_path)
    rebuilt = build(json.loads(json.dumps(describe(interface, "DICOM"))), miscnn_data_interfaces)
    assert rebuilt.initialize(tmp_path) == interface.initialize(tmp_path) == ["P1", "P2", "P3"]
    np.testing.assert_array_equal(rebuilt.load_segmentation("P3"), labels_of(2))


def test_parts_without_studies_are_passed_over(tmp_path: Path) -> None:
    write_parts(tmp_path, ("train", "test", "other"))
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "notes.txt").write_text("to be done")
    interface = DICOM_interface()
    assert interface.initialize(tmp_path) == ["P1", "P2"]
    assert interface.found_in == "samples in train (2 training samples); test (1 sample) left out"


def test_two_folders_of_one_part_are_an_error(tmp_path: Path) -> None:
    write_parts(tmp_path)
    write_study(tmp_path / "training" / "P7", 7)
    with pytest.raises(DataError, match="holds train and training, which may both be the training part"):
        DICOM_interface().initialize(tmp_path)


def test_patients_with_such_names_stay_samples(tmp_path: Path) -> None:
    """Their images are in their folders, not in folders of patients."""
    for seed, name in enumerate(("train", "val")):
        save_series(tmp_path / name, make_series(random_volume(np.random.default_rng(seed), SHAPE)))
    interface = DICOM_interface()
    assert interface.initialize(tmp_path) == ["train", "val"]
    assert list(interface.validation_samples) == []


def test_init_writes_the_folders_as_the_split_and_verify_reads_them(tmp_path: Path, capsys) -> None:
    write_parts(tmp_path / "data")
    path = tmp_path / "x.toml"
    assert cli.main(["init", str(tmp_path / "data"), "-o", str(path)]) == 0
    assert "3 samples, layout DICOM: samples in train (2 training samples), val (1 val" in capsys.readouterr().out
    made = read_experiment(path)
    fold = make_split(made, make_data_io(made, tmp_path).get_indiceslist())
    assert (sorted(fold.training), list(fold.validation)) == (["P1", "P2"], ["P3"])
    assert cli.main(["verify", str(tmp_path / "data")]) == 0
    assert "test (1 sample) left out" in capsys.readouterr().out
