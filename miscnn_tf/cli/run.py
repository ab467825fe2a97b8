"""From a folder of scans to a trained network, its scores and predictions, with one command.

Recognise the layout of DATA, plan preprocessing and network, train for the given minutes, score the network on samples
that are kept for this, and segment NEW_IMAGES. Repeat the command to resume after an interruption; what is finished is
not done again.

The parts are also commands of their own: init (the plan), train, predict, report.

Examples:
  miscnn-tf run scans
  miscnn-tf run scans new_scans --minutes 60
  miscnn-tf run cells -o cells_run --label-map 255=1

Files in the output folder:
  experiment.toml    the plan, with a reason for each value; change it before the training, or to train again
  training/          the trained network, its scores and report.html, the page with results, pictures and new images
  predictions/       segmentations of NEW_IMAGES, and overlays/, their outlines over the images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miscnn_tf.cli.argument_types import memory_size, positive_number
from miscnn_tf.cli.data_options import add_data_options, given_changes
from miscnn_tf.cli.predict import FORMATS
from miscnn_tf.cli.terminal import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf run``."""
    parser.add_argument("data", metavar="DATA", help="the data set: images with their segmentations")
    parser.add_argument("images", nargs="?", metavar="NEW_IMAGES", help="an image, or a folder of images to segment")
    parser.add_argument(
        "--minutes",
        type=positive_number(),
        metavar="N",
        help="time for the training; more gives better results (default: 30)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="the output folder (default: DATA_run in the current one)"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="plan and train again, for example longer; the earlier plan and training in the output folder are deleted",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="format of the predictions (default: that of the images; for DICOM that of the segmentations)",
    )
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="memory for a training step, in GB or with a unit, such as 512MB (default: as for 'miscnn-tf init')",
    )
    add_data_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan, train and predict, and return the exit code."""
    from miscnn_tf.cli.planned_run import plan
    from miscnn_tf.errors import DataError, MissingDataError

    if arguments.images is not None and not Path(arguments.images).exists():
        # Reported before the training, not after it.
        raise MissingDataError(f"NEW_IMAGES {arguments.images} does not exist")
    planned = plan(
        arguments.data,
        arguments.minutes,
        arguments.output,
        memory_gb=None if arguments.memory is None else arguments.memory / 1e9,
        settings=given_changes(arguments),
        fresh=arguments.fresh,
    )
    print(f"\n{planned.expectation()}\n", flush=True)
    start_tensorflow()
    planned.train(fresh=arguments.fresh)
    if arguments.images is not None:
        print()
        try:
            planned.predict(arguments.images, file_format=arguments.format)
        except DataError:
            planned.report()  # with the images that were segmented
            raise
        planned.report()
    print(f"\nThe page with all results: {planned.report_file.resolve().as_uri()}")
    return 0
