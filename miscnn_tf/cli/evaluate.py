"""Evaluate predictions against the truth: Dice, Hausdorff distance and other scores of each case and class.

PRED and TRUTH are two files, or two folders whose files are paired by their names: NIfTI or PNG, TIFF, BMP files, or a
data set in any layout that 'miscnn-tf init' knows. SEG and RTSTRUCT files in PRED are compared with a data set of their
DICOM series; structures are matched by name. The grids of each pair must agree; all that do not are listed. If
TRUTH is in such a data set, the page of 'miscnn-tf report' shows the images of the cases.

Examples:
  miscnn-tf evaluate predictions labelsTs -o evaluation
  miscnn-tf evaluate segmentation.nii.gz truth.nii.gz
  miscnn-tf evaluate predicted_masks masks --label-map 255=1 -o evaluation
  miscnn-tf evaluate predictions labelsTs --ignore 255 -o evaluation
  miscnn-tf evaluate predictions masks --names background nucleus --images images -o evaluation

All label maps are checked first. If the predictions have values that the truth does not have, nothing is scored, and
the message names the option that maps them to classes. Cases of TRUTH without a prediction are counted in summary.json.

In the output folder:
  scores.csv     a row per case and class, with units in the column names
  summary.json   mean, standard deviation, median and 95 % confidence interval, and the definitions of the scores
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import positive_number, whole_number
from miscnn_tf.cli.data_options import OF_TRUTH, add_data_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf evaluate``."""
    parser.add_argument("predictions", metavar="PRED", help="a prediction, or a folder of them")
    parser.add_argument("truth", metavar="TRUTH", help="the true segmentation, or a folder of them")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder for the tables (default: scores are only printed)"
    )
    add_data_option(parser, "--classes", type=whole_number(2))
    add_data_option(parser, "--label-map", nargs=1)  # PRED or TRUTH may follow
    parser.add_argument(
        "--ignore",
        type=int,
        action="append",
        default=[],
        metavar="VALUE",
        help="exclude voxels with this value in the truth, for instance 255; may be repeated",
    )
    parser.add_argument(
        "--tolerance",
        type=positive_number(),
        default=1.0,
        metavar="MM",
        help="tolerance of the surface Dice, nsd: the distance between two experts (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="names of the classes, and how images are read, from a model file or the folder of a training",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names of the classes, background first (default: those of the model or the data set)",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="data set with the images of the cases, for the voxel size of masks without one and for the page of "
        "'miscnn-tf report' (default: the data set of the truth, if there is one)",
    )
    group = parser.add_argument_group("data set", "If TRUTH is a data set. All of these are detected by default.")
    for name in OF_TRUTH:
        add_data_option(group, name)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from miscnn_tf.cli.evaluation_run import run_evaluation

    return run_evaluation(arguments)
