"""Choice of a DICOM series, from the command line to the configuration file and the check of the data."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_rtstruct, make_series, random_volume, save_series, square

from miscnn_tf.cli import main as cli


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
