"""Report page of a run (training, cross-validation or evaluation) as a self-contained HTML file."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.class_colours import OKABE_ITO
from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.pictures.contrast import OPACITY, colours_over, difference_colours, outline_colour
from miscnn_tf.report.case_pictures import RankedCase, choose_cases, draw_slices, load_case, rank_cases
from miscnn_tf.report.charts import BoxChart, LineChart, box_chart, line_chart, shared_range
from miscnn_tf.report.kept_pictures import Key, digest_of, key_of, parts_of, read_pictures
from miscnn_tf.report.new_images import new_images
from miscnn_tf.report.page import format_duration, format_score, render_page, script_source, setting_rows
from miscnn_tf.report.remarks import WAIT, remarks
from miscnn_tf.runs.best_model import BEST_BY, find_best_epoch
from miscnn_tf.runs.class_titles import quantity_title
from miscnn_tf.runs.names import HISTORY_FILE, MODEL_FILE, REPORT_FILE, RUN_FILE, SCORES_FILE, SUMMARY_FILE
from miscnn_tf.runs.recorded_data import recorded_data
from miscnn_tf.runs.run_folder import RunFolder, number_of_folds, read_run_folder
from miscnn_tf.runs.score_summary import finite
from miscnn_tf.runs.score_table import KEYS, columns, is_share, measured, score_title, undefined_note
from miscnn_tf.runs.training_progress import TrainingProgress

logger = logging.getLogger(__name__)

# Total size of the embedded pictures, characters; a page of this size opens quickly and can be sent by mail.
_MOST_BYTES = 7_000_000
_MOST_ROWS = 4000
_MOST_FIGURES = 4
# Whole turns of the colours: those of higher labels are found by their remainder.
_MOST_COLOURS = 32 * len(OKABE_ITO)
# As many epochs are never trained: a time limit ends the training.
_UNLIMITED_EPOCHS = 100_000
# Seconds between two loads of the page of an unfinished run by the browser.
_LEAST_REFRESH, _MOST_REFRESH = 5, 60
_FIRST = ("dice", "nsd", "hd95", "assd", "sensitivity", "precision", "volume", "area")


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
    return write_page(folder, output, data_io=data_io).path


@dataclass(frozen=True)
class WrittenPage:
    """Report page that was written.

    Attributes:
        path: The file.
        cases: Number of cases with pictures.
        kept: Number of those whose pictures are those of the earlier page.
        problem: Sentence with the reason for missing and for kept pictures; None if there is none.
    """

    path: Path
    cases: int
    kept: int
    problem: str | None


def write_page(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    data_io: Data_IO | None = None,
    data: str | Path | None = None,
    draw: bool = True,
    refresh: float | None = None,
) -> WrittenPage:
    """Write the report page of a run, as `write_report` does.

    Pictures that cannot be drawn, because images or predictions are missing, are taken from the earlier page at
    `output` or in the folder, if the scores of their cases have not changed since.

    Args:
        folder: The folder of the run.
        output: The file; by default ``report.html`` in the folder.
        data_io: Source of the cases; by default that in ``run.json``.
        data: Folder of the data, if it is not that in ``run.json``.
        draw: Draw pictures, which takes seconds; otherwise only those of the earlier page are shown.
        refresh: Seconds after which a browser loads the page again, because the run goes on.

    Raises:
        MissingDataError: If the folder is not that of a run, or `data` does not exist.
        DataError: If `data` has none of the cases.
        StorageError: If the page cannot be written.
    """
    run = read_run_folder(folder)
    path = Path(output) if output is not None else run.folder / REPORT_FILE
    script, script_hash = script_source("run.js")
    pages = dict.fromkeys([run.folder / REPORT_FILE, path]) if run.rows else {}
    earlier = {key: pictures for page in pages for key, pictures in read_pictures(page).items()}
    if data is not None:
        data_io = _rebuilt_data(run, data)
    cases, kept, problem = _cases(run, data_io, earlier) if draw else _kept_cases(run, earlier)
    if data is not None and problem is not None and kept == len(cases):
        raise DataError(f"no case can be shown with the data in {data}: {problem} Nothing was written")
    segmented, not_listed = new_images(run.folder)
    palette, differences = _colours(run, [case["pictures"] for case in cases])
    html = render_page(
        "run.html",
        title=_title(run),
        run=run,
        about=_about(run),
        headline=_headline(run),
        remarks=remarks(run, goes_on=refresh is not None),
        cases=cases,
        no_pictures=problem,
        new_images=segmented,
        not_listed=not_listed,
        palette=palette,
        differences=differences,
        flat=all(case["pictures"]["total"] == 1 for case in cases),
        refresh=None if refresh is None else _pause(refresh, bool(cases)),
        status=None if refresh is None else _status(run),
        endings=_endings(run),
        best_rule=next((best.rule for fold in run.folds if (best := find_best_epoch(fold.history))), None),
        explains_dice=any(BEST_BY[1] in fold.history for fold in run.folds),
        summary_columns=measured(columns(run.rows)),
        table=_table(run, {(case["fold"], case["name"]): number for number, case in enumerate(cases)}),
        boxes=_boxes(run),
        curves=_curves(run),
        settings=setting_rows(_settings(run)),
        data=_data_rows(run),
        definitions=((run.summary or {}).get("settings") or {}).get("definitions") or {},
        score_note=_score_note(run),
        undefined_note=undefined_note(columns(run.rows)),
        files=_files(run, path),
        models=[name for _, name in _model_files(run)],
        score_title=score_title,
        is_share=is_share,
        script=script,
        script_hash=script_hash,
    )
    # A page that is renewed anyway need not survive a power failure.
    with atomic_path(path, durable=refresh is None) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
    return WrittenPage(path, len(cases), kept, problem)


def _title(run: RunFolder) -> str:
    cases = len({(row.get("fold"), row["sample_id"]) for row in run.rows})
    of_cases = f" of {cases} {'case' if cases == 1 else 'cases'}" if cases else ""
    if run.kind == "evaluation":
        return f"Evaluation{of_cases}"
    if run.kind == "training":
        return f"Training, validated on {cases} {'case' if cases == 1 else 'cases'}" if cases else "Training"
    if ((run.record or {}).get("settings") or {}).get("leave_one_out"):
        return f"Leave-one-out validation{of_cases}"
    return f"{max(len(run.folds), number_of_folds(run.record, run.folder))}-fold cross-validation{of_cases}"


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
                    "name": "mean Dice without background",
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


def _kept_cases(run: RunFolder, earlier: Mapping[Key, dict[str, Any]]) -> tuple[list[dict[str, Any]], int, str | None]:
    """Return the chosen cases of which the earlier page has pictures."""
    found = ((case, _earlier(run, case, earlier)) for case in choose_cases(rank_cases(run.rows)))
    shown = [_described(run, case, pictures) for case, pictures in found if pictures is not None]
    return shown, len(shown), None


def _cases(
    run: RunFolder, data_io: Data_IO | None, earlier: Mapping[Key, dict[str, Any]]
) -> tuple[list[dict[str, Any]], int, str | None]:
    """Draw the chosen cases, one in memory at a time.

    Args:
        run: The run.
        data_io: Source of the cases; by default that in ``run.json``.
        earlier: Pictures of an earlier page, for cases of which less can be drawn now.

    Returns:
        The cases, the number of those with earlier pictures, and the reason for missing and for earlier pictures.
    """
    chosen = choose_cases(rank_cases(run.rows))
    if not chosen:
        return [], 0, None
    try:
        data_io = data_io or _rebuilt_data(run)
    except Exception as reason:  # an interface that a third party registered may raise any error
        shown, kept, _ = _kept_cases(run, earlier)
        return shown, kept, _problem(len(chosen), len(shown), kept, _text_of(reason))
    known = {str(index): index for index in data_io.indices_list}
    shown, reasons, kept = [], [], 0
    for case in tqdm(chosen, desc="Pictures of cases", unit="case", disable=None, leave=False):
        before = _earlier(run, case, earlier)
        pictures: dict[str, Any] | None = None
        try:
            if case.name not in known:
                raise MissingDataError(f"the data in {data_io.input_path} no longer contain the case {case.name!r}")
            loaded = load_case(data_io, known[case.name], run.predictions_of(case.fold))
            pictures = draw_slices(loaded, most_bytes=_MOST_BYTES // len(chosen))
            pictures["problems"] = loaded.problems
            del loaded  # free the memory before the next one is read
        except Exception as reason:  # interfaces may raise any error, which must not prevent the page
            logger.info("no pictures of %s: %s", case.name, reason)
            reasons.append(f"{case.name}: {_text_of(reason)}")
        if before is not None and (pictures is None or parts_of(pictures) < parts_of(before)):
            if pictures is not None:
                reasons.append(f"{case.name}: {' '.join(pictures['problems'])}")
            pictures, kept = before, kept + 1
        if pictures is not None:
            shown.append(_described(run, case, pictures))
    return shown, kept, _problem(len(chosen), len(shown), kept, reasons[0]) if reasons else None


def _earlier(run: RunFolder, case: RankedCase, earlier: Mapping[Key, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the pictures of a case in an earlier page, if its scores have not changed since."""
    keys = (key_of(case.fold, case.name, _dice(run, case), scores) for scores in (_digest(run, case), None))
    return next((earlier[key] for key in keys if key in earlier), None)


def _digest(run: RunFolder, case: RankedCase) -> str:
    return digest_of([row for row in run.rows if (row.get("fold"), row["sample_id"]) == (case.fold, case.name)])


def _text_of(reason: Exception) -> str:
    known = isinstance(reason, MissingDataError | DataError | ConfigurationError | OSError)
    return str(reason) if known else f"{type(reason).__name__}: {reason}"


def _problem(chosen: int, shown: int, kept: int, reason: str) -> str:
    """Return a sentence on cases without pictures, or with those of an earlier page."""
    parts = []
    if kept:
        parts.append(f"The pictures of {kept} of {plural(chosen, 'case')} are those of the earlier page.")
    if 0 < shown < chosen:
        parts.append(f"{chosen - shown} of {plural(chosen, 'case')} cannot be shown.")
    return " ".join([*parts, f"{reason.rstrip('.')}."])


def _dice(run: RunFolder, case: RankedCase) -> list[dict[str, Any]]:
    return [
        {"name": run.name_of(label), "dice": format_score(dice, True), "label": label}
        for label, dice in case.dice.items()
    ]


def _described(run: RunFolder, case: RankedCase, pictures: dict[str, Any]) -> dict[str, Any]:
    return {
        "fold": case.fold,
        "name": case.name,
        "place": case.place,
        "mean": format_score(case.mean, True),
        "dice": _dice(run, case),
        "scores": _digest(run, case),
        "pictures": pictures,
    }


def _rebuilt_data(run: RunFolder, folder: str | Path | None = None) -> Data_IO:
    """Return the source of the cases that is recorded in ``run.json``, in this folder if it is given."""
    return recorded_data(run.record, run.folder, folder, "write_report(folder, data_io=data_io)")


def _colours(run: RunFolder, pictures: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the classes but the background with their colours, and the colours of differences and outlines."""
    most = min(max([*run.labels, len(run.class_names) - 1, 1]), _MOST_COLOURS)
    found = [colour for one in pictures for colour in one["colours"] or ()]
    below = np.array(found, np.uint8) if found else None
    classes = colours_over(most + 1, below)[1:]
    names = ["#{:02X}{:02X}{:02X}".format(*colour) for colour in classes.tolist()]
    palette = [
        {"label": label, "name": run.name_of(label), "colour": colour} for label, colour in enumerate(names, start=1)
    ]
    missed, extra, other = difference_colours(classes, below)
    return palette, {
        "missed": missed,
        "extra": extra,
        "other": other,
        "outline": outline_colour(below),
        "opacity": OPACITY,
    }


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


def _score_note(run: RunFolder) -> str:
    """Return a sentence on what the table of scores shows: means, or the scores of a single case."""
    summary = run.summary or {}
    scores = [one for of_class in summary.get("classes", {}).values() for one in of_class.values()]
    if all(one["standard_deviation"] is None for one in scores):
        return "The scores of the case." if summary.get("cases") == 1 else "The means of the cases."
    interval = (summary.get("settings") or {}).get("confidence_interval") or {}
    if not interval or all(one["confidence_interval"] is None for one in scores):
        return "Mean ± standard deviation of the cases."
    level = round(100 * interval["level"])
    return (
        f"Mean ± standard deviation of the cases, and the {level} % confidence interval of the mean "
        f"({interval['method']})."
    )


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
    words = re.sub(r"\bdice\b", "Dice", name.replace("_", " "))
    return words[:1].upper() + words[1:]


def _pause(seconds: float, pictures: bool) -> int:
    """Return the seconds after which the browser loads the page again; pictures are looked at, and stay longer."""
    return _MOST_REFRESH if pictures else max(_LEAST_REFRESH, min(_MOST_REFRESH, math.ceil(seconds)))


def _status(run: RunFolder) -> dict[str, Any]:
    """Return the state of an unfinished run: its fold and epoch, the remaining time, and the best epoch so far."""
    folds = max(len(run.folds), number_of_folds(run.record, run.folder))
    latest = max(run.folds, key=lambda fold: fold.progress.written if fold.progress else "")
    progress = latest.progress
    open_folds = folds - sum(fold.finished for fold in run.folds)
    where = "" if latest.number is None else f"Fold {latest.number} ({latest.number + 1} of {folds})"
    if progress is None:
        return {"where": where, "share": 0.0, "lines": ["The training begins."], "written": ""}
    if progress.epochs >= _UNLIMITED_EPOCHS:
        epochs = plural(progress.epoch, "epoch")
    else:
        epochs = f"{progress.epoch} of {plural(progress.epochs, 'epoch')}"
    lines = []
    each, left = progress.seconds_per_epoch, progress.seconds_left
    share = progress.epoch / progress.epochs
    if progress.stopped is not None:
        share = 1.0
        lines.append(f"{progress.stopped} The validation cases are predicted next.")
    elif left is not None and each is not None:
        share = progress.epoch * each / (progress.epoch * each + left)
        more = (
            "" if open_folds < 2 else f", for all folds {format_duration(_whole_run(left, progress, each, open_folds))}"
        )
        lines.append(f"Remaining time: about {format_duration(left)}{more}, without the predictions at the end.")
    best = find_best_epoch(latest.history)
    if best is not None:
        lines.append(f"Best epoch so far: {best.epoch}, with {best.described}.")
    return {
        "where": ", ".join(part for part in (where, epochs) if part),
        "share": share,
        "lines": lines,
        "written": progress.written,
    }


def _whole_run(left: float, progress: TrainingProgress, each: float, open_folds: int) -> float:
    """Return the remaining time of all open folds, of which each takes as long as this one."""
    return left + (open_folds - 1) * (progress.epoch * each + left)


def _endings(run: RunFolder) -> list[str]:
    """Return why each training ended, and its best epoch."""
    sentences = []
    for fold in run.folds:
        best = find_best_epoch(fold.history)
        if fold.progress is not None and fold.progress.stopped is not None:
            name = "" if fold.number is None else f"Fold {fold.number}: "
            kept = "" if best is None else f" The best epoch is {best.epoch}, with {best.described}."
            sentences.append(f"{name}{fold.progress.stopped}{kept}")
    return sentences


# ---------------------------------------------------------------- how it was made


def _settings(run: RunFolder) -> dict[str, Any]:
    """Return the settings of the run, without the number of epochs if the minutes limit the training."""
    settings = dict((run.record or {}).get("settings") or {})
    epochs = settings.get("epochs")
    if settings.get("minutes") is not None and isinstance(epochs, int) and epochs >= _UNLIMITED_EPOCHS:
        del settings["epochs"]
    return settings


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
