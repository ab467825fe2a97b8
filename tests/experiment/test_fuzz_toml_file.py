"""Damaged configurations: read as they say, or refused with the file's name."""

from __future__ import annotations

import itertools
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fuzzing import altered, fuzz, how_many, mutations, truncations

from miscnn_tf.cli.main import FAILED, main
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.toml_file import apply_changes, read_experiment, write_experiment

DOCUMENT: dict[str, Any] = {
    "data": {
        "path": "scans",
        "layout": "NIFTI",
        "channels": 1,
        "classes": 3,
        "three_dim": True,
        "class_names": ["background", "organ", "lesion"],
        "pattern": "case_.*",
        "label_map": {"255": 1},
    },
    "split": {"validation_share": 0.2, "groups": "(case)_.*", "seed": 7},
    "preprocessing": {
        "steps": [{"name": "Clipping", "min": -79, "max": 304.5}, {"name": "Padding", "min_size": [16, 16, 8]}],
        "analysis": "patchwise-crop",
        "patch_shape": [16, 16, 8],
        "overlap": [8, 8, 4],
        "foreground": 0.5,
        "cache_bytes": "2GB",
    },
    "augmentation": {"mirror": True, "mirror_axes": [0, 1], "gamma_range": [0.7, 1.5], "cycles": 2},
    "network": {
        "architecture": {"name": "unet_plain", "dropout": 0.5},
        "loss": "dice_crossentropy",
        "metrics": ["dice_soft", {"name": "ClassDice", "label": 1}],
        "learning_rate": 0.001,
        "epochs": 3,
        "class_weight": [1, 2.5, 1],
    },
    "cross_validation": {"k_fold": 3},
    "output": {"folder": "run", "backup_every": 2},
}


def as_toml(value: Any) -> str:
    """A value in TOML, where there is such a value; otherwise what people write in its place."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return repr(value)


def text_of(document: Any) -> bytes:
    if not isinstance(document, dict):
        return as_toml(document).encode()
    return "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in document.items()).encode()


def alike(found: Any, said: Any) -> bool:
    """Whether values are the same, a whole number where a number is wanted included; True is not 1."""
    if isinstance(said, dict) and isinstance(found, dict):
        return found.keys() == said.keys() and all(alike(found[key], said[key]) for key in said)
    if isinstance(said, list) and isinstance(found, list):
        return len(found) == len(said) and all(map(alike, found, said))
    return (
        (found == said or (found != found and said != said))
        and isinstance(found, bool) == isinstance(said, bool)
        and isinstance(found, str) == isinstance(said, str)
    )


def difference(path: Path, experiment: Any) -> str | None:
    """What of a configuration is not as the standard library reads it from the file."""
    said = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    for table, key in (("data", "path"), ("split", "file"), ("preprocessing", "prepared_folder"), ("output", "folder")):
        if key in said.get(table, {}):
            said[table][key] = os.path.normpath(path.parent / os.path.expanduser(said[table][key]))
    said.get("preprocessing", {}).pop("cache_bytes", None)  # text becomes a number
    network = said.get("network", {})
    for key in ("architecture", "loss"):
        if isinstance(network.get(key), str):
            network[key] = {"name": network[key]}
    if "metrics" in network:
        network["metrics"] = [{"name": one} if isinstance(one, str) else one for one in network["metrics"]]
    steps = said.get("preprocessing", {}).get("steps")
    if steps is not None:
        said["preprocessing"]["steps"] = [{"name": one} if isinstance(one, str) else one for one in steps]
    found = experiment.given()
    found.get("preprocessing", {}).pop("cache_bytes", None)
    if not alike(found, said):
        return f"read as {found}"
    write_experiment(experiment, path.with_name("again.toml"), "again")
    again = read_experiment(path.with_name("again.toml"))
    return None if alike(again.given(), experiment.given()) else "written and read as another one"


@how_many
def test_every_damaged_configuration_is_read_as_it_says_or_refused(tmp_path, number):
    whole = text_of(DOCUMENT)
    inputs = itertools.chain(
        [whole],
        map(text_of, altered(DOCUMENT, number, 1)),
        mutations(whole, number, 2),
        list(truncations(whole))[:: 1 if number > 1000 else 11],
    )

    fuzzed = fuzz(read_experiment, inputs, tmp_path, "experiment.toml", judge=difference)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 30, fuzzed
    assert fuzzed.refused > number / 2, fuzzed


SMALL = '[data]\npath = "scans"\n[preprocessing]\npatch_shape = [16, 16, 8]\n'
HOSTILE = {
    "4300 digits": "[network]\nepochs = " + "9" * 5000,
    "400 digits": "[network]\nepochs = " + "9" * 400,
    "65 bits": "[network]\nseed = 18446744073709551616",
    "brackets": "[network]\nclass_weight = " + "[" * 100_000,
    "levels": "[data.settings]\nx = " + "[" * 150 + "]" * 150,
    "1e400": "[network]\nlearning_rate = 1e400",
    "infinite": "[network]\nlearning_rate = inf",
    "repetition": "[split]\ngroups = '(a{99999999999})'",
    "date": "[network]\nepochs = 1979-05-27",
    "step": "[[preprocessing.steps]]\nname = 'Padding'\nmin_size = [[1]]",
    "bytes": "[preprocessing]\ncache_bytes = '100000000000000000TB'",
    "more bytes": f"cache_bytes = '{'9' * 400}GB'",
    "layout": "[data.settings]\nclasses = 3",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_configuration_is_one_error_of_train(tmp_path, capsys, text):
    path = tmp_path / "experiment.toml"
    path.write_text(SMALL + text)

    assert main(["train", str(path)]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"miscnn-tf: error: {path}")
    assert "Traceback" not in said
    assert len(said) < 1000


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "9" * 400, "[" * 100_000, "1e400", "inf", "nan", "1979-05-27", "5\nseed = 3", "\0", "{", '"\\ud800"'],
)
@pytest.mark.parametrize("key", ["network.epochs", "network.learning_rate"])
def test_hostile_set_is_one_error_of_train(tmp_path, capsys, key, value):
    path = tmp_path / "experiment.toml"
    path.write_text(SMALL)

    assert main(["train", str(path), "--set", f"{key}={value}"]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("miscnn-tf: error: ")
    assert key.partition(".")[2] in said
    assert "Traceback" not in said
    assert len(said) < 1000


def test_all_changes_that_cannot_be_made_are_listed_at_once():
    with pytest.raises(ConfigurationError, match=r"(?s)--set epochs.*--set network\.seed"):
        apply_changes({}, ["epochs=5", "network.epochs=3", "network.seed=" + "9" * 30])


def test_all_wrong_types_of_a_configuration_are_listed_at_once(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(SMALL + '[network]\nepochs = "3"\nlearning_rate = true\n[output]\nfigures = 1\n')

    with pytest.raises(ConfigurationError, match="3 mistakes") as caught:
        read_experiment(path)
    for said in (
        "epochs must be a whole number, got '3'",
        "learning_rate must be a number, got True",
        "figures must be",
    ):
        assert said in str(caught.value)


def test_a_change_of_several_lines_is_one_value():
    content: dict[str, Any] = {}
    apply_changes(content, ["data.pattern=5\nx = 3"])
    assert content == {"data": {"pattern": "5\nx = 3"}}
