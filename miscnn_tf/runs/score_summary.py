"""Summary of the scores of all samples: mean, deviation, median and confidence interval per class and score."""

from __future__ import annotations

import math
import re
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field
from scipy import stats

import miscnn_tf
from miscnn_tf._base.arguments import number, whole_number
from miscnn_tf._base.messages import text_table
from miscnn_tf._base.plain_files import read_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.class_titles import name_of_class
from miscnn_tf.runs.score_table import KEYS, columns, definitions

_CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 0

Row = Mapping[str, Any]
# Numbers per batch: 16 MB.
_BATCH = 2**21
#: Main scores; the files have all scores.
_SHOWN: Final = ("dice", "hd95", "assd", "nsd")


class _Figures(Document):
    mean: float | None
    standard_deviation: float | None
    median: float | None
    confidence_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    cases: Annotated[int, Field(ge=0)]
    undefined: Annotated[int, Field(ge=0)]
    infinite: Annotated[int, Field(ge=0)]


class _Settings(Document):
    definitions: dict[str, str] | None = None


class _Missing(Document):
    number: Annotated[int, Field(ge=0)]
    names: list[str]


class _Summary(Document):
    cases: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=0)] | None = None
    classes: dict[Annotated[str, Field(pattern="^[0-9]{1,6}$")], dict[str, _Figures]]
    settings: _Settings
    cases_without_prediction: _Missing | None = None
    class_names: list[str] | None = None


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Compute mean, standard deviation, median and 95 % bootstrap confidence interval of each score and class.

    Args:
        rows: Rows of `evaluation.scores.score_label_maps`, with ``"sample_id"`` and, after a cross-validation,
            ``"fold"``.

    Returns:
        Plain data::

            {"cases": 20, "folds": 5,
             "classes": {"1": {"dice": {"mean": …, "standard_deviation": …, "median": …,
                                        "confidence_interval": [low, high],
                                        "cases": 19, "undefined": 1, "infinite": 0}, …}, …},
             "settings": {…}}

        All figures are computed from the ``cases`` whose score is a finite number. ``undefined`` counts those left out
        because the class is in neither label map, ``infinite`` those whose distance is infinite because the class is in
        only one of them. A mean distance with ``infinite`` above 0 is therefore too good; Dice and surface Dice count
        such cases as 0. None marks values that cannot be computed: any without cases, and a deviation (n - 1 in the
        denominator) or interval of one case. The interval is that of `mean_interval`; the cases of all folds are drawn
        with the same probability.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.8), ("b", 0.9))]
        >>> round(summarise(rows)["classes"]["1"]["dice"]["mean"], 3)
        0.85
    """
    names = columns(rows)
    scores = [name for name in names if name not in KEYS]
    cases = {(row.get("fold"), row["sample_id"]) for row in rows}
    folds = {row["fold"] for row in rows if "fold" in row}
    classes = {
        str(label): {
            name: _figures([row[name] for row in rows if row["class"] == label and name in row])
            for name in scores
            if any(name in row for row in rows if row["class"] == label)
        }
        for label in sorted({row["class"] for row in rows})
    }
    return {
        "cases": len(cases),
        **({"folds": len(folds)} if folds else {}),
        "classes": classes,
        "settings": _settings(scores),
    }


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read a ``summary.json``, which holds the result of `summarise`.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged.

    Example:
        >>> read_summary("evaluation/summary.json")["cases"]  # doctest: +SKIP
        20
    """
    advice = "delete it and evaluate again"
    content: dict[str, Any] = read_json(path, "an evaluation writes it", advice)
    require(_Summary, content, path, advice)
    return content


def summary_table(summary: Mapping[str, Any]) -> str:
    """Format a summary as text: a line per class and score, mean ± standard deviation [confidence interval].

    Args:
        summary: The result of `summarise`, or the content of ``summary.json``.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.8), ("b", 0.9))]
        >>> print(summary_table(summarise(rows)))
        class  score  mean ± SD [95 % CI]        median  cases  infinite  undefined
        1      dice   0.85 ± 0.07071 [0.8, 0.9]    0.85      2         0          0
    """
    found = [figures for scores in summary["classes"].values() for figures in scores.values()]
    heading = "value" if all(figures["cases"] <= 1 for figures in found) else "mean ± SD [95 % CI]"
    rows = [("class", "score", heading, "median", "cases", "infinite", "undefined")]
    for label, scores in summary["classes"].items():
        for name, figures in scores.items():
            counts = (str(figures[key]) for key in ("cases", "infinite", "undefined"))
            rows.append((label, name, _mean_text(figures), _text(figures["median"]), *counts))
    return text_table(rows, "lllrrrr", line=False)


def finite(values: Iterable[float]) -> list[float]:
    """Return the finite values."""
    return [value for value in values if math.isfinite(value)]


def _figures(values: Sequence[float]) -> dict[str, Any]:
    present = finite(values)
    interval = mean_interval(present, _CONFIDENCE, _RESAMPLES, _SEED)
    return {
        "mean": math.fsum(present) / len(present) if present else None,
        "standard_deviation": statistics.stdev(present) if len(present) > 1 else None,
        "median": statistics.median(present) if present else None,
        "confidence_interval": None if interval is None else list(interval),
        "cases": len(present),
        "undefined": sum(map(math.isnan, values)),
        "infinite": sum(map(math.isinf, values)),
    }


def _settings(scores: Iterable[str]) -> dict[str, Any]:
    tolerances = [match for match in (re.fullmatch(r"nsd_(.+?)([a-z]+)", name) for name in scores) if match]
    return {
        "surface_dice_tolerance": [{"length": float(match[1]), "unit": match[2]} for match in tolerances],
        "confidence_interval": {"of": "mean", "method": "bootstrap over cases, BCa", "level": _CONFIDENCE,
                                "resamples": _RESAMPLES, "seed": _SEED},
        "definitions": definitions(scores),
        "versions": {"miscnn_tf": miscnn_tf.__version__, **{name: version(name) for name in ("numpy", "scipy")}},
    }  # fmt: skip


def _mean_text(figures: Mapping[str, Any]) -> str:
    text = _text(figures["mean"])
    if figures["standard_deviation"] is not None:
        text += f" ± {_text(figures['standard_deviation'])}"
    if figures["confidence_interval"] is not None:
        low, high = figures["confidence_interval"]
        text += f" [{_text(low)}, {_text(high)}]"
    return text


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Compute the bootstrap confidence interval of a mean.

    Samples are drawn with replacement, and the interval is bias-corrected and accelerated (BCa; Efron, J. Am. Stat.
    Assoc. 82, 1987, doi:10.2307/2289144), which suits scores close to 1. It is the variation of the mean with other
    samples of the same kind, not with another training. For fewer than about ten samples it is too narrow.

    Args:
        values: A finite number per sample.
        confidence: Confidence level, above 0 and below 1.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same values give the same interval.

    Returns:
        Lower and upper end; None for fewer than two values.

    Raises:
        ConfigurationError: If an argument is invalid, or a value is not finite.

    Example:
        >>> low, high = mean_interval([0.91, 0.88, 0.93, 0.79, 0.90, 0.92])
        >>> round(low, 2), round(high, 2)
        (0.83, 0.91)
    """
    if not 0 < number(confidence, "confidence") < 1:
        raise ConfigurationError(f"confidence={confidence!r} must be above 0 and below 1, such as 0.95")
    resamples = whole_number(resamples, "resamples", 1)
    data = np.asarray(values, np.float64)
    if not np.isfinite(data).all():
        raise ConfigurationError("values has NaN or infinity; remove those samples, and report their number")
    if data.size < 2:
        return None
    if data.min() == data.max():
        return float(data[0]), float(data[0])
    methods: tuple[str, str] = ("BCa", "percentile")
    for method in methods:
        with warnings.catch_warnings():
            # SciPy warns and returns NaN if BCa is undefined; percentiles are used then.
            warnings.simplefilter("ignore")
            interval = stats.bootstrap(
                (data,),
                np.mean,
                n_resamples=resamples,
                batch=max(1, _BATCH // data.size),
                vectorized=True,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)


def scores_table(summary: Mapping[str, Any], names: Sequence[str]) -> str:
    """Format the main scores of each class except the background.

    Args:
        summary: Contents of ``summary.json``.
        names: Names of the classes, background first.

    Example:
        >>> rows = [{"sample_id": "a", "class": 1, "dice": 0.8, "iou": 0.7}]
        >>> print(scores_table(summarise(rows), ["background", "kidney"]))
        class   score  value  median  cases  infinite  undefined
        kidney  dice   0.8       0.8      1         0          0
    """
    shown = {
        name_of_class(names, int(label)): {
            name: figures for name, figures in scores.items() if name.partition("_")[0] in _SHOWN
        }
        for label, scores in summary["classes"].items()
        if label != "0"
    }
    return summary_table({**summary, "classes": shown})
