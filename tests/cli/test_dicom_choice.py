"""Choice of a DICOM series, from the command line to the configuration file and the check of the data."""

from __future__ import annotations

import argparse
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_rtstruct, make_series, random_volume, save_series, square

from miscnn_tf import Data_IO
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import add_data_options, given_data
from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import DataError
from miscnn_tf.experiment.build import make_interface
from miscnn_tf.experiment.toml_file import read_experiment
from miscnn_tf.runs.score_summary import read_summary


@pytest.fixture
def patients(tmp_path: Path, rng: np.random.Generator) -> Path:
    """CT and PET of the same place in each folder, the CT with two echoes."""
    for name in ("a", "b", "c", "d"):
        first = make_series(random_volume(rng, (6, 20, 24)), EchoTime=1)
        second = make_series(random_volume(rng, (6, 20, 24)), EchoTime=2)
        for one in second:
            one.SeriesInstanceUID = first[0].SeriesInstanceUID
            one.FrameOfReferenceUID = first[0].FrameOfReferenceUID
        save_series(tmp_path / "data" / name, [*first, *second], "ct{}.dcm")
        save_series(tmp_path / "data" / name, make_series(random_volume(rng, (6, 20, 24)), Modality="PT"), "pt{}.dcm")
        # Drawn on neither series, but in the CT's coordinate system.
        drawn = make_rtstruct(first, {"Heart": [(n, square(3.5, 9.5)) for n in (1, 2)]})
        drawn.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence = []
        save_series(tmp_path / "data" / name, [drawn], "rt{}.dcm")
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore:.*does not reference the series")
def test_modality_and_frames_go_from_init_into_the_configuration(patients: Path, tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    given = ['modality="CT"', "frames={EchoTime = 2}", "structure_dict={Heart = 1}"]
    options = [part for one in given for part in ("--set", f"data.settings.{one}")]
    assert cli.main(["init", str(patients), "-o", str(file), *options]) == 0
    settings = tomllib.loads(file.read_text())["data"]["settings"]
    assert (settings["modality"], settings["frames"]) == ("CT", {"EchoTime": 2})


def test_verify_chooses_modality_and_frames(patients: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", str(patients), "--structures", "Heart=1"]
    assert cli.main(command) == 1
    assert "--modality CT" in " ".join(capsys.readouterr().out.split())
    assert cli.main([*command, "--modality", "CT"]) == 1
    assert "--frames EchoTime=1" in " ".join(capsys.readouterr().out.split())
    assert cli.main([*command, "--modality", "CT", "--frames", "EchoTime=2"]) == 0


@pytest.fixture
def planned(tmp_path: Path, rng: np.random.Generator) -> Path:
    """CT of four patients with a heart, a lung, and their outlines."""
    for name in ("a", "b", "c", "d"):
        series = make_series(random_volume(rng, (6, 20, 24)))
        save_series(tmp_path / "data" / name, series, "ct{}.dcm")
        rois = {
            "Heart": [(n, square(3.5, 9.5)) for n in (1, 2)],
            "Lung": [(n, square(8.5, 14.5)) for n in (2, 3, 4)],
            "BODY": [(n, square(0.5, 18.5)) for n in range(6)],
        }
        save_series(tmp_path / "data" / name, [make_rtstruct(series, rois)], "rt{}.dcm")
    return tmp_path / "data"


def test_init_prints_the_structures_and_writes_them(planned: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "e.toml"
    assert cli.main(["init", str(planned), "-o", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in shown]
    assert ["Heart", "1"] in rows
    assert ["Lung", "2"] in rows
    assert ["BODY", "left out: outline of the patient, by its name"] in rows
    data = tomllib.loads(file.read_text())["data"]
    assert data["settings"]["structure_dict"] == {"Heart": 1, "Lung": 2}
    assert data["class_names"] == ["background", "Heart", "Lung"]
    again = make_interface(read_experiment(file).data)
    assert again.structure_labels() == {"Heart": 1, "Lung": 2}
    assert again.names_of_classes() == ("background", "Heart", "Lung")


def test_verify_prints_the_structures_and_every_overlap(planned: Path, capsys) -> None:
    assert cli.main(["verify", str(planned)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Heart 1 Lung 2 BODY left out: outline of the patient" in shown
    assert shown.count("Heart in Lung (1 voxel).") == 4
    assert "structures that overlap 4" in shown
    assert "not in structure_dict" not in shown


@pytest.mark.filterwarnings("ignore:.*structures overlap")
def test_evaluate_gives_structures_the_labels_of_the_names(planned: Path, tmp_path: Path, capsys) -> None:
    """Not those of the alphabet, by which Heart would be 1."""
    interface = DICOM_interface(classes=3, structure_dict={"Lung": 1, "Heart": 2})
    data_io = Data_IO(interface, planned, output_path=tmp_path / "pred")
    for index in data_io.get_indiceslist():
        sample = data_io.sample_loader(index)
        sample.add_prediction(sample.seg_data)
        data_io.save_prediction(sample)
    out = tmp_path / "out"
    command = ["evaluate", str(tmp_path / "pred"), str(planned), "-o", str(out)]
    assert cli.main([*command, "--names", "background", "Lung", "Heart"]) == 0
    summary = read_summary(out / "summary.json")
    assert summary["class_names"] == ["background", "Lung", "Heart"]
    assert [summary["classes"][label]["dice"]["mean"] for label in "12"] == [1, 1]
    assert "Heart" in capsys.readouterr().out


def test_names_that_differ_between_patients_may_share_a_label(tmp_path: Path) -> None:
    """The message shows it with the names of the data, in the form of Python and in that of the option."""
    rng = np.random.default_rng(1)
    for patient, name in (("a", "Lung_L"), ("b", "lung L")):
        series = make_series(rng.integers(0, 900, (4, 10, 9)), Modality="CT", PatientID=patient)
        save_series(tmp_path / patient / "ct", series)
        contours = [(1, square(2, 6)), (2, square(2, 6))]
        make_rtstruct(series, {name: contours}).save_as(tmp_path / patient / "rs.dcm", enforce_file_format=True)
    with pytest.raises(DataError) as caught:
        find_interface(tmp_path)
    assert "Several names may share a label" in str(caught.value)
    assert "structure_dict={'Lung_L': 1, 'lung L': 1}" in str(caught.value)
    message = for_command(str(caught.value), {"--structures"})
    assert message.endswith("for instance --structures Lung_L=1 'lung L=1'")
    parser = argparse.ArgumentParser()
    add_data_options(parser)
    options = shlex.split(message.rpartition("for instance ")[2])
    given = given_data(parser.parse_args(options))["settings"]["structure_dict"]
    assert given == {"Lung_L": 1, "lung L": 1}
    data_io = Data_IO(find_interface(tmp_path, structure_dict=given), tmp_path)
    assert [int(data_io.sample_loader(name).seg_data.max()) for name in data_io.get_indiceslist()] == [1, 1]
