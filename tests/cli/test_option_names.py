"""The names of options: one for each thing, in every command."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from small_data import write_cases

from miscnn_tf.cli import main as cli
from miscnn_tf.cli.data_options import DATA_OPTIONS, given_changes, given_tables
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.schema import Data
from miscnn_tf.experiment.toml_file import apply_changes, read_experiment

#: Options of the data set, and those that several commands have.
OF_DATA = {*DATA_OPTIONS, "--data_dir", "--data-dir", "--set"}
SHARED = {"--output", "--overwrite", "--memory", "--verbose", "--help"}
SHORT = {"--output": "-o", "--verbose": "-v", "--help": "-h", "--yes": "-y"}

#: The options of each command that only it has. A new option is added here, unless it is in the sets above.
OWN = {
    "demo": {"--cases", "--epochs", "--seed"},
    "run": {"--minutes", "--fresh", "--format"},
    "look": {"--open"},
    "init": {"--minutes", "--preset", "--configuration", "--previous-stage"},
    "verify": {"--quick", "--no-labels", "--fix-grids"},
    "data_exp": {"--no-labels", "--cases", "--export"},
    "train": {"--fresh", "--archive", "--continue-from"},
    "cross-validate": {"--fresh", "--archive"},
    "predict": {
        *("--format", "--probabilities", "--threshold", "--values", "--overlay", "--no-postprocessing"),
        "--previous-stage",
    },
    "evaluate": {"--ignore", "--tolerance", "--model", "--names", "--images"},
    "compare": {"--data"},
    "import-nnunet": {"--folds", "--checkpoint"},
    "report": {"--open", "--data"},
    "doctor": {"--json"},
    "cleanup": {"--batches", "--evaluation", "--predictions", "--only", "--dry-run", "--yes"},
}
#: Commands that read a data set take all its options.
READ_DATA = ("init", "verify", "data_exp", "look", "run")


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli.make_parser()._actions
    return next(dict(action.choices) for action in actions if isinstance(action, argparse._SubParsersAction))


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions if action.help != argparse.SUPPRESS for name in action.option_strings}


@pytest.mark.parametrize("command", OWN)
def test_a_command_has_its_own_options_and_shared_ones_only(command: str) -> None:
    shown = options_of(commands()[command])
    long = {name for name in shown if name.startswith("--")}
    assert long - OF_DATA - SHARED == OWN[command]
    assert {name for name in shown if not name.startswith("--")} == {SHORT[name] for name in long if name in SHORT}
    if command in READ_DATA:
        assert long >= OF_DATA - ({"--data_dir", "--data-dir"} if command == "run" else set())


def test_every_command_is_in_the_table() -> None:
    assert set(OWN) == set(cli.COMMANDS)


def test_an_option_means_the_same_everywhere() -> None:
    said: dict[str, set[tuple[object, ...]]] = {}
    for parser in commands().values():
        for action in parser._actions:
            for name in action.option_strings:
                if name in DATA_OPTIONS and action.help != argparse.SUPPRESS:
                    said.setdefault(name, set()).add((action.dest, action.metavar, action.help))
    assert said.keys() == DATA_OPTIONS.keys()
    assert [name for name, meanings in said.items() if len(meanings) > 1] == []


def test_every_option_of_data_is_a_key_of_the_configuration() -> None:
    import inspect

    from miscnn_tf.data_loading.interfaces import DICOM_interface
    from miscnn_tf.data_loading.interfaces.paired_io import Paired_interface

    arguments = {*inspect.signature(DICOM_interface).parameters, *inspect.signature(Paired_interface).parameters}
    for option in DATA_OPTIONS.values():
        table, _, key = option.key.rpartition(".")
        assert key in (arguments if table == "settings" else Data.model_fields)


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        (["-t", "nifti"], ["--layout", "nifti"]),
        (["--type", "NIFTI"], ["--layout", "NIFTI"]),
        (["--label_map", "2=1"], ["--label-map", "2=1"]),
        (["--label_map", "2=1", "1=1"], ["--label-map", "2=1", "--label-map", "1=1"]),
    ],
)
def test_earlier_names_still_work(earlier: list[str], now: list[str]) -> None:
    parser = commands()
    for command in ("init", "verify", "data_exp", "look"):
        before, after = (given_tables(parser[command].parse_args(["scans", *one])) for one in (earlier, now))
        assert before == after
        assert set(before["data"]) > {"path"}


def test_options_and_set_write_the_same_configuration(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 2)
    short = ["--layout", "nifti", "--label-map", "2=1", "--classes", "2", "--pattern", "case_[01]"]
    long = ["data.layout=NIFTI", "data.label_map={2 = 1}", "data.classes=2", "data.pattern='case_[01]'"]
    made = []
    for name, given in (("a", short), ("b", [part for one in long for part in ("--set", one)])):
        assert cli.main(["init", str(tmp_path / "data"), "-o", str(tmp_path / f"{name}.toml"), *given]) == 0
        made.append(read_experiment(tmp_path / f"{name}.toml"))
    assert made[0] == made[1]
    assert made[0].data.label_map == {"2": 1}


def test_run_hands_the_options_on_as_keys() -> None:
    given = ["run", "data", "--layout", "nifti", "--label-map", "255=1", "--series", "a 'b'", "--set", "network.seed=1"]
    changes = given_changes(commands()["run"].parse_args(given[1:]))
    tables: dict[str, object] = {}
    apply_changes(tables, changes)
    assert tables == {
        "data": {"layout": "NIFTI", "label_map": {"255": 1}, "settings": {"series": "a 'b'"}},
        "network": {"seed": 1},
    }
    with pytest.raises(ConfigurationError, match=r"--set data\.layout: the key is set"):
        given_changes(commands()["run"].parse_args(["data", "--layout", "IMG", "--set", "data.layout=IMG"]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--layout", "NIFTI", "--set", "data.layout=IMG"], "--set data.layout: the key is set by an argument or opt"),
        (["--series", "a", "--set", "data.settings.series=b"], "--set data.settings.series: the key is set by"),
        (["--set", "data.path=elsewhere"], "--set data.path: the key is set by"),
        (["--set", "network.epochs=5"], "--set network.…: this command uses only keys of [data]"),
        (["--set", "data.clases=3"], "Did you mean 'classes'?"),
    ],
)
def test_what_contradicts_itself_is_an_error(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path, 2)
    assert cli.main(["verify", str(tmp_path), *given]) == 1
    assert said in capsys.readouterr().err


def test_verify_takes_keys_that_have_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path, 2)
    given = ["--layout", "NIFTI_S", "--set", "data.settings.slice_axis=2"]
    assert cli.main(["data_exp", str(tmp_path), *given]) == 0
    assert "read by NIFTIslicer_interface: 2D" in capsys.readouterr().out
