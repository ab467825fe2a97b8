"""Dice after a number of minutes of training: miscnn_tf beside MONAI, a U-Net in PyTorch, and nnU-Net, in turns.

Each method trains on the same samples for the same time, in a process of its own, and writes label files of the same
validation samples, which are scored by one function. Validation samples are not in the folder that a method trains
on. The time starts with the first step; preparation and prediction are not part of it.

    python benchmarks/accuracy.py --minutes 10 -o results.json
    python benchmarks/accuracy.py --data hippocampus --rivals --validate-on-training 5 --seeds 0 1 2 -o decisions.json

``--validate-on-training`` is for decisions: it divides the training samples into folds, and leaves the validation
samples alone; ``--set`` changes our plan. The results are written after each run. The same command continues with the
runs that are missing, and prints a table of all results in the file.

The rivals need an environment with PyTorch, nnunetv2 and monai. It is made if ``--python`` does not name one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rivals import python_with

from miscnn_tf import MiscnnError
from miscnn_tf._base.messages import plural
from miscnn_tf._machine.processor import processor

FOLDER = Path(__file__).with_name("accuracy")
sys.path.insert(0, str(FOLDER))

from data_sets import DATA_SETS, DataSet  # noqa: E402
from scoring import score  # noqa: E402

#: Real data sets.
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
OURS = "miscnn_tf"
RIVALS = {"monai": "MONAI, plain U-Net", "unet": "U-Net (Ronneberger et al., PyTorch)", "nnunet": "nnU-Net"}
TITLES = {OURS: OURS, **RIVALS}
SCRIPTS = {OURS: "_train_ours.py", **{rival: f"_train_{rival}.py" for rival in RIVALS}}
#: An environment for the rivals, made if none is given.
REQUIREMENTS = ("nnunetv2>=2.8", "monai>=1.6")


@dataclass(frozen=True)
class Turn:
    """A training and its scores.

    Attributes:
        data: Name of the data set.
        fold: ``"0/5"`` for the first of five folds of the training samples; None for the split of the data set.
        changes: Values of the plan that are changed, for ablations; only ours has them.
    """

    data: str
    method: str
    minutes: float
    seed: int
    fold: str | None
    changes: str
    processor: str
    cores: int


class RunError(RuntimeError):
    """A method that ended with an error."""


def main() -> int:
    """Run what is missing, print the table, and return the exit code: 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), help="data sets (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="time of each training (default: %(default)g)")
    parser.add_argument(
        "--rivals", nargs="*", choices=RIVALS, default=list(RIVALS), help="methods beside ours; none without a name"
    )
    parser.add_argument("--no-ours", action="store_true", help="run the rivals alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a run for each (default: 0)")
    parser.add_argument("--python", help="interpreter of an environment with nnunetv2 and monai (default: it is made)")
    parser.add_argument(
        "--validate-on-training", type=int, metavar="K", help="divide the training samples into K folds, for decisions"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change values of our plan, for ablations: network.learning_rate=0.002",
    )
    parser.add_argument("--folds", nargs="+", type=int, help="run these of the K folds, from 0 (default: all)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=REAL,
        help="folder of the real data, hippocampus and chase (default: %(default)s)",
    )
    parser.add_argument("--keep", type=Path, help="keep models, predictions and outputs of the runs in this folder")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("results.json"), help="the results (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.python and os.sep in arguments.python:  # the methods run in another folder
        arguments.python = os.path.abspath(arguments.python)
    if arguments.minutes <= 0:
        parser.error(f"--minutes {arguments.minutes:g}: give a time above 0")
    if arguments.folds and not arguments.validate_on_training:
        parser.error("--folds: name folds of --validate-on-training K, which is missing")
    if arguments.validate_on_training is not None and arguments.validate_on_training < 2:
        parser.error(f"--validate-on-training {arguments.validate_on_training}: give at least 2 folds")
    count = arguments.validate_on_training or 0
    if arguments.folds and not all(0 <= fold < count for fold in arguments.folds):
        parser.error(f"--folds {arguments.folds}: the numbers of {count} folds are 0 to {count - 1}")
    methods = [*([] if arguments.no_ours else [OURS]), *arguments.rivals]
    results = read_results(arguments.output)
    try:
        failures = run_missing(arguments, methods, results)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(table(results))
    return min(1, failures)


def run_missing(arguments: argparse.Namespace, methods: list[str], results: list[dict[str, Any]]) -> int:
    """Add the results of the runs that are missing, write them after each one, and return the number of failures."""
    done, failures = {turn_of(result) for result in results}, 0
    with tempfile.TemporaryDirectory() as temporary:
        for turn, data, training, validation in turns(arguments, methods, Path(temporary)):
            if turn in done:
                continue
            parts = (turn.data, turn.method, turn.changes, f"{turn.minutes:g}min", f"seed{turn.seed}", turn.fold)
            name = "-".join(str(part) for part in parts if part)
            folder = (arguments.keep or Path(temporary)).resolve() / re.sub(r"[^\w.=-]", "_", name)
            print(f"{datetime.now(UTC):%H:%M} {name}", file=sys.stderr, flush=True)
            python = sys.executable
            if turn.method != OURS:
                python = arguments.python = arguments.python or str(python_with(*REQUIREMENTS))
            try:
                results.append({**vars(turn), **run(turn, data, training, validation, folder, python)})
            except RunError as error:  # the others can go on
                print(error, file=sys.stderr, flush=True)
                failures += 1
            write_results(arguments.output, results)
    return failures


def turns(
    arguments: argparse.Namespace, methods: list[str], made: Path
) -> Iterator[tuple[Turn, DataSet, tuple[str, ...], tuple[str, ...]]]:
    """Yield the runs with data set, training and validation samples; the methods take turns."""
    data_sets = [DATA_SETS[name](arguments.folder, made) for name in arguments.data]
    machine, cores = instructions(), processor()["cores_usable"]
    count = arguments.validate_on_training
    for seed in arguments.seeds:
        for data in data_sets:
            splits = {None: (data.training, data.validation)}
            if count:
                folds = data.folds(count)
                splits = {f"{fold}/{count}": folds[fold] for fold in arguments.folds or range(count)}
            for fold, (training, validation) in splits.items():
                for method in methods:
                    changes = "; ".join(arguments.set) if method == OURS else ""
                    turn = Turn(data.name, method, arguments.minutes, seed, fold, changes, machine, cores)
                    yield turn, data, training, validation


def run(
    turn: Turn, data: DataSet, training: tuple[str, ...], validation: tuple[str, ...], folder: Path, python: str
) -> dict[str, Any]:
    """Train and predict in a process, and return its facts and the scores.

    Raises:
        RunError: If the process fails, or its predictions cannot be scored.
    """
    settings = data.write(folder, training, validation)
    settings |= {
        "minutes": turn.minutes,
        "seed": turn.seed,
        "changes": turn.changes.split("; ") if turn.changes else [],
    }
    settings["output"] = str(folder / turn.method)
    (folder / turn.method).mkdir()
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    log = folder / "output.txt"
    with log.open("w") as output:
        done = subprocess.run(
            [python, str(FOLDER / SCRIPTS[turn.method]), str(folder / "settings.json")],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=FOLDER,
            env=environment(turn.method),
            check=False,
        )
    if done.returncode:
        raise RunError(f"{turn} failed with exit code {done.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
    facts = json.loads((folder / turn.method / "facts.json").read_text(encoding="utf-8"))
    facts["seconds"] = {part: round(seconds, 1) for part, seconds in facts["seconds"].items()}
    try:
        scores = score(folder / "truth", folder / turn.method / "predictions", len(data.classes))
    except (FileNotFoundError, MiscnnError) as error:
        raise RunError(f"{turn} cannot be scored: {error}") from error
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "model": processor()["model"],
        "classes": list(data.classes[1:]),
        "training": len(training),
        "validation": len(validation),
        **facts,
        **scores,
    }


def environment(method: str) -> dict[str, str]:
    """Return the environment variables of a method: the rivals' Python must not import the packages of this one."""
    if method == OURS:
        return dict(os.environ)
    cores = str(processor()["cores_usable"])
    others = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # A worker of nnU-Net for each core, as in `loading.py`; on unknown machines it has 12.
    return {**others, "nnUNet_n_proc_DA": cores, "nnUNet_def_n_proc": cores}


def instructions() -> str:
    """Return the widest instruction set of the processor for networks."""
    flags = processor()["instructions"]
    if "amx_bf16" in flags:
        return "AMX"
    return next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "other")


def turn_of(result: dict[str, Any]) -> Turn:
    """Return what a result is of."""
    return Turn(**{name: result[name] for name in Turn.__dataclass_fields__})


def read_results(file: Path) -> list[dict[str, Any]]:
    """Return the results of earlier calls; none if the file does not exist."""
    if not file.exists():
        return []
    results: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return results


def write_results(file: Path, results: list[dict[str, Any]]) -> None:
    """Replace the file of the results; an interruption leaves the old or the new one."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    beside.replace(file)


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a row for each data set, method, time and machine, the mean of its seeds and folds."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        folds = None if result["fold"] is None else result["fold"].partition("/")[2]
        key = (result["data"], result["minutes"], folds, result["processor"], result["cores"])
        key += (result["method"], result["changes"])
        rows.setdefault(key, []).append(result)
    lines = [
        "| data set | samples | minutes | method | runs | steps | Dice per class | mean Dice | processor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (data, minutes, folds, machine, cores, method, changes), runs in rows.items():
        steps = round(statistics.fmean(one["steps"] for one in runs))
        classes = []
        for number, name in enumerate(runs[0]["classes"]):
            values = [one["dice"][number] for one in runs if one["dice"][number] is not None]
            classes.append(f"{name} {statistics.fmean(values):.3f}" if values else f"{name} –")
        means = [one["mean"] for one in runs]
        mean = f"{statistics.fmean(means):.4f}" + (f" ± {statistics.stdev(means):.4f}" if len(means) > 1 else "")
        title = f"{TITLES[method]}, {changes}" if changes else TITLES[method]
        samples = "validation" if folds is None else f"{folds} folds of training"
        lines.append(
            f"| {data} | {samples} | {minutes:g} | {title} | {len(runs)} | {steps} | {', '.join(classes)} "
            f"| {mean} | {machine}, {plural(cores, 'core')} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
