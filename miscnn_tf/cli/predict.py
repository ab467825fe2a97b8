"""Segment images with a trained model. Predictions have the geometries of the images.

MODEL is a model file (model.keras), the folder of a training, the folder of a cross-validation, whose models are
averaged (the mean of their class probabilities), or a group of models.

IN is one of:
  a file               scan.nii.gz, cell.png, …
  a folder of files    one per image; or case_0000.nii.gz, case_0001.nii.gz, …, one per channel
  a DICOM series       a folder with its files
  a data set           in any layout of 'miscnn-tf init'

OUT is a file for one image, or a folder for the predictions of several images. Images with a prediction in it are
skipped, so that repeating an interrupted command resumes it.

Examples:
  miscnn-tf predict experiment_training/model.keras scan.nii.gz segmentation.nii.gz
  miscnn-tf predict experiment_training new_scans predictions
  miscnn-tf predict experiment_cross_validation new_scans predictions --probabilities
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import memory_size
from miscnn_tf.cli.terminal import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf predict``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a run")
    parser.add_argument("images", metavar="IN", help="an image file, or a folder of images")
    parser.add_argument("output", metavar="OUT", help="the file to write, or a folder for several files")
    parser.add_argument(
        "--probabilities", action="store_true", help="write the probabilities of all classes instead of labels"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace predictions in OUT")
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="memory budget, in GB or with a unit, such as 512MB; large images are segmented slab by slab (default: "
        "the available memory)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict, and return the exit code."""
    start_tensorflow()
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
