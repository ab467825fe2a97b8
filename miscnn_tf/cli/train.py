"""Train a network from a configuration file, and evaluate it on validation samples.

Some samples are used for validation ([split] in the file; a fifth by default). The model of the epoch with the lowest
validation loss is saved, and segments them at the end. Repeat the command to resume an interrupted training. Only one
run at a time can write to a folder.

Examples:
  miscnn-tf init scans -o experiment.toml       a configuration for the data in scans/, to check and change
  miscnn-tf train experiment.toml
  miscnn-tf train experiment.toml --set network.epochs=5 --output short_try
  miscnn-tf train experiment.toml --continue-from experiment_training --output longer

Files in the run folder:
  model.keras        the model with its preprocessing, for 'miscnn-tf predict'
  history.tsv        loss and metrics of each epoch, and validation.*.png, their curves
  scores.csv         Dice, HD95 and other scores of each validation sample and class; summary.json: their means
  report.html        a page with curves and remaining time during the training, later with all results and pictures
  predictions/       segmentations of the validation samples by the model
  training.toml      the configuration
"""

from __future__ import annotations

import argparse
import json

from miscnn_tf.cli.config_options import add_config_options
from miscnn_tf.cli.terminal import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf train``."""
    add_config_options(parser)
    parser.add_argument(
        "--continue-from",
        metavar="RUN",
        help="start from the model of an earlier training (its run folder or model file), and train for the number of "
        "epochs in CONFIG; the same as [network] weights",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, and return the exit code."""
    # Mistakes in the file are reported before TensorFlow starts, which takes seconds.
    from miscnn_tf.cli.output_folder import alone_in, check_folder, run_folder, trained_weights
    from miscnn_tf.experiment.toml_file import read_experiment

    changes = [*arguments.set]
    if arguments.continue_from is not None:
        changes.append(f"network.weights={json.dumps(str(trained_weights(arguments.continue_from)))}")
    experiment = read_experiment(arguments.config, changes)
    folder = run_folder(experiment, arguments.config, "training", arguments.output)
    with alone_in(folder):
        check_folder(folder, experiment, "training", arguments.fresh, arguments.archive)
        start_tensorflow()
        from miscnn_tf.cli.training_run import run_training

        run_training(experiment, folder, arguments.fresh)
    return 0
