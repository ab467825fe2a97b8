"""Train a network on synthetic data, and show its predictions.

Write a small data set of CT-like phantoms (kidneys and kidney tumours, in the layout of the KiTS19 challenge), train a
3D U-Net on three quarters of it, segment the rest, and print the Dice of each case. Files in the output folder:

  data/           the scans and their true segmentations: case_00000/imaging.nii.gz, segmentation.nii.gz
  predictions/    segmentations of the held-out cases by the network, on the grids of the scans
  model.keras     the trained network with its preprocessing, for 'miscnn-tf predict'
  index.html      pictures, loss curve and scores; open it in a browser
  summary.json    the scores for programs
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miscnn_tf.cli.argument_types import whole_number
from miscnn_tf.cli.terminal import start_tensorflow

DEFAULT_CASES = 24
DEFAULT_EPOCHS = 20
OPENING = """\
In about two minutes you will see how a small 3D U-Net, trained here on synthetic CT scans, finds kidneys and tumours in
scans that it was not trained with: as a table of Dice scores and as a page with pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf demo``."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("miscnn_tf_demo"),
        metavar="FOLDER",
        help="the output folder (default: %(default)s, in the current folder)",
    )
    parser.add_argument(
        "--cases",
        type=whole_number(2),
        default=DEFAULT_CASES,
        metavar="N",
        help="number of scans; a quarter of them is held out (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=whole_number(1),
        default=DEFAULT_EPOCHS,
        metavar="N",
        help="number of epochs; more take longer and give better results (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="random seed; the same seed gives the same scans and results (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, and return the exit code."""
    print(OPENING, end="\n\n", flush=True)
    start_tensorflow()
    from miscnn_tf.cli.demo_run import run_demo

    summary = run_demo(arguments.output, arguments.cases, arguments.epochs, arguments.seed)
    print()
    print(score_table(summary["classes"], summary["dice"], summary["mean_dice"]))
    print()
    page = (arguments.output / "index.html").resolve()
    print(f"Done in {summary['seconds']['total'] / 60:.1f} minutes. Open the results in a browser: {page.as_uri()}")
    return 0


def score_table(classes: list[str], dice: dict[str, dict[str, float | None]], mean: dict[str, float | None]) -> str:
    """Format the Dice of each case and class; a dash means that the case does not have the class.

    Example:
        >>> print(score_table(["kidney"], {"case_00000": {"kidney": 0.9512}}, {"kidney": 0.9512}))
        Dice          kidney
        case_00000     0.951
        mean           0.951
    """
    width = max(len("Dice"), len("mean"), *map(len, dice))
    columns = [max(len(name), 6) for name in classes]

    def line(first: str, cells: list[str]) -> str:
        return "    ".join([first.ljust(width), *(cell.rjust(size) for cell, size in zip(cells, columns, strict=True))])

    rows = [line("Dice", classes)]
    for name, scores in [*dice.items(), ("mean", mean)]:
        rows.append(line(name, ["–" if (score := scores[one]) is None else f"{score:.3f}" for one in classes]))
    return "\n".join(rows)
