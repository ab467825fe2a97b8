"""Cross-validate a network: each sample is segmented by a model that was trained without it.

The samples are split into folds ([cross_validation] k_fold; [split] groups keeps the scans of a patient together), and
one model is trained per fold. Repeat the command to resume an interrupted cross-validation at the fold and epoch in
which it stopped. Only one run at a time can write to a folder.

Examples:
  miscnn-tf cross-validate experiment.toml
  miscnn-tf cross-validate experiment.toml --set cross_validation.k_fold=5 --output five_folds

Files in the run folder:
  fold_0/ …              for each fold the files of 'miscnn-tf train'
  scores.csv             the scores of all samples; summary.json: their means
  postprocessing.json    the chosen postprocessing (largest component and filled holes of each class) and the reasons;
                         it is stored in the models, and 'miscnn-tf predict' applies it
  report.html            a page with curves and remaining time during the training, later with all results
  cross_validation.toml  the configuration
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.config_options import add_config_options
from miscnn_tf.cli.terminal import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf cross-validate``."""
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Cross-validate, and return the exit code."""
    from miscnn_tf.cli.output_folder import alone_in, check_folder, run_folder
    from miscnn_tf.experiment.toml_file import read_experiment

    experiment = read_experiment(arguments.config, arguments.set)
    folder = run_folder(experiment, arguments.config, "cross-validation", arguments.output)
    with alone_in(folder):
        check_folder(folder, experiment, "cross-validation", arguments.fresh, arguments.archive)
        start_tensorflow()
        from miscnn_tf.cli.training_run import run_cross_validation

        run_cross_validation(experiment, folder, arguments.fresh)
    return 0
