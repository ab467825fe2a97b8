"""Explore a data set: how many samples of what size, which classes, how bright, how much memory.

Each sample is read once. Printed are the folder's structure, shapes and voxel sizes, memory on disk and decoded, the
share and size of each class, intensities overall and in each class, and histograms.

With --export FOLDER also written:
  cases.csv         a row per case: shape, voxel size, bytes, intensities
  classes.csv       a row per case and class: voxels, share, volume, intensities
  histogram.csv     share of all voxels per bin of intensity, overall and per class
  histogram.png     the same as a picture
  classes.png       share of each class in each case

Exit code: 0, or 1 if some samples could not be read ('miscnn-tf verify' says all that is wrong).

Examples:
  miscnn-tf data_exp data
  miscnn-tf data_exp data --export exploration
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from miscnn_tf.cli.data_options import add_data_arguments, data_folder, describe_data, open_data
from miscnn_tf.cli.output import forgive_encoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf data_exp``."""
    add_data_arguments(parser)
    parser.add_argument("--no-labels", action="store_true", help="the images alone; label maps are not read")
    parser.add_argument("--cases", action="store_true", help="print a line per case, too")
    parser.add_argument(
        "--export", type=Path, metavar="OUT_FOLDER", help="write tables (CSV) and pictures (PNG) to this folder"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explore a data set; returns 1 if a sample could not be read."""
    from miscnn_tf.utils.data_exploration import explore
    from miscnn_tf.utils.exploration_export import export_exploration
    from miscnn_tf.utils.exploration_text import exploration_text

    forgive_encoding()
    labels = not arguments.no_labels
    data_io = open_data(arguments, labels=labels)
    print(describe_data(data_io), flush=True)
    found = explore(data_io, labels=labels)
    print()
    print(exploration_text(found, cases=arguments.cases))
    if arguments.export is not None:
        print()
        for path in export_exploration(found, arguments.export):
            print(f"written: {path}")
    if not found.unreadable:
        return 0
    print()
    for index, error in found.unreadable:
        print(f"could not be read: {index}: {' '.join(str(error).split())}")
    print(f"To list all that is wrong: miscnn-tf verify {shlex.quote(str(data_folder(arguments)))}")
    return 1
