"""Scores as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from miscnn_tf.runs.score_summary import summary_table

#: Main scores; the files have all scores.
_SHOWN: Final = ("dice", "hd95", "assd", "nsd")


def scores_table(summary: Mapping[str, Any], names: Sequence[str]) -> str:
    """Format the main scores of each class except the background.

    Args:
        summary: Contents of ``summary.json``.
        names: Names of the classes, background first.

    Example:
        >>> from miscnn_tf.runs.score_summary import summarise
        >>> rows = [{"sample_id": "a", "class": 1, "dice": 0.8, "iou": 0.7}]
        >>> print(scores_table(summarise(rows), ["background", "kidney"]))
        class   score  mean ± SD [95 % CI]  median  cases  infinite  undefined
        kidney  dice   0.8                     0.8      1         0          0
    """
    shown = {
        names[int(label)] if int(label) < len(names) else label: {
            name: figures for name, figures in scores.items() if name.partition("_")[0] in _SHOWN
        }
        for label, scores in summary["classes"].items()
        if label != "0"
    }
    return summary_table({**summary, "classes": shown})
