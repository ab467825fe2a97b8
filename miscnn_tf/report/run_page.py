"""Report page of a run (training, cross-validation or evaluation) as a self-contained HTML file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import build_interface
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.pictures.overlay import OKABE_ITO
from miscnn_tf.report.case_pictures import RankedCase, choose_cases, draw_slices, load_case, rank_cases
from miscnn_tf.report.charts import BoxChart, LineChart, box_chart, line_chart, shared_range
from miscnn_tf.report.page import format_score, render_page, script_source, setting_rows
from miscnn_tf.report.remarks import WAIT, remarks
from miscnn_tf.runs.class_titles import quantity_title
from miscnn_tf.runs.names import HISTORY_FILE, MODEL_FILE, REPORT_FILE, RUN_FILE, SCORES_FILE, SUMMARY_FILE
from miscnn_tf.runs.run_folder import RunFolder, read_run_folder
from miscnn_tf.runs.score_summary import finite
from miscnn_tf.runs.score_table import KEYS, columns, is_share, measured, score_title

logger = logging.getLogger(__name__)

# Total size of the embedded pictures, characters; a page of this size opens quickly and can be sent by mail.
_MOST_BYTES = 7_000_000
_MOST_ROWS = 4000
_MOST_FIGURES = 4
# Whole turns of the colours: those of higher labels are found by their remainder.
_MOST_COLOURS = 32 * len(OKABE_ITO)
_FIRST = ("dice", "nsd", "hd95", "assd", "sensitivity", "precision", "volume", "area")
# Colours that remain distinct with colour blindness, and from grey; same as the overlays of utils.visualizer.
_MISSED, _EXTRA, _MIXED_UP = "#56B4E9", "#D55E00", "#CC79A7"


def write_report(folder: str | Path, output: str | Path | None = None, *, data_io: Data_IO | None = None) -> Path:
    """Write the report page of a run: scores, curves, settings, and slices of the worst and best cases.

    It is one file without external resources, and shows the available results: a run without scores has only curves,
    and one whose data are missing has a note instead of pictures.

    Args:
        folder: The folder of the run: the ``evaluation_path`` of a (cross-)validation, a ``fold_<i>`` of it, or the
            output folder of a command.
        output: The file; by default ``report.html`` in the folder.
        data_io: Source of the cases. By default they are read with the interface in ``run.json``, which is not possible
            for data in memory, or for an interface of your own that is not registered in
            `miscnn_tf.data_loading.interfaces.miscnn_data_interfaces`.

    Returns:
        The file.

    Raises:
        MissingDataError: If the folder is not that of a run.
        StorageError: If the page cannot be written.

    Example:
        >>> from miscnn_tf.report.run_page import write_report
        >>> write_report("evaluation")  # doctest: +SKIP
        PosixPath('evaluation/report.html')
    """
    run = read_run_folder(folder)
    path = Path(output) if output is not None else run.folder / REPORT_FILE
    script, script_hash = script_source("run.js")
    cases, no_pictures = _cases(run, data_io)
    html = render_page(
        "run.html",
        title=_title(run),
        run=run,
        about=_about(run),
        headline=_headline(run),
        remarks=remarks(run),
        cases=cases,
        no_pictures=no_pictures,
        palette=_palette(run),
        differences={"missed": _MISSED, "extra": _EXTRA, "other": _MIXED_UP},
        summary_columns=measured(columns(run.rows)),
        table=_table(run, {(case["fold"], case["name"]): number for number, case in enumerate(cases)}),
        boxes=_boxes(run),
        curves=_curves(run),
        settings=setting_rows((run.record or {}).get("settings") or {}),
        data=_data_rows(run),
        definitions=((run.summary or {}).get("settings") or {}).get("definitions") or {},
        interval=((run.summary or {}).get("settings") or {}).get("confidence_interval") or {},
        files=_files(run, path),
        models=[name for _, name in _model_files(run)],
        score_title=score_title,
        is_share=is_share,
        script=script,
        script_hash=script_hash,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
    return path


def _title(run: RunFolder) -> str:
    cases = len({(row.get("fold"), row["sample_id"]) for row in run.rows})
    of_cases = f" of {cases} {'case' if cases == 1 else 'cases'}" if cases else ""
    if run.kind == "evaluation":
        return f"Evaluation{of_cases}"
    if run.kind == "training":
        return f"Training, validated on {cases} {'case' if cases == 1 else 'cases'}" if cases else "Training"
    if ((run.record or {}).get("settings") or {}).get("leave_one_out"):
        return f"Leave-one-out validation{of_cases}"
    return f"{len(run.folds)}-fold cross-validation{of_cases}"


def _about(run: RunFolder) -> str:
    """Return the line below the title: folder, time and version."""
    parts = [f"Results in {os.path.abspath(run.folder)}"]
    written = (run.record or {}).get("written")
    if isinstance(written, str):
        parts.append(f"run on {written[:10]} at {written[11:16]} UTC")
    version = (run.record or {}).get("versions", {}).get("miscnn_tf")
    if version:
        parts.append(f"with miscnn_tf {version}")
    return ", ".join(parts) + "."


def _headline(run: RunFolder) -> list[dict[str, str]]:
    """Return the most important figures: name, value, and confidence interval or range."""
    if run.summary is None:
        epochs = max((len(next(iter(fold.history.values()), ())) for fold in run.folds), default=0)
        losses = [min(values) for fold in run.folds if (values := finite(fold.history.get("val_loss", ())))]
        figures = [{"name": "epochs", "figure": str(epochs), "more": ""}] if epochs else []
        if losses:
            mean = sum(losses) / len(losses)
            more = "" if len(losses) == 1 else f"mean of {len(losses)} folds"
            figures.append({"name": "lowest validation loss", "figure": f"{mean:.3g}", "more": more})
        return figures
    figures = []
    classes = {label: run.summary["classes"][str(label)] for label in run.labels if label}
    if len(classes) > 1:
        means = finite([case.mean for case in rank_cases(run.rows)])
        if means:
            low = f"{format_score(min(means), True)} to {format_score(max(means), True)}"
            figures.append(
                {
                    "name": "mean Dice of all classes",
                    "figure": format_score(sum(means) / len(means), True),
                    "more": f"cases from {low}" if len(means) > 1 else "one case",
                }
            )
    if len(classes) <= _MOST_FIGURES:
        figures += [
            {
                "name": f"Dice, {run.name_of(label)}",
                "figure": format_score(scores["dice"]["mean"], True),
                "more": _interval(scores["dice"], True),
            }
            for label, scores in classes.items()
            if "dice" in scores
        ]
    missing = len(run.summary.get("cases_without_prediction", ()))
    more = f"{missing} more without a prediction" if missing else ""
    figures.append({"name": "cases", "figure": str(run.summary["cases"]), "more": more})
    return figures


def _interval(figures: Mapping[str, Any], share: bool) -> str:
    interval = figures["confidence_interval"]
    return (
        "" if interval is None else f"95 % CI {format_score(interval[0], share)} to {format_score(interval[1], share)}"
    )


# ---------------------------------------------------------------- cases


def _cases(run: RunFolder, data_io: Data_IO | None) -> tuple[list[dict[str, Any]], str | None]:
    """Draw the chosen cases, one in memory at a time; also return the reason for missing pictures."""
    chosen = choose_cases(rank_cases(run.rows))
    if not chosen:
        return [], None
    try:
        data_io = data_io or _rebuilt_data(run)
    except (MissingDataError, DataError, ConfigurationError, OSError) as reason:
        return [], str(reason)
    except Exception as reason:  # of an interface that a third party registered
        return [], f"{type(reason).__name__}: {reason}"
    known = {str(index): index for index in data_io.indices_list}
    shown, reasons = [], []
    for case in tqdm(chosen, desc="Pictures of cases", unit="case", disable=None, leave=False):
        try:
            if case.name not in known:
                raise MissingDataError(f"the data in {data_io.input_path} no longer contain the case {case.name!r}")
            loaded = load_case(data_io, known[case.name], run.predictions_of(case.fold))
            pictures = draw_slices(loaded, most_bytes=_MOST_BYTES // len(chosen))
            pictures["problems"] = loaded.problems
            del loaded  # free the memory before the next one is read
        except Exception as reason:  # interfaces may raise any error, which must not prevent the page
            logger.info("no pictures of %s: %s", case.name, reason)
            reasons.append(f"{case.name}: {reason}")
            continue
        shown.append(_described(run, case, pictures))
    if reasons and not shown:
        return [], reasons[0]
    return shown, f"{len(reasons)} of {len(chosen)} cases cannot be shown. {reasons[0]}" if reasons else None


def _described(run: RunFolder, case: RankedCase, pictures: dict[str, Any]) -> dict[str, Any]:
    return {
        "fold": case.fold,
        "name": case.name,
        "place": case.place,
        "mean": format_score(case.mean, True),
        "dice": [
            {"name": run.name_of(label), "dice": format_score(dice, True), "label": label}
            for label, dice in case.dice.items()
        ],
        "pictures": pictures,
    }


def _rebuilt_data(run: RunFolder) -> Data_IO:
    data = (run.record or {}).get("data")
    if not data or not isinstance(data.get("interface"), dict):
        raise MissingDataError(
            f"{run.folder / RUN_FILE} does not contain the path of the data; pass the data with "
            "write_report(folder, data_io=…)"
        )
    interface = build_interface(data["interface"], class_names=data.get("class_names"))
    if interface is None:
        raise MissingDataError(
            f"the data were read by {data['interface'].get('class_name')}, which cannot be rebuilt without your "
            "program; call write_report(folder, data_io=data_io) there"
        )
    return Data_IO(interface, data.get("input_path") or "")


def _palette(run: RunFolder) -> list[dict[str, Any]]:
    """Return the classes but the background, with their colours."""
    most = min(max([*run.labels, len(run.class_names) - 1, 1]), _MOST_COLOURS)
    return [
        {"label": label, "name": run.name_of(label), "colour": OKABE_ITO[(label - 1) % len(OKABE_ITO)]}
        for label in range(1, most + 1)
    ]


# ---------------------------------------------------------------- scores


def _table(run: RunFolder, shown: Mapping[tuple[int | None, str], int]) -> dict[str, Any]:
    """Return the scores of each case and class as text; only the lowest ones of very many."""
    names = [name for name in columns(run.rows) if name not in KEYS]
    rows = run.rows
    if len(rows) > _MOST_ROWS:
        # Undefined scores (NaN) cannot be compared, and come last.
        rows = sorted(rows, key=lambda row: (row["class"] == 0, _or_last(row.get("dice", 0.0))))[:_MOST_ROWS]
    return {
        "columns": [{"title": score_title(name), "share": is_share(name)} for name in names],
        "folds": any("fold" in row for row in rows),
        "left_out": len(run.rows) - len(rows),
        "rows": [
            {
                "case": row["sample_id"],
                "fold": row.get("fold"),
                "label": row["class"],
                "class": run.name_of(row["class"]),
                "shown": shown.get((row.get("fold"), row["sample_id"])),
                "cells": [
                    {"text": format_score(row.get(name), is_share(name)), "share": _share(name, row.get(name))}
                    for name in names
                ],
            }
            for row in rows
        ],
    }


def _or_last(value: float) -> float:
    return value if value == value else float("inf")


def _share(name: str, value: float | None) -> float | None:
    """Return the length of the bar behind a Dice score, in percent; None for other scores."""
    return round(100 * value, 1) if name == "dice" and value is not None and 0 <= value <= 1 else None


def _boxes(run: RunFolder) -> list[BoxChart]:
    labels = [label for label in run.labels if label] or run.labels
    rows = [row for row in run.rows if row["class"] in labels]
    return [
        box_chart(
            name,
            {
                label: [(row["sample_id"], row[name]) for row in rows if row["class"] == label and name in row]
                for label in labels
            },
            {label: run.name_of(label) for label in labels},
        )
        for name in sorted(measured(columns(rows)), key=_rank)
    ]


def _rank(name: str) -> int:
    """Return the rank of a score, the most informative one first."""
    return next((place for place, start in enumerate(_FIRST) if name.startswith(start)), len(_FIRST))


# ---------------------------------------------------------------- training


def _curves(run: RunFolder) -> list[dict[str, Any]]:
    """Return for each quantity of the history a chart per fold, on one scale."""
    histories = [fold.history for fold in run.folds if fold.history]
    names = dict.fromkeys(name.removeprefix("val_") for history in histories for name in history)
    # The time of waiting for data is in the remarks, if it was long.
    ordered = sorted(
        (name for name in names if name != WAIT), key=lambda name: (name != "loss", name == "learning_rate")
    )
    groups = []
    for name in ordered:
        limits = shared_range(histories, name)
        heading = _readable(quantity_title(name, run.class_names))
        charts: list[LineChart] = []
        for fold in run.folds:
            if name in fold.history or f"val_{name}" in fold.history:
                title = heading if fold.number is None else f"Fold {fold.number}"
                charts.append(line_chart(title, name, fold.history, limits))
        groups.append({"name": heading, "charts": charts})
    if all(fold.number is None for fold in run.folds):
        # With a single training, each quantity is one chart, which has its name.
        return [{"name": None, "charts": [chart for group in groups for chart in group["charts"]]}] if groups else []
    return groups


def _readable(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


# ---------------------------------------------------------------- how it was made


def _data_rows(run: RunFolder) -> list[tuple[str, str]]:
    data = (run.record or {}).get("data") or {}
    rows = []
    if data.get("input_path"):
        rows.append(("data", str(data["input_path"])))
    interface = data.get("interface")
    if isinstance(interface, dict):
        rows += [(name, text) for name, text in setting_rows({"read by": interface})]
    values = data.get("label_values")
    if isinstance(values, list):
        rows.append(("values", ", ".join(f"{value}: {run.name_of(label)}" for label, value in enumerate(values))))
    for fold in run.folds:
        if fold.training is not None and fold.validation is not None:
            name = "cases" if fold.number is None else f"fold {fold.number}"
            rows.append((name, f"{fold.training} for training, {fold.validation} for validation"))
    return rows


def _model_files(run: RunFolder) -> list[tuple[Path, str]]:
    return [(path, name) for path, name in _files_of_folds(run, MODEL_FILE) if path.is_file()]


def _files_of_folds(run: RunFolder, name: str) -> list[tuple[Path, str]]:
    """Return the file of each fold, and its name in the run folder."""
    paths = [fold.folder / name for fold in run.folds]
    return [(path, path.relative_to(run.folder).as_posix()) for path in paths]


def _files(run: RunFolder, page: Path) -> list[dict[str, str]]:
    """Return the other files of the folder, with addresses relative to the page."""
    listed = [(run.folder / name, name) for name in (SUMMARY_FILE, SCORES_FILE, RUN_FILE)]
    listed += [*_files_of_folds(run, HISTORY_FILE), *_model_files(run)]
    files = []
    for path, name in listed:
        if not path.is_file():
            continue
        try:
            relative = Path(os.path.relpath(path, page.parent)).as_posix()
        except ValueError:  # on another drive
            continue
        # "./" prevents a name such as "javascript:…" from being read as a URL scheme.
        files.append({"name": name, "address": "./" + quote(relative)})
    return files
