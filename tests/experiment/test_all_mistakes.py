"""All mistakes of a configuration in one message, whatever stage finds them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_config import write_config
from small_data import write_cases

from miscnn_tf.cli import main as cli
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.build_network import known_losses, require_parts
from miscnn_tf.experiment.toml_file import read_experiment


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        require_parts(read_experiment(path))
    first, *others = str(caught.value).splitlines()
    assert f"has {len(others)} mistakes:" in first
    return [line.strip() for line in others]


def test_names_weights_and_keys_together(tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "a.toml",
        data={"classes": 3},
        network={
            "architecture": {"name": "unet_standart"},
            "loss": "dice_ce",
            "metrics": ["dice_soft", "dice_sft", {"name": "ClassDice", "labels": 1}],
            "optimizer": "Adamm",
            "class_weight": [1.0, 2.0],
            "epochs": "many",
            "epoch": 3,
        },
    )
    found = mistakes(path)
    for said in (
        "[network] epochs must be a whole number, got 'many'",
        "[network] the key 'epoch' is unknown. Did you mean 'epochs'?",
        "[network] class_weight has 2 weights, but there are 3 classes",
        "[network] the architecture 'unet_standart' is unknown. Did you mean 'unet_standard'?",
        "[network] the loss 'dice_ce' is unknown. Did you mean 'dice_crossentropy'?",
        "[network] the metric 'dice_sft' is unknown. Did you mean 'dice_soft'?",
        "[network] the metric 'ClassDice' has no argument 'labels'. Did you mean 'label'?",
        "[network] the optimizer 'adamm' is unknown. Did you mean 'adam'?",
    ):
        assert [line for line in found if line.startswith(said)], said
    assert len(found) == 8


def test_wrong_names_alone_are_listed_too(tmp_path: Path) -> None:
    found = mistakes(write_config(tmp_path / "a.toml", network={"loss": "dice_ce", "optimizer": "sgdd"}))
    assert [line.split("'")[1] for line in found] == ["dice_ce", "sgdd"]


def test_a_wrong_key_does_not_hide_what_does_not_fit_together(tmp_path: Path) -> None:
    """Whole tables are checked only where their keys are valid: the second mistake was shown after the first one."""
    path = write_config(
        tmp_path / "a.toml",
        data={"classes": 3, "class_names": ["a", "b"], "chanels": 1},
        split={"file": "a.json", "training": ["a"], "sead": 1},
        network={"load_head": False, "epochs": 0},
    )
    found = mistakes(path)
    assert len(found) == 6
    assert "[data] class_names has 2 names, but classes = 3" in found
    assert "[split] file and training are both given; keep one of them" in found
    assert "[network] load_head is given without weights; add weights with the model file" in found


def test_what_follows_from_a_mistake_is_not_listed(tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "a.toml",
        data={"classes": "three", "class_names": ["a", "b"]},
        preprocessing={"patch_shape": [8.5, 8, 4], "overlap": [1, 2, "x"]},
    )
    found = mistakes(path)
    assert len(found) == 3
    assert not [line for line in found if "missing" in line or "class_names" in line]


@pytest.mark.parametrize(
    ("data", "weights", "said"),
    [
        (
            {"classes": None, "class_names": ["a", "b", "c"]},
            [1.0],
            "class_weight has 1 weight, but there are 3 classes",
        ),
        ({"classes": 2}, [0.0, 0.0], "class_weight is 0 for every class"),
    ],
)
def test_class_weights(data: dict[str, object], weights: list[float], said: str, tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", data=data, network={"class_weight": weights})
    with pytest.raises(ConfigurationError, match=said):
        read_experiment(path)


def test_a_correct_file_is_read_without_tensorflow(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", network={"loss": "dice_crossentropy", "class_weight": [1.0, 2.0, 3.0]})
    code = (
        "import sys; from miscnn_tf.experiment.toml_file import read_experiment\n"
        f"read_experiment({str(path)!r}); assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_report_names_before_they_read_the_data(tmp_path: Path, capsys) -> None:
    write_cases(tmp_path / "data", 2)
    path = write_config(tmp_path / "a.toml", data={"path": "nowhere"}, network={"loss": "dice_ce"})
    for command in ("train", "cross-validate"):
        assert cli.main([command, str(path)]) == 1
        assert "Did you mean 'dice_crossentropy'?" in capsys.readouterr().err
    given = ["--set", "network.loss=dice_ce", "--set", "network.metrics=[dice_sft]"]
    assert cli.main(["init", str(tmp_path / "data"), "-o", str(tmp_path / "new.toml"), *given]) == 1
    assert not (tmp_path / "new.toml").exists()


def test_dice_ce_is_not_a_loss() -> None:
    assert "dice_ce" not in known_losses()
