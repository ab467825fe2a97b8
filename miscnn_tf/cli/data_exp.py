"""Summarise a data set: sizes, classes, intensities, memory.

Each sample is read once. The output shows the structure of the folder, shapes and voxel sizes, sizes on disk and in
memory, the share and size of each class, intensities overall and per class, and histograms.

Files of --export FOLDER:
  cases.csv         a row per sample: shape, voxel size, bytes, intensities
  classes.csv       a row per sample and class: voxels, share, volume, intensities
  histogram.csv     share of all voxels per bin of intensity, overall and per class
  histogram.png     the same as a figure
  classes.png       share of each class in each sample

Exit code: 0, or 1 if samples could not be read; list their faults with 'miscnn-tf verify'.

Examples:
  miscnn-tf data_exp data
  miscnn-tf data_exp data --export exploration
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import add_data_arguments, data_folder
from miscnn_tf.cli.terminal import forgive_encoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf data_exp``."""
    add_data_arguments(parser)
    parser.add_argument("--no-labels", action="store_true", help="read images only, without label maps")
    parser.add_argument("--cases", action="store_true", help="also print a line per sample")
    parser.add_argument(
        "--export", type=Path, metavar="OUT_FOLDER", help="write tables (CSV) and figures (PNG) to this folder"
    )


def run(arguments: argparse.Namespace) -> int:
    """Summarise a data set, and return 1 if a sample could not be read."""
    from miscnn_tf.cli.data_set import describe_data, open_data
    from miscnn_tf.explore.data_exploration import explore
    from miscnn_tf.explore.exploration_tables import exploration_text, export_exploration

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
        print(f"could not be read: {index}: {for_command(' '.join(str(error).split()), arguments.options)}")
    print(f"List all faults: miscnn-tf verify {shlex.quote(str(data_folder(arguments)))}")
    return 1
