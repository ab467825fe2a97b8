"""Segment images with a trained model, in each image's own geometry.

MODEL is a model file (model.keras), the folder of a training, the folder of a cross-validation, whose models then
segment together (the mean of their class probabilities), or a group of models.

IN is one of
  a file               scan.nii.gz, cell.png, …
  a folder of files    each of which is an image; case_0000.nii.gz, case_0001.nii.gz, … are the channels of one
  a DICOM series       a folder with the files of one
  a data set           in any layout that 'miscnn-tf init' knows

OUT is a file for one image, or a folder for the predictions of many. Images that have a prediction in it are left out,
so that an interrupted command goes on when it is given again.

For example:
  miscnn-tf predict experiment_training/model.keras scan.nii.gz segmentation.nii.gz
  miscnn-tf predict experiment_training new_scans predictions
  miscnn-tf predict experiment_cross_validation new_scans predictions --probabilities
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import memory_size
from miscnn_tf.cli.quiet import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf predict``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a run")
    parser.add_argument("images", metavar="IN", help="an image file, or a folder of images")
    parser.add_argument("output", metavar="OUT", help="the file to write, or a folder for a file per image")
    parser.add_argument(
        "--probabilities", action="store_true", help="write the probabilities of all classes instead of labels"
    )
    parser.add_argument("--overwrite", action="store_true", help="segment images again that have a prediction in OUT")
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="what the program may have in memory, in GB or with its unit, such as 512MB: large images are segmented "
        "in sections (default: what is free)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict; returns the exit code."""
    start_tensorflow(arguments.verbose)
    from miscnn_tf.cli.prediction_run import run_prediction

    run_prediction(
        arguments.model,
        arguments.images,
        arguments.output,
        arguments.probabilities,
        arguments.overwrite,
        arguments.memory,
    )
    return 0
