from __future__ import annotations

import argparse

import pytest

from miscnn_tf.cli.argument_types import label_pair, memory_size, positive_number, whole_number
from miscnn_tf.cli.config_options import add_config_options


@pytest.mark.parametrize(
    ("kind", "good", "value", "bad"),
    [
        (whole_number(2), "2", 2, ["1", "2.0", "x", ""]),
        (positive_number(), "0.5", 0.5, ["0", "-1", "inf", "nan", "x"]),
        (memory_size(), "0.5", 5 * 10**8, ["0", "-1", "inf", "nan", "x", "4 apples", "0GB"]),
        (memory_size(), "512MB", 512 * 10**6, []),
        (memory_size(), "1.5 GiB", 3 * 2**29, []),
        (label_pair(), "255=1", (255, 1), ["255", "255=", "=1", "a=b"]),
    ],
)
def test_what_is_taken(kind, good, value, bad, capsys) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--value", type=kind)
    assert parser.parse_args(["--value", good]).value == value
    for text in bad:
        with pytest.raises(SystemExit):
            parser.parse_args([f"--value={text}"])
        assert "invalid" in capsys.readouterr().err


def test_changes_add_up() -> None:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    arguments = parser.parse_args(["a.toml", "--set", "network.epochs=5", "--set", "a.b=1"])
    assert (arguments.config, arguments.set, arguments.output, arguments.fresh) == (
        "a.toml", ["network.epochs=5", "a.b=1"], None, False,
    )  # fmt: skip
