"""Choice of a DICOM series, from the command line to the configuration file and the check of the data."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_rtstruct, make_series, random_volume, save_series, square

from miscnn_tf import Data_IO
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.interfaces import DICOM_interface
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
