from __future__ import annotations

from miscnn_tf.cli.tables import scores_table
from miscnn_tf.runs.score_summary import summarise


def test_the_main_scores_of_the_foreground() -> None:
    rows = [
        {"sample_id": name, "class": label, "dice": 0.5 + label / 10, "iou": 0.3, "hd95_mm": 2.0}
        for name in "ab"
        for label in range(3)
    ]
    lines = scores_table(summarise(rows), ["background", "kidney"]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["kidney", "dice", "0.6"],
        ["kidney", "hd95_mm", "2"],
        ["2", "dice", "0.7"],
        ["2", "hd95_mm", "2"],
    ]
