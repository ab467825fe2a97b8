from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from layout_data import write_pairs

from miscnn_tf.cli import main as cli
from miscnn_tf.cli.init_run import _with_given
from miscnn_tf.experiment.fingerprint import read_fingerprint
from miscnn_tf.experiment.planner import Choice, Plan, plan_validation, to_tables
from miscnn_tf.experiment.toml_file import read_experiment


def init(*arguments: object) -> int:
    return cli.main(["init", *map(str, arguments)])


def test_what_to_do_next_can_be_pasted_into_a_shell(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = experiment.parent / "a new one.toml"
    assert init(experiment.parent / "data", "-o", path) == 0
    assert f"miscnn-tf train '{path}'" in capsys.readouterr().out


def test_a_configuration_with_reasons(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = experiment.parent / "new.toml"
    assert init(experiment.parent / "data", "-o", path, "--memory", 2) == 0
    said = capsys.readouterr().out
    assert "4 samples, layout NIFTI" in said
    assert f"miscnn-tf train {path}" in said
    text = path.read_text(encoding="utf-8")
    assert 'path = "data"' in text  # beside it: both can be moved
    assert "# 4 samples in " in text
    assert "CT in Hounsfield units" in text
    made = read_experiment(path)
    assert made.data.path == str(experiment.parent / "data")
    assert (made.data.layout, made.data.channels, made.data.classes) == ("NIFTI", 1, 3)
    assert made.preprocessing.patch_shape is not None
    assert len(made.preprocessing.make_steps()) == 3
    assert read_fingerprint(experiment.parent / "new.fingerprint.json").cases == 4


@pytest.mark.parametrize("limit", [["--minutes", 2], ["--set", "network.minutes=2"]])
def test_a_time_limit_has_its_number_of_steps(experiment: Path, tmp_path: Path, limit: list[object]) -> None:
    path = tmp_path / "limited.toml"
    assert init(experiment.parent / "data", "-o", path, *limit, "--memory", 1) == 0
    network = read_experiment(path).network
    assert (network.minutes, network.epochs) == (2, None)
    assert network.iterations is not None


def test_a_patch_of_the_user_is_kept_and_no_step_measured(experiment: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("miscnn_tf.cli.init_run._seconds_per_step", lambda *_: pytest.fail("measured"))
    changes = {"patch": "preprocessing.patch_shape=[16, 16, 16]", "network": "network.architecture=unet_plain"}
    for name, change in changes.items():
        path = tmp_path / f"{name}.toml"
        assert init(experiment.parent / "data", "-o", path, "--minutes", 2, "--set", change) == 0
    assert read_experiment(tmp_path / "patch.toml").preprocessing.patch_shape == [16, 16, 16]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (50, "val_pooled_dice")),
        ({"network": {"iterations": 8}}, (4, "val_pooled_dice")),
        ({"network": {"iterations": 8, "validation_batches": 7}}, (7, "val_pooled_dice")),
        ({"network": {"metrics": ["dice_soft"]}}, (50, None)),
        ({"network": {"metrics": ["dice_soft"], "best_by": "val_loss"}}, (50, "val_loss")),
        ({"preprocessing": {"analysis": "fullimage"}}, (None, "val_pooled_dice")),
    ],
)
def test_the_planned_validation_fits_the_keys_of_the_user(given, expected) -> None:
    plan: Plan = {"network": plan_validation(100), "preprocessing": {"analysis": Choice("patchwise-crop", "")}}
    network = to_tables(_with_given(plan, given))["network"]
    assert (network.get("validation_batches"), network.get("best_by")) == expected


def test_an_existing_file_is_not_lost(experiment: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("work of hours")
    assert init(experiment.parent / "data", "-o", path) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "work of hours"
    assert init(experiment.parent / "data", "-o", path, "--overwrite") == 0
    assert read_experiment(path).data.path == str(experiment.parent / "data")  # elsewhere: absolute
    assert init(experiment.parent / "data", "-o", tmp_path / "mine.txt") == 1
    assert "must end in .toml" in capsys.readouterr().err


def test_what_is_said_is_kept(experiment: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "said.toml"
    said = ["--set", "data.label_map={2 = 1}", "--set", "data.classes=2", "--set", "network.epochs=7"]
    assert init(experiment.parent / "data", "-o", path, *said, "--set", "data.pattern=.*[0-2]") == 0
    made = read_experiment(path)
    assert made.data.label_map == {"2": 1}
    assert (made.data.classes, made.data.pattern, made.network.epochs) == (2, ".*[0-2]", 7)
    assert read_fingerprint(path.with_suffix(".fingerprint.json")).cases == 3
    assert init(experiment.parent / "data", "-o", tmp_path / "x.toml", "--set", "data.clases=2") == 1
    assert "Did you mean 'classes'?" in capsys.readouterr().err


def test_a_folder_that_is_no_data_set(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert init(tmp_path, "-o", tmp_path / "x.toml") == 1
    assert "dataset.json" in capsys.readouterr().err  # the layouts are shown
    assert init(tmp_path / "none", "-o", tmp_path / "x.toml") == 1
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "x.toml").exists()


def test_no_tensorflow_is_needed(experiment: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from miscnn_tf.cli.main import main\n"
        f"code = main(['init', {str(experiment.parent / 'data')!r}, '-o', {str(tmp_path / 'a.toml')!r}])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_hippocampus_from_the_folder_to_a_network(hippocampus: Path, tmp_path: Path) -> None:
    """What init writes can be built as it stands."""
    assert init(hippocampus / "cases", "-o", tmp_path / "hippocampus.toml") == 0
    from miscnn_tf.experiment.build import make_data_io, make_preprocessor
    from miscnn_tf.experiment.build_network import make_model

    made = read_experiment(tmp_path / "hippocampus.toml", ["network.architecture.n_filters=1"])
    model = make_model(made, make_preprocessor(made, make_data_io(made, tmp_path)))
    assert model.model.input_shape == (None, 40, 56, 40, 1)


def test_the_folders_of_images_and_masks_are_printed_and_written(tmp_path: Path, capsys) -> None:
    write_pairs(tmp_path / "data", ("a", "b", "c", "d"), masks="mask", size=(32, 32))
    write_pairs(tmp_path / "data", ("a", "b", "c", "d"), masks="1st_manual", size=(32, 32))
    path = tmp_path / "eyes.toml"
    assert init(tmp_path / "data", "-o", path) == 1
    assert "choose one: --mask-folder 1st_manual or --mask-folder mask. " in capsys.readouterr().err
    assert init(tmp_path / "data", "-o", path, "--set", "data.settings.mask_folder='1st_manual'") == 0
    data = tmp_path / "data"
    assert f"layout PAIRED: images from {data / 'images'}, masks from {data / '1st_manual'}" in capsys.readouterr().out
    assert read_experiment(path).data.settings == {"mask_folder": "1st_manual"}


def test_a_label_map_is_completed_and_says_what_predictions_hold(experiment: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "merged.toml"
    assert init(experiment.parent / "data", "-o", path, "--set", "data.label_map={2 = 1}") == 0
    assert read_experiment(path).data.label_map == {"1": 1, "2": 1}
    text = path.read_text(encoding="utf-8")
    assert "classes of values in the label maps; predictions are written with the values 0, 1" in text


def test_the_configurations_of_nnunet(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from miscnn_tf.cli.init import CONFIGURATIONS, PRESETS
    from miscnn_tf.experiment import network_plan

    assert network_plan.CONFIGURATIONS == CONFIGURATIONS
    assert tuple(network_plan.PRESETS) == PRESETS
    data = experiment.parent / "data"
    assert init(data, "-o", tmp_path / "full.toml") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Configuration 3d_fullres of nnU-Net, which also trains 2d on such data" in printed
    assert "'miscnn-tf init --configuration 2d' plans it" in printed
    assert "3d_lowres is not planned: a patch in full resolution covers 100 % of the median image" in printed
    assert init(data, "-o", tmp_path / "slices.toml", "--configuration", "2d") == 0
    assert "Configuration 2d of nnU-Net, which also trains 3d_fullres" in " ".join(capsys.readouterr().out.split())
    made = read_experiment(tmp_path / "slices.toml")
    assert made.preprocessing.patch_shape is not None
    assert made.preprocessing.patch_shape.count(1) == 1
    axis = made.preprocessing.patch_shape.index(1)
    assert made.preprocessing.spacing is None or made.preprocessing.spacing[axis] == "keep"
    assert init(data, "-o", tmp_path / "low.toml", "--configuration", "3d_lowres") == 1
    assert "'3d_lowres' is not planned for this data set: a patch in full res" in capsys.readouterr().err
    assert not (tmp_path / "low.toml").exists()
    cascade = (data, "-o", tmp_path / "low.toml", "--configuration", "3d_cascade_fullres")
    assert init(*cascade) == 1
    assert "name the folder of that run with --previous-stage" in capsys.readouterr().err
    assert init(*cascade, "--previous-stage", tmp_path) == 1
    assert "its previous stage, 3d_lowres, is not planned: a patch in full resolution" in capsys.readouterr().err
    assert init(data, "-o", tmp_path / "low.toml", "--previous-stage", tmp_path) == 1
    assert "is for the configuration 3d_cascade_fullres" in capsys.readouterr().err


def test_a_cascade_names_its_previous_stage(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # So little memory that the small scans are large.
    arguments = ("--configuration", "3d_cascade_fullres", "--previous-stage", "coarse_run", "--memory", "1MB")
    assert init(experiment.parent / "data", "-o", tmp_path / "fine.toml", *arguments) == 0
    made = read_experiment(tmp_path / "fine.toml")
    assert made.data.previous_stage == str(tmp_path / "coarse_run")
    assert "Configuration 3d_cascade_fullres of nnU-Net" in (tmp_path / "fine.toml").read_text()
