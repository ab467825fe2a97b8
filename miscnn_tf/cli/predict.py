"""Segment images with a trained model. Predictions have the geometries of the images.

MODEL is a model file (model.keras), the folder of a training, the folder of a cross-validation, whose models are
averaged (the mean of their class probabilities), or a group of models.

IN is one of:
  a file               scan.nii.gz, cell.png, …
  a folder of files    one per image; or case_0000.nii.gz, case_0001.nii.gz, …, one per channel
  a sample's folder    of the layout of the training, such as the case of BraTS with a file per MRI sequence
  a DICOM series       a folder with its files
  a data set           in any layout of 'miscnn-tf init'

OUT is a file for one image, or a folder for the predictions of several images. Images with a prediction in it are
skipped, so that repeating an interrupted command resumes it.

Formats of the predictions; by default that of the ending of OUT, or of the images; for DICOM series that of the label
maps of the training (rtstruct or seg):
  nifti        .nii.gz, for volumes and images
  nrrd         .nrrd, for volumes and images
  png          .png (or .tif, .bmp), for images of two dimensions
  seg          .dcm, for a DICOM series
  rtstruct     .dcm, for a DICOM series

Examples:
  miscnn-tf predict experiment_training/model.keras scan.nii.gz segmentation.nii.gz
  miscnn-tf predict experiment_training new_scans predictions --overlay
  miscnn-tf predict experiment_training patient/ct structures.dcm --format rtstruct
  miscnn-tf predict experiment_cross_validation new_scans predictions --probabilities
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import memory_size, share
from miscnn_tf.cli.data_options import add_data_option, given_data
from miscnn_tf.cli.terminal import start_tensorflow

# The names are repeated here, because the module that defines them imports all formats.
FORMATS = ("nifti", "nrrd", "png", "seg", "rtstruct")
VALUES = ("mask", "index")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf predict``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a run")
    parser.add_argument("images", metavar="IN", help="an image file, or a folder of images")
    parser.add_argument("output", metavar="OUT", help="the file to write, or a folder for several files")
    parser.add_argument("--format", choices=FORMATS, help="format of the predictions")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--probabilities",
        action="store_true",
        help="write the probabilities of all classes instead of labels: .nii.gz, or .npy for images such as PNG",
    )
    labels.add_argument(
        "--threshold",
        type=share(),
        metavar="T",
        help="two classes: choose the foreground where its probability is above T (default: 0.5). More classes: the "
        "probability of the background is weighted by T and all others by 1 - T, and the most probable class is chosen",
    )
    parser.add_argument(
        "--values",
        choices=VALUES,
        default=VALUES[0],
        help="values in label maps: those of the training's label maps, or class numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="also draw the outlines of the labels over the image, as overlays/….png beside the prediction",
    )
    parser.add_argument(
        "--no-postprocessing",
        action="store_true",
        help="leave out the postprocessing that the cross-validation chose and stored in its models",
    )
    parser.add_argument(
        "--previous-stage",
        metavar="PATH",
        help="of a cascade: model or run folder of its previous stage, which segments the images first; or a folder "
        "(or file) with the segmentations that it made (default: the run that the model records)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace predictions in OUT")
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="memory budget, in GB or with a unit, such as 512MB; large images are segmented slab by slab (default: "
        "the available memory)",
    )
    group = parser.add_argument_group("data", "All of these are detected by default.")
    for name in (
        *("--layout", "--pattern", "--series", "--modality", "--frames"),
        *("--image-folder", "--mask-folder", "--mask-pattern"),
    ):
        add_data_option(group, name)


def run(arguments: argparse.Namespace) -> int:
    """Predict, and return the exit code."""
    start_tensorflow()
    from miscnn_tf.cli.prediction_run import run_prediction
    from miscnn_tf.neural_network.prediction_output import PredictionOutput

    result = PredictionOutput(
        arguments.probabilities,
        arguments.format,
        arguments.values,
        arguments.threshold,
        arguments.overlay,
        not arguments.no_postprocessing,
    )
    run_prediction(
        arguments.model,
        arguments.images,
        arguments.output,
        result,
        arguments.overwrite,
        arguments.memory,
        given_data(arguments),
        arguments.previous_stage,
    )
    return 0
