from __future__ import annotations

import tomllib

from miscnn_tf.experiment.plan_file import plan_text
from miscnn_tf.experiment.planner import Choice


def test_it_is_toml_with_the_values_and_a_reason_for_each() -> None:
    long = "because " * 20
    data = {"path": Choice('C:\\scans "new"', ""), "label_map": Choice({"255": 1, "a b": 2}, "as you said")}
    plan = {
        "network": {
            "architecture": Choice({"name": "unet_standard", "instance_normalization": True, "depth": 3}, long),
            "metrics": Choice(["dice_soft", {"name": "ClassDice", "label": 1}], "two"),
            "learning_rate": Choice(0.001, "of Adam"),
        }
    }
    text = plan_text(data, plan, ["A configuration", ""])
    assert tomllib.loads(text) == {
        "data": {"path": 'C:\\scans "new"', "label_map": {"255": 1, "a b": 2}},
        "network": {
            "architecture": {"name": "unet_standard", "instance_normalization": True, "depth": 3},
            "metrics": ["dice_soft", {"name": "ClassDice", "label": 1}],
            "learning_rate": 0.001,
        },
    }
    lines = text.splitlines()
    assert lines[:2] == ["# A configuration", "#"]
    assert "learning_rate = 0.001  # of Adam" in lines
    before = lines[lines.index(next(line for line in lines if line.startswith("architecture"))) - 1]
    assert before.startswith("# ")
    assert before.endswith("because")
