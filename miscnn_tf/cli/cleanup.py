"""Remove the files of earlier runs: batches and prepared samples, evaluations, predictions.

The command looks into batches/, evaluation/ and predictions/ in the current folder, or in FOLDER; options set other
names. It only removes files that this package wrote, which it recognises by name and content. It keeps all other files,
predictions that were corrected by hand, predictions in formats without room for a mark (.npy, .bmp, DICOM) unless a
training recorded them in made_by.json, and folders in use by a run. It does not follow links. It lists the files with
their sizes, and asks before it removes them.

Exit code: 0, or 1 if a file could not be removed or the answer was not yes.

Examples:
  miscnn-tf cleanup --dry-run
  miscnn-tf cleanup --only batches --yes
  miscnn-tf cleanup --evaluation results/first_run
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf.cli.output import forgive_encoding

if TYPE_CHECKING:
    from miscnn_tf.utils.traces import Traces

_KINDS = ("batches", "evaluation", "predictions")
_SHOWN = 12
_RECENT = 600.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf cleanup``."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where the runs were started (default: .)",
    )
    for kind, what in (
        ("batches", "batches and prepared samples (batch_path)"),
        ("evaluation", "results of trainings and cross-validations, their models too (evaluation_path)"),
        ("predictions", "label maps and maps of explanations (output_path)"),
    ):
        parser.add_argument(
            f"--{kind}", type=Path, metavar="FOLDER", help=f"the folder of {what}; default: FOLDER/{kind}"
        )
    parser.add_argument("--only", choices=_KINDS, action="append", help="leave the other kinds; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    # MIScnn's commands all take these.
    parser.add_argument("--data_dir", "--data-dir", dest="data_dir", help=argparse.SUPPRESS)
    parser.add_argument("-t", "--type", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Clean up; returns 1 if something that was to be removed is still there."""
    from miscnn_tf.messages import plural
    from miscnn_tf.utils.text_table import size_text

    forgive_encoding()
    if arguments.data_dir is not None:
        print("The data are not touched, and --data_dir makes no difference here.")
    found = list(_find(arguments))
    number = sum(len(traces.ours) for traces in found)
    for traces in found:
        _list(traces)
    if not number:
        print("There is nothing to remove.")
        return 0
    total = f"{plural(number, 'file')}, {size_text(sum(traces.size for traces in found))}"
    if any(traces.ours and traces.latest < _RECENT for traces in found):
        print("Some of it was written in the last ten minutes: make sure that no training is running.")
    if arguments.dry_run:
        print(f"{total} would be removed. Nothing was.")
        return 0
    if not arguments.yes and not _agreed(f"Remove {total}? [y/N] "):
        print("Nothing was removed.")
        return 1
    return _remove(found)


def _find(arguments: argparse.Namespace) -> list[Traces]:
    from miscnn_tf.errors import MissingDataError
    from miscnn_tf.utils.traces import find_batches, find_evaluation, find_predictions

    if not arguments.folder.is_dir():
        raise MissingDataError(f"there is no folder {arguments.folder}; give the one in which the runs were started")
    found = []
    finders = {"batches": find_batches, "evaluation": find_evaluation, "predictions": find_predictions}
    for kind in arguments.only or _KINDS:
        given = getattr(arguments, kind)
        folder = given if given is not None else arguments.folder / kind
        traces = finders[kind](folder)
        if traces is not None:
            found.append(traces)
        elif given is not None:
            raise MissingDataError(f"there is no folder {folder}; check --{kind}")
    return found


def _list(traces: Traces) -> None:
    from miscnn_tf.messages import plural
    from miscnn_tf.utils.text_table import size_text

    print(f"{traces.folder}: {plural(len(traces.ours), 'file')} to remove, {size_text(traces.size)}")
    for trace in traces.ours[:_SHOWN]:
        print(f"  remove  {trace.path.relative_to(traces.folder)}  ({size_text(trace.size)})")
    if len(traces.ours) > _SHOWN:
        print(f"  remove  … and {len(traces.ours) - _SHOWN} more")
    for path, reason in traces.left[:_SHOWN]:
        name = path.relative_to(traces.folder) if path != traces.folder else path
        print(f"  stays   {name}: {reason}")
    if len(traces.left) > _SHOWN:
        print(f"  stays   … and {len(traces.left) - _SHOWN} more")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        print(f"{question}\nThere is nobody to ask: add --yes.")
        return False
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _remove(found: list[Traces]) -> int:
    from miscnn_tf.messages import plural
    from miscnn_tf.utils.traces import remove

    removed, failed = 0, []
    for traces in found:
        number, problems = remove(traces)
        removed += number
        failed += problems
    print(f"{plural(removed, 'file')} removed.")
    for path, reason in failed:
        print(f"could not be removed: {path}: {reason}")
    return 1 if failed else 0
