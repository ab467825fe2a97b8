from __future__ import annotations

import argparse
import ast
import logging
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from layout_data import write_pairs
from small_data import write_cases, write_volume

import miscnn_tf.cli
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.advice import CommandFormatter, for_command
from miscnn_tf.cli.data_options import DATA_OPTIONS, add_data_arguments, given_tables

ALL = {*DATA_OPTIONS, "--set", "--format", "--values"}
#: Python in a message: an argument with a value, a call, or a class of ours.
PYTHON = re.compile(
    r"\b(label_map|three_dim|series|modality|frames|structure_dict|annotation_tag|mask_folder|image_folder|part|"
    r"resume|archive|pattern)=|\w+_interface\(|Abstract_IO|Data_IO\b|\.initialize\(|\(Python:|in Python\b"
)


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("Map the values, e.g. label_map={255: 1}", "Map the values, e.g. --label-map 255=1"),
        ("merge them: label_map={2: 1, 3: 1, …}", "merge them: --label-map 2=1 3=1 …"),
        ('e.g. DICOM_interface(series="…"), or move', "e.g. --series '…', or move"),
        ('by its modality, e.g. modality="CT", or', "by its modality, e.g. --modality CT, or"),
        ('e.g. DICOM_interface(frames={"EchoTime": 8}). ', "e.g. --frames EchoTime=8. "),
        ("make the interface with structure_dict={'Lung L': 1}, or", "use --structures 'Lung L=1', or"),
        ("make the interface with three_dim=True", "use --set data.three_dim=true"),
        ("make it with channels=3, or correct", "use --channels 3, or correct"),
        ("give label_map={255: 0} and classes=3", "give --label-map 255=0 and --classes 3"),
        ("part='all' includes images", "--set 'data.settings.part=\"all\"' includes images"),
        ("write class numbers with values='index', or", "write class numbers with --values index, or"),
        ("file_format='seg': predictions of", "--format seg: predictions of"),
        ("with classes=3 labels are 0 to 2", "with classes=3 labels are 0 to 2"),
        ("Correct the names in structure_dict", "Correct the names in --structures"),
        ("or give mask_folder", "or give --mask-folder"),
        ("/data/label_map=1/a.png is truncated", "/data/label_map=1/a.png is truncated"),
        ("[data] the key 'label_mapp' is unknown. Did you mean 'label_map'?", None),
        ("Known: path, label_map, settings", None),
        ("label_map={", None),
    ],
)
def test_arguments_become_options(message: str, wanted: str | None) -> None:
    assert for_command(message, ALL) == (message if wanted is None else wanted)


def test_without_the_option_the_key_of_the_configuration_is_named() -> None:
    message = "map the values, e.g. label_map={255: 1}, or series='a b'"
    assert for_command(message, {"--set"}) == (
        "map the values, e.g. --set 'data.label_map={255 = 1}', or --set 'data.settings.series=\"a b\"'"
    )
    assert for_command(message, set()) == message


@pytest.mark.parametrize(
    "message",
    ["label_map={255: 1}", "structure_dict={'Lung=L': 1, 'Heart': 2}", "frames={'EchoTime': 8}", "series='a b'"],
)
def test_options_and_keys_can_be_pasted_and_mean_the_same(message: str) -> None:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    by_option, by_key = (
        given_tables(parser.parse_args(["data", *shlex.split(for_command(message, options))]))["data"]
        for options in (ALL, {"--set"})
    )
    assert len(by_option) == 2
    assert str(by_option).replace("'8'", "8") == str(by_key)  # an option's value is text


def test_logged_advice_is_translated() -> None:
    record = logging.LogRecord("a", logging.WARNING, "", 0, "give label_map=%s", ({1: 1},), None)
    assert CommandFormatter(ALL).format(record) == "miscnn-tf: warning: a: give --label-map 1=1"
    assert CommandFormatter(ALL, detailed=True).format(record) == "WARNING a: give --label-map 1=1"


def gapped(folder: Path) -> None:
    case = write_cases(folder, 3)[0]
    write_volume(case / "segmentation.nii.gz", np.full((12, 10, 6), 9, np.uint8))


def masks_of_two(folder: Path) -> None:
    for masks in ("mask", "1st_manual"):
        write_pairs(folder, ("a", "b"), masks=masks)


def nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("")


@pytest.mark.parametrize("command", ["init", "verify", "data_exp"])
@pytest.mark.parametrize("make", [gapped, masks_of_two, nothing])
def test_commands_give_no_advice_in_python(make, command: str, tmp_path: Path, capsys, caplog) -> None:
    make(tmp_path / "data")
    more = ["-o", str(tmp_path / "a.toml")] if command == "init" else []
    assert cli.main([command, str(tmp_path / "data"), *more]) == 1
    printed = capsys.readouterr()
    assert PYTHON.findall(printed.out + printed.err) == []
    assert printed.out + printed.err != ""


def test_sources_of_the_commands_hold_no_advice_in_python() -> None:
    """Texts in the commands' own modules; those of the package are translated."""
    found = []
    for path in sorted(Path(miscnn_tf.cli.__file__).parent.glob("*.py")):
        if path.stem == "advice":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{path.name}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
            if PYTHON.search(node.value) or re.search(r"\bmiscnn_tf\.\w+\(", node.value)
        ]
    assert found == []
