"""Choose among cross-validations and their ensembles.

Each RUN is the folder of a finished cross-validation of the same samples and folds, such as one per configuration of
nnU-Net. The ensemble of each two, which averages their class probabilities, is scored too: the validation samples of a
fold are segmented by the two models that were trained without them. The best has the highest mean Dice of all classes,
as in nnU-Net. Its models are copied to the folder, with which new images are segmented, with the postprocessing that
raises its Dice. Repeat the command to resume.

Examples:
  miscnn-tf init data --configuration 2d -o slices.toml
  miscnn-tf init data --configuration 3d_fullres -o full.toml
  miscnn-tf cross-validate slices.toml
  miscnn-tf cross-validate full.toml
  miscnn-tf compare slices_cross_validation full_cross_validation -o best
  miscnn-tf predict best new_images predictions

Files in the folder:
  comparison.json        mean Dice of each candidate and class; comparison.html: the same as a page
  group_best/            the models of the best
  postprocessing.json    its postprocessing (largest component and filled holes of each class) and the reasons
  ensembles/             predictions and scores of the ensembles
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from miscnn_tf.cli.terminal import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf compare``."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a cross-validation")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("comparison"),
        metavar="FOLDER",
        help="the folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the data of the runs, if they are not where they were (run.json)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare, and return the exit code."""
    start_tensorflow()
    from miscnn_tf.multi_model.comparison import PAGE_FILE, compare_runs

    result = compare_runs(arguments.runs, arguments.output, data=arguments.data)
    print(f"\nMean of {result.cases} cases:\n{result.table()}")
    if result.postprocessing is not None:
        print(f"\n{result.postprocessing.table}")
    print(f"\nPage: {(result.folder / PAGE_FILE).resolve().as_uri()}")
    print(
        f"The best: {result.best.name}. To segment new images with it: miscnn-tf predict "
        f"{shlex.quote(str(arguments.output))} IMAGES PREDICTIONS"
    )
    return 0
