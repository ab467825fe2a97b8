"""Check every sample of a data set, and list all faults.

Faults of bad samples:
  missing, truncated or damaged files, or numbers of channels or axes unlike the others'
  image and label map on different grids (shape, voxel size, orientation, origin)
  labels that are not classes, such as 255
  NaN or infinite voxels

Suspicious: voxel sizes unlike the others', label maps without foreground, constant images, duplicate images. Nothing in
the data folder is changed.

Exit code: 0, or 1 if a sample is bad.

Examples:
  miscnn-tf verify data
  miscnn-tf verify masks --label-map 255=1
  miscnn-tf verify data --fix-grids resampled
"""

from __future__ import annotations

import argparse
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf._base.messages import plural, text_table
from miscnn_tf.cli.data_options import add_data_arguments, data_folder, describe_data, open_data
from miscnn_tf.cli.terminal import forgive_encoding

if TYPE_CHECKING:
    from collections.abc import Hashable

    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.data_loading.verification import Verification

_WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf verify``."""
    add_data_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="read headers only; do not check labels and voxels")
    parser.add_argument("--no-labels", action="store_true", help="check images only; label maps may be missing")
    parser.add_argument(
        "--fix-grids",
        type=Path,
        metavar="OUT_FOLDER",
        help="write copies of label maps with another grid than their images, resampled to it with nearest-neighbour "
        "interpolation, to a new folder; the originals stay unchanged",
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify a data set, and return 1 if a sample is bad."""
    from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
    from miscnn_tf.data_loading.verification import BAD, SUSPICIOUS, verify

    forgive_encoding()
    data_io = open_data(arguments, labels=not arguments.no_labels)
    print(describe_data(data_io), flush=True)
    found = verify(data_io, labels=not arguments.no_labels, quick=arguments.quick)
    for bad in (True, False):
        _list(found, bad)
    print()
    rows = [
        (text, str(len(found.of_kind(kind)))) for kind, text in {**BAD, **SUSPICIOUS}.items() if found.of_kind(kind)
    ]
    number = len(found.samples)
    depth = "headers only" if arguments.quick else "images decoded" if arguments.no_labels else "images, labels decoded"
    print(text_table([(f"{plural(number, 'sample')}, {depth}", "cases"), *rows, ("bad", str(len(found.bad)))], "lr"))
    print()
    _print_wrapped(f"Grids are equal if corner voxels differ by at most {GRID_TOLERANCE:g} of the smallest voxel size.")
    if found.of_kind("labels"):
        _print_wrapped(
            "Labels are whole numbers from 0. Declare what others mean: --label-map 255=1 (Python: label_map={255: 1})"
        )
    _fix_grids(data_io, found.of_kind("grid"), arguments)
    return 1 if found.bad else 0


def _list(found: Verification, bad: bool) -> None:
    """Print the findings of one severity, grouped by sample."""
    last: Hashable | None = object()
    for finding in found.findings:
        if finding.bad != bad:
            continue
        if finding.index != last:
            last = finding.index
            print(f"\n{'BAD' if bad else 'look at'}  {'the whole data set' if last is None else last}")
        print(_wrapped(finding.message))


def _wrapped(text: str, first: str = "  - ", others: str = "    ") -> str:
    # Paths are not broken, so that they can be copied.
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _print_wrapped(text: str) -> None:
    print(_wrapped(text, "", ""))


def _fix_grids(data_io: Data_IO, indices: list[Hashable], arguments: argparse.Namespace) -> None:
    if not indices:
        if arguments.fix_grids is not None:
            _print_wrapped(f"No label map needs resampling; {arguments.fix_grids} was not created.")
        return
    if arguments.fix_grids is None:
        _print_wrapped(
            f"Copies of {plural(len(indices), 'label map')}, resampled to the grids of the images, are written by:"
        )
        print(f"  miscnn-tf verify {shlex.quote(str(data_folder(arguments)))} --fix-grids OUT_FOLDER")
        return
    from miscnn_tf.data_loading.grid_repair import resample_label_maps

    print()
    done = resample_label_maps(data_io, indices, arguments.fix_grids)
    for one in done:
        print(f"{one.index}: {one.path or 'not resampled'}")
        if one.message:
            print(_wrapped(one.message))
    written = sum(one.path is not None for one in done)
    _print_wrapped(
        f"{plural(written, 'label map')} resampled to {arguments.fix_grids}; the originals are unchanged. Check "
        "them over their images, then replace the originals."
    )
