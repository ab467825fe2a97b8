"""Write the results in a run folder as one HTML page: scores, curves, settings, and the worst and best cases.

RUN is the folder of a training, a cross-validation (or one fold of it) or an evaluation. The page is one file without
external resources, which can be moved and sent, and opens in every browser, also on a phone. It shows the available
results: without scores only the curves, without images no pictures. The slices of the cases can be browsed, and the
table of scores can be sorted.

A training and a cross-validation renew their page after each epoch; this command writes it again. Pictures of cases
whose data or predictions are missing are kept from the earlier page.

  miscnn-tf report evaluation
  miscnn-tf report evaluation --data /mnt/scans
  miscnn-tf report evaluation/fold_0 -o fold_0.html --open
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from miscnn_tf._base.messages import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf report``."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="the folder with the results")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page to write (default: report.html in RUN)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the data of the run, if they are not where they were (run.json)"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from miscnn_tf.report.run_page import write_page

    written = write_page(arguments.run_folder, arguments.output, data=arguments.data)
    page = written.path.resolve()
    print(f"Written: {page} ({page.stat().st_size / 1e6:.1f} MB, pictures of {plural(written.cases, 'case')})")
    if written.problem is not None:
        print(f"Pictures: {written.problem}")
    if not arguments.open:
        print(f"Open it in a browser: {page.as_uri()}")
    elif not webbrowser.open(page.as_uri()):
        print(f"No browser was found here; open it in one: {page.as_uri()}")
    return 0
