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
from pathlib import Path

_KINDS = ("batches", "evaluation", "predictions")


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
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    # MIScnn's commands all take these.
    parser.add_argument("--data_dir", "--data-dir", dest="data_dir", help=argparse.SUPPRESS)
    parser.add_argument("-t", "--type", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Clean up; returns 1 if a file that should be removed remains."""
    from miscnn_tf.cli.cleanup_run import run_cleanup

    if arguments.data_dir is not None:
        print("The data are not touched; --data_dir has no effect.")
    folders = {kind: getattr(arguments, kind) for kind in arguments.only or _KINDS}
    return run_cleanup(arguments.folder, folders, dry_run=arguments.dry_run, yes=arguments.yes)
