"""Command ``miscnn-tf cleanup``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from miscnn_tf._base.messages import plural, size_text
from miscnn_tf.cli.terminal import forgive_encoding
from miscnn_tf.errors import MissingDataError
from miscnn_tf.experiment.toml_file import is_kept_configuration
from miscnn_tf.runs.earlier_files import Traces, find_batches, find_predictions, find_run, remove

_SHOWN: Final = 12
_RECENT: Final = 600.0  # seconds


def find_evaluation(folder: Path) -> Traces | None:
    """Find the files of trainings, cross-validations and evaluations in a folder; None without it."""
    return find_run(folder, is_kept_configuration)


_FINDERS: Final = {"batches": find_batches, "evaluation": find_evaluation, "predictions": find_predictions}


def run_cleanup(root: Path, folders: Mapping[str, Path | None], *, dry_run: bool, yes: bool) -> int:
    """List the files of earlier runs and remove them.

    Args:
        root: The folder in which the runs were started.
        folders: The folder to clean up for each kind, ``"batches"``, ``"evaluation"`` or ``"predictions"``; None: the
            folder of that name in `root`.
        dry_run: Only list the files.
        yes: Do not ask.

    Returns:
        The exit code: 1 if a file that should be removed remains.

    Raises:
        MissingDataError: If a given folder does not exist.
    """
    forgive_encoding()
    found = _find(root, folders)
    number = sum(len(traces.ours) for traces in found)
    for traces in found:
        _list(traces)
    if not number:
        print("There is nothing to remove.")
        return 0
    total = f"{plural(number, 'file')}, {size_text(sum(traces.size for traces in found))}"
    if any(traces.ours and traces.latest < _RECENT for traces in found):
        print("Some of it was written in the last ten minutes: make sure that no training is running.")
    if dry_run:
        print(f"{total} would be removed. Nothing was.")
        return 0
    if not yes and not _agreed(f"Remove {total}? [y/N] "):
        print("Nothing was removed.")
        return 1
    return _remove(found)


def _find(root: Path, folders: Mapping[str, Path | None]) -> list[Traces]:
    if not root.is_dir():
        raise MissingDataError(f"there is no folder {root}; give the one in which the runs were started")
    found = []
    for kind, given in folders.items():
        folder = given if given is not None else root / kind
        traces = _FINDERS[kind](folder)
        if traces is not None:
            found.append(traces)
        elif given is not None:
            raise MissingDataError(f"there is no folder {folder}; check --{kind}")
    return found


def _list(traces: Traces) -> None:
    print(f"{traces.folder}: {plural(len(traces.ours), 'file')} to remove, {size_text(traces.size)}")
    for trace in traces.ours[:_SHOWN]:
        print(f"  remove  {trace.path.relative_to(traces.folder)}  ({size_text(trace.status.st_size)})")
    if len(traces.ours) > _SHOWN:
        print(f"  remove  … and {len(traces.ours) - _SHOWN} more")
    for path, reason in traces.left[:_SHOWN]:
        name = path.relative_to(traces.folder) if path != traces.folder else path
        print(f"  stays   {name}: {reason}")
    if len(traces.left) > _SHOWN:
        print(f"  stays   … and {len(traces.left) - _SHOWN} more")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        print(f"{question}\nCannot ask without a terminal: add --yes.")
        return False
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _remove(found: list[Traces]) -> int:
    removed, failed = 0, []
    for traces in found:
        number, problems = remove(traces)
        removed += number
        failed += problems
    print(f"{plural(removed, 'file')} removed.")
    for path, reason in failed:
        print(f"could not be removed: {path}: {reason}")
    return 1 if failed else 0
