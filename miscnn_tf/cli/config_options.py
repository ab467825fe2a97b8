"""Options of ``train`` and ``cross-validate``."""

from __future__ import annotations

import argparse

from miscnn_tf.cli.data_options import add_set_option


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train`` and ``cross-validate`` for the configuration and the run folder."""
    parser.add_argument("config", metavar="CONFIG", help="configuration file (TOML); create one with 'miscnn-tf init'")
    add_set_option(parser, "--set network.epochs=5")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="the run folder (default: see [output] in CONFIG)")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="delete the results of an earlier run in the run folder; otherwise an interrupted run is resumed",
    )
    parser.add_argument(
        "--archive",
        action="store_true",
        help="move the results of another run in the run folder to a new folder beside it, with the date in its name; "
        "with --fresh, also those of the same run",
    )
