"""Every option that an error recommends exists in the command that prints the error."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from downloaded_data import acdc, brats, chase, chase_as_downloaded, drive_as_downloaded, mask, numbered, pairs
from layout_data import labels_of, save_image, write_pairs
from small_data import write_cases, write_volume

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import DATA_OPTIONS, given_data

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*")
#: Options of other programs.
_OF_OTHERS = {"--raw", "--query-gpu", "--format", "--version", "--upgrade"}


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli.make_parser()._actions
    return next(dict(action.choices) for action in actions if isinstance(action, argparse._SubParsersAction))


def options_of(command: str) -> set[str]:
    return {name for action in commands()[command]._actions for name in action.option_strings}


def two_masks(root: Path) -> None:
    chase(root)
    for name in ("Image_01L", "Image_01R"):
        save_image(root / f"{name}_mask.png", labels_of(name, (20, 24), 2))


def two_folders_of_masks(root: Path) -> None:
    for masks in ("labels", "annotations"):
        write_pairs(root, ("a", "b"), masks=masks)


def two_pairs_of_folders(root: Path) -> None:
    for masks in ("pictures_masks", "pictures_labels"):
        pairs(root / "pictures", root / masks, ("a", "b"), form="{}.png")


def fields_of_view(root: Path) -> None:
    drive_as_downloaded(root.parent / "DRIVE", ())
    (root.parent / "DRIVE" / "test").rename(root)


def masks_with_loss(root: Path) -> None:
    write_pairs(root, ("a", "b"))
    for path in (root / "masks").glob("*.png"):
        save_image(path.with_suffix(".jpg"), np.full((6, 9), 255, np.uint8))
        path.unlink()


def numbered_objects(root: Path) -> None:
    for name in ("a", "bcd"):
        save_image(root / "images" / f"{name}.png", np.zeros((20, 24), np.uint8))
        save_image(root / "masks" / f"{name}.png", numbered(name))


def gaps_between_labels(root: Path) -> None:
    case = write_cases(root, 3)[0]
    write_volume(case / "segmentation.nii.gz", np.full((12, 10, 6), 9, np.uint8))


def two_layouts(root: Path) -> None:
    acdc(brats(root))


def unknown_layout(root: Path) -> None:
    root.mkdir()
    (root / "notes.txt").write_text("")


FAULTS: dict[Callable[[Path], None], str | None] = {
    two_masks: "--mask-pattern",
    two_folders_of_masks: "--mask-folder",
    two_pairs_of_folders: "--image-folder",
    fields_of_view: "--mask-folder",
    masks_with_loss: "--label-map",
    numbered_objects: "--label-map",
    gaps_between_labels: "--label-map",
    two_layouts: "--layout",
    unknown_layout: None,
}


@pytest.mark.parametrize("command", ["init", "verify", "data_exp", "look", "run"])
@pytest.mark.parametrize("write", FAULTS)
def test_options_in_errors_exist(write: Callable[[Path], None], command: str, tmp_path: Path, capsys, caplog) -> None:
    write(tmp_path / "data")
    more = (
        []
        if command in ("verify", "data_exp")
        else ["-o", str(tmp_path / "a.toml" if command == "init" else tmp_path / "out")]
    )
    assert cli.main([command, str(tmp_path / "data"), *more]) == 1
    printed = capsys.readouterr()
    recommended = set(_OPTION.findall(printed.out + printed.err))
    assert recommended <= options_of(command)
    assert FAULTS[write] is None or FAULTS[write] in recommended, printed.err


@pytest.mark.parametrize("write", FAULTS)
def test_options_in_errors_of_the_truth_exist(write: Callable[[Path], None], tmp_path: Path, capsys) -> None:
    write(tmp_path / "data")
    save_image(tmp_path / "predictions" / "a.png", np.zeros((6, 9), np.uint8))
    assert cli.main(["evaluate", str(tmp_path / "predictions"), str(tmp_path / "data")]) == 1
    error = capsys.readouterr().err
    assert set(_OPTION.findall(error)) <= options_of("evaluate")
    assert FAULTS[write] is None or FAULTS[write] in error


def test_the_annotator_of_the_truth_is_chosen(tmp_path: Path, capsys) -> None:
    chase_as_downloaded(tmp_path / "data")
    for name in ("Image_01L", "Image_01R"):
        save_image(tmp_path / "second" / f"{name}.png", mask(f"{name}2ndHO") // 255)
    given = ["evaluate", str(tmp_path / "second"), str(tmp_path / "data"), "-o"]
    assert cli.main([*given, str(tmp_path / "a"), "--mask-pattern", ".*_2ndHO"]) == 0
    assert cli.main([*given, str(tmp_path / "b")]) == 0
    assert (
        "of 2 annotators the first, _1stHO; choose another one with --mask-pattern '.*_2ndHO'"
        in capsys.readouterr().out
    )
    dice = [json.loads((tmp_path / out / "summary.json").read_text())["classes"]["1"]["dice"]["mean"] for out in "ab"]
    assert dice[0] == 1
    assert dice[1] < 0.9
    alone = [*given[:2], str(tmp_path / "second"), "--mask-pattern", ".*_2ndHO"]
    capsys.readouterr()
    assert cli.main(alone) == 1
    assert "holds label maps alone, and is not a data set, for which --layout" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "cross-validate"])
@pytest.mark.parametrize("write", [name for name, option in FAULTS.items() if option is not None])
def test_commands_with_a_configuration_recommend_its_keys(write, command: str, tmp_path: Path, capsys) -> None:
    write(tmp_path / "data")
    lines = ["[data]", 'path = "data"', "[preprocessing]", 'analysis = "fullimage"']
    (tmp_path / "a.toml").write_text("\n".join(lines), encoding="utf-8")
    assert cli.main([command, str(tmp_path / "a.toml"), "-o", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert set(_OPTION.findall(error)) <= options_of(command), error
    assert "--set" in error


@pytest.mark.parametrize("command", cli.COMMANDS)
@pytest.mark.parametrize(
    "message",
    [
        "choose mask_pattern='.*_1stHO'",
        "choose one: mask_folder='labels' or mask_folder='annotations'",
        "separate its values by a threshold, --label-map 128+=1 (Python: label_map={'128+': 1})",
        "Choose one, for instance with --layout ACDC on the command line or find_interface(path, 'ACDC'); or move",
        "give truth='ST'",
    ],
)
def test_advice_has_only_options_of_the_command(message: str, command: str) -> None:
    options = options_of(command)
    advice = for_command(message, options)
    if "--set" in options or "--mask-pattern" in options:
        assert set(_OPTION.findall(advice)) <= options


def test_the_option_chooses_the_annotator(tmp_path: Path, capsys) -> None:
    chase_as_downloaded(tmp_path)
    assert cli.main(["verify", str(tmp_path)]) == 0
    advice = re.search(r"choose another one with (--mask-pattern \S+)", capsys.readouterr().out)
    assert advice is not None
    given = shlex.split(advice[1])
    assert given_data(commands()["verify"].parse_args([str(tmp_path), *given])) == {
        "settings": {"mask_pattern": ".*_2ndHO"}
    }
    assert cli.main(["verify", str(tmp_path), *given]) == 0
    assert "annotators" not in capsys.readouterr().out


def test_options_in_texts_of_the_package_exist() -> None:
    known = {name for command in cli.COMMANDS for name in options_of(command)} | _OF_OTHERS | set(DATA_OPTIONS)
    missing = []
    for path in sorted(Path(miscnn_tf.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                missing += [f"{path.name}: {name}" for name in _OPTION.findall(node.value) if name not in known]
    assert missing == []
