"""Damaged files of a run folder: read as they say, or refused with the file's name; and the page is made anyway."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import altered, fuzz, how_many, mutations, truncations

from miscnn_tf.cli.main import FAILED, OK, main
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.summary import write_results
from miscnn_tf.experiment.fingerprint import Fingerprint, Intensities, read_fingerprint
from miscnn_tf.report.run_page import write_report
from miscnn_tf.runs.fold import Fold, FoldRecord, load_disk2fold, read_record, write_fold2disk
from miscnn_tf.runs.run_folder import read_run_folder
from miscnn_tf.runs.run_record import read_run_record, write_run_record
from miscnn_tf.runs.score_summary import read_summary
from miscnn_tf.runs.score_table import read_scores
from miscnn_tf.runs.tables import backup_evaluation, backup_history, read_history

HISTORY = {"loss": [1.0, 0.8, 0.5], "val_loss": [1.25, math.inf, math.nan]}
ROWS = [
    {"sample_id": name, "class": label, "dice": 0.75, "iou": 0.6, "hd95_mm": math.nan, "volume_truth_mm3": 12.0}
    for name in ("case_0", "case_1")
    for label in (0, 1, 2)
]
FINGERPRINT = Fingerprint(
    *(2, ((16, 16, 8), (18, 16, 8)), ((1.0, 1.0, 2.5), (1.0, 1.0, 3.0)), True),
    *((Intensities(-1000, 2000, -900.5, 1800, 40, 250.5),), (0.9, 0.1), (2, 1), ("case_0", "case_1")),
)


class Data:
    """What of a Data_IO a run record holds."""

    interface = NIFTI_interface(channels=1, classes=3)
    input_path = "/nowhere/scans"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training without its data."""
    folder = tmp_path_factory.mktemp("training")
    Data.interface.class_names = ("background", "organ", "lesion")
    settings = {"epochs": 3, "patch_shape": [16, 16, 8], "loss": {"class_name": "Tversky", "config": {"alpha": 0.5}}}
    write_run_record(folder, "training", settings=settings, data_io=Data(), predictions=folder / "predictions")  # type: ignore[arg-type]
    backup_history(HISTORY, folder)
    write_results(folder, ROWS)
    fold = Fold(("case_2", 3, ("a", 1)), ("case_0", "case_1"))
    write_fold2disk(folder / "sample_list.json", fold.training, fold.validation)
    FoldRecord(fold, {"epochs": 3, "loss": None}, HISTORY, detailed=True).write(folder)
    FINGERPRINT.write(folder / "fingerprint.json")
    return folder


def flat(value: Any) -> str:
    """A value as text that can be compared: lists and tuples are the same, NaN and None, 1 and 1.0, but not True."""
    return repr(json.loads(json.dumps(value), parse_int=float)).replace("nan", "None")


def of_record(folder: Path) -> Any:
    return read_run_record(folder)


def of_fold_record(folder: Path) -> Any:
    record = read_record(folder)
    assert record is not None
    sides = {"TRAINING": record.fold.training, "VALIDATION": record.fold.validation}
    history = {
        name: [None if math.isnan(value) else value for value in values] for name, values in record.history.items()
    }
    return {**sides, "settings": record.settings, "history": history, "detailed": record.detailed}


def of_split(folder: Path) -> Any:
    return dict(zip(("TRAINING", "VALIDATION"), load_disk2fold(folder / "sample_list.json"), strict=True))


def of_summary(folder: Path) -> Any:
    return read_summary(folder / "summary.json")


def of_fingerprint(folder: Path) -> Any:
    found = read_fingerprint(folder / "fingerprint.json")
    return {**found.__dict__, "intensities": [channel.__dict__ for channel in found.intensities]}


@how_many
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("run.json", of_record),
        ("completed.json", of_fold_record),
        ("sample_list.json", of_split),
        ("summary.json", of_summary),
        ("fingerprint.json", of_fingerprint),
    ],
)
def test_every_damaged_json_of_a_run_is_read_as_it_says_or_refused(tmp_path, run, number, name, read):
    whole = (run / name).read_bytes()
    documents = (json.dumps(one).encode() for one in altered(json.loads(whole), number, 1))
    texts = itertools.chain([whole], documents, mutations(whole, number // 2, 2))

    def judge(path: Path, found: dict[str, Any]) -> str | None:
        said = json.loads((path / name).read_bytes())
        different = [key for key, value in found.items() if flat(value) != flat(said.get(key))]
        return f"{different} are not as the file says: {found}" if different else None

    fuzzed = fuzz(read, ({name: text} for text in texts), tmp_path, "run", judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 10, fuzzed
    assert fuzzed.refused > number / 4, fuzzed


def cells(path: Path, delimiter: str) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row for row in csv.reader(file, delimiter=delimiter) if row]


def history_difference(path: Path, found: dict[str, list[float]]) -> str | None:
    header, *rows = cells(path, "\t") or [[]]
    said = {name: [row[place] for row in rows] for place, name in enumerate(header) if name != "epoch"}
    numbers = {name: [float(cell or "nan") for cell in column] for name, column in said.items()} if rows else {}
    return None if repr(numbers) == repr(found) and all(len(row) == len(header) for row in rows) else f"read as {found}"


def scores_difference(path: Path, found: list[dict[str, Any]]) -> str | None:
    header, *rows = cells(path, ",") or [[]]
    if len(rows) != len(found):
        return f"{len(found)} rows are read of {len(rows)}"
    for row, scores in zip(rows, found, strict=True):
        for name, cell in zip(header, row, strict=True):
            said = cell if name == "sample_id" else float(cell) if cell else None
            if repr(said) != repr(scores.get(name)) and said != scores.get(name):
                return f"{name} is {scores.get(name)!r}, but {cell!r} in the file"
    return None


def damaged_tables(text: bytes, number: int) -> Iterator[bytes]:
    lines = text.splitlines(keepends=True)
    yield text
    for place in range(len(lines)):
        yield b"".join(lines[:place] + lines[place + 1 :])
        yield b"".join(lines[:place] + lines[place : place + 1] + lines[place:])
    yield from truncations(text)
    yield from mutations(text, number, 1)


@how_many
@pytest.mark.parametrize(
    ("name", "read", "judge"),
    [("history.tsv", read_history, history_difference), ("scores.csv", read_scores, scores_difference)],
)
def test_every_damaged_table_of_a_run_is_read_as_it_says_or_refused(tmp_path, run, number, name, read, judge):
    fuzzed = fuzz(read, damaged_tables((run / name).read_bytes(), number), tmp_path, name, judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 10, fuzzed
    assert fuzzed.refused > 20, fuzzed


@how_many
def test_a_page_is_made_of_every_damaged_run_folder_and_names_what_is_damaged(tmp_path, run, number):
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    inputs = [
        {**files, name: json.dumps(one).encode()}
        for seed, name in enumerate(("run.json", "summary.json", "completed.json", "sample_list.json"))
        for one in altered(json.loads(files[name]), number // 16, seed)
    ]
    inputs += [
        {**files, name: text}
        for seed, name in enumerate(("history.tsv", "scores.csv", "run.json"))
        for text in mutations(files[name], number // 16, seed)
    ]

    def judge(path: Path, page: Path) -> str | None:
        problems = read_run_folder(path).problems
        html = page.read_text(encoding="utf-8")
        unnamed = [problem for problem in problems if str(path) not in problem or "is damaged" not in html]
        return f"not on the page: {unnamed}" if unnamed and "is not " not in html else None

    fuzzed = fuzz(write_report, inputs, tmp_path, "run", judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results == len(inputs), fuzzed


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run.json", {"settings": [1]}, "settings must be a table, got [1]"),
        ("run.json", {"data": {"class_names": [None]}}, "data.class_names.0 must be text in quotes, got None"),
        ("run.json", {"versions": {"numpy": 2}}, "versions.numpy must be text"),
        ("summary.json", {"settings": [1]}, "settings must be a table, got [1]"),
        ("completed.json", {"detailed": "no"}, "detailed must be true or false"),
        ("sample_list.json", {"TRAINING": [{"a": 1}]}, "names a sample {'a': 1}"),
    ],
)
def test_settings_of_another_type_are_named_by_report(run, tmp_path, capsys, name, change, said):
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps({**content, **change}))

    problems = read_run_folder(tmp_path).problems
    assert len(problems) == 1
    assert str(tmp_path / name) in problems[0]
    assert said in problems[0]
    assert main(["report", str(tmp_path)]) == OK
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_one_error_of_report(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == FAILED
    assert capsys.readouterr().err.count("\n") == 1


def test_a_table_that_was_cut_off_within_a_number_is_refused(run, tmp_path):
    (tmp_path / "scores.csv").write_bytes((run / "scores.csv").read_bytes()[:-2])
    with pytest.raises(DataError, match=r"scores\.csv.*truncated"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text + text.splitlines(keepends=True)[-1], "twice"),
        (lambda text: text.replace("dice", "iou", 1), "column 'iou' occurs twice"),
        (lambda text: text.replace("0.75", "0_7.5", 1), "'0_7.5' is not a number"),
        (lambda text: text.replace("case_0,0", "case_0,-1", 1), "'-1' is not a whole number"),
        (lambda text: text.replace("0.75", "1e999", 1), "too large"),
    ],
)
def test_scores_that_mean_something_else_are_refused(run, tmp_path, change: Callable[[str], str], said):
    (tmp_path / "scores.csv").write_text(change((run / "scores.csv").read_text()))
    with pytest.raises(DataError, match=r"scores\.csv") as caught:
        read_scores(tmp_path / "scores.csv")
    assert said in str(caught.value)


def test_scores_that_were_cut_off_between_lines_are_named_beside_a_summary(run, tmp_path):
    (tmp_path / "summary.json").write_bytes((run / "summary.json").read_bytes())
    lines = (run / "scores.csv").read_text().splitlines(keepends=True)
    for kept, cases in ((4, 1), (1, 0)):
        (tmp_path / "scores.csv").write_text("".join(lines[:kept]))
        assert [
            f"is a summary of 2 cases, but scores.csv beside it holds {cases}" in one
            for one in read_run_folder(tmp_path).problems
        ] == [True]


def test_a_history_with_a_lost_epoch_is_refused(run, tmp_path):
    lines = (run / "history.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "history.tsv").write_text(lines[0] + lines[1] + lines[3])
    with pytest.raises(DataError, match=r"history\.tsv.*the epoch is '3', not 2"):
        read_history(tmp_path / "history.tsv")


def test_a_row_is_appended_to_a_table_that_is_damaged(tmp_path):
    (tmp_path / "detailed_validation.tsv").write_bytes(b"sample_id\nc\xe9\n")
    backup_evaluation(["b"], tmp_path)
    assert (tmp_path / "detailed_validation.tsv").read_bytes() == b"sample_id\nc\xe9\nb\n"
