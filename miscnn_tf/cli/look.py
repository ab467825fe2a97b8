"""Write a page about a data set, to look at before a training.

The page shows pictures of samples with their label maps, from the least to the most foreground, the sizes of images and
voxels, volumes of the classes, intensities, and samples that need attention. Each sample is read once. It is one file
without external resources.

Examples:
  miscnn-tf look scans
  miscnn-tf look scans -o scans.html --open
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import add_data_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf look``."""
    add_data_arguments(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("look.html"), metavar="FILE", help="the page (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and return 1 if a sample could not be read."""
    from miscnn_tf.cli.data_set import describe_data, open_data
    from miscnn_tf.explore.data_exploration import explore
    from miscnn_tf.report.data_page import write_data_page

    data_io = open_data(arguments)
    print(describe_data(data_io), flush=True)
    found = explore(data_io)
    page = write_data_page(found, data_io, arguments.output).resolve()
    for name, error in found.unreadable:
        print(f"could not be read: {name}: {for_command(' '.join(str(error).split()), arguments.options)}")
    if not (arguments.open and webbrowser.open(page.as_uri())):
        print(f"Open it in a browser: {page.as_uri()}")
    return 1 if found.unreadable else 0
