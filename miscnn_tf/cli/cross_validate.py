"""Train and measure a network several times, so that each sample is segmented once by a model that never saw it.

The samples are split into folds ([cross_validation] k_fold; [split] groups keeps a patient's scans together), and a
model is trained per fold. An interrupted cross-validation goes on with the fold and the epoch in which it stopped when
the same command is given again. Only one run at a time can write into a folder.

For example:
  miscnn-tf cross-validate experiment.toml
  miscnn-tf cross-validate experiment.toml --set cross_validation.k_fold=5 --output five_folds

In the output folder:
  fold_0/ …              of each fold what 'miscnn-tf train' writes
  scores.csv             the scores of all cases; summary.json: their means
  report.html            all of it as a page
  cross_validation.toml  the configuration that was used
"""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import add_config_options
from miscnn_tf.cli.quiet import start_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf cross-validate``."""
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Cross-validate; returns the exit code."""
    from miscnn_tf.cli.output_folder import alone_in, check_folder, run_folder
    from miscnn_tf.planning.toml_file import read_experiment

    experiment = read_experiment(arguments.config, arguments.set)
    folder = run_folder(experiment, arguments.config, "cross-validation", arguments.output)
    with alone_in(folder):
        check_folder(folder, experiment, "cross-validation", arguments.fresh, arguments.archive)
        start_tensorflow(arguments.verbose)
        from miscnn_tf.cli.training_run import run_cross_validation

        run_cross_validation(experiment, folder, arguments.fresh)
    return 0
