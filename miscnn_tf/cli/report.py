"""Turn the folder of a run into one HTML page: scores, curves, settings, and the worst and best cases.

RUN is a folder with results: of a training, a cross-validation (or one fold of it) or an evaluation. The page is one
file that loads nothing from anywhere, so that it can be moved and sent; it opens in every browser, on a phone too. It
shows what the folder holds: without scores the curves, without the images no pictures. The cases can be paged through
slice by slice, and the table of scores sorts.

A cross-validation writes its page by itself; this writes it again.

  miscnn-tf report evaluation
  miscnn-tf report evaluation/fold_0 -o fold_0.html --open
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf report``."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="the folder with the results")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page to write (default: report.html in RUN)"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from miscnn_tf.report.run_page import write_report

    page = write_report(arguments.run_folder, arguments.output).resolve()
    print(f"Written: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if not arguments.open:
        print(f"Open it in a browser: {page.as_uri()}")
    elif not webbrowser.open(page.as_uri()):
        print(f"No browser was found here; open it in one: {page.as_uri()}")
    return 0
