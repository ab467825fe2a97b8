"""Command ``miscnn-tf verify`` by means of the public interface."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Collection, Hashable

from miscnn_tf._base.messages import plural, text_table
from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import data_folder
from miscnn_tf.cli.data_set import describe_data, open_data
from miscnn_tf.cli.terminal import forgive_encoding
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
from miscnn_tf.data_loading.grid_repair import resample_label_maps
from miscnn_tf.data_loading.verification import BAD, SUSPICIOUS, Verification, verify

_WIDTH = 80


def run_verify(arguments: argparse.Namespace) -> int:
    """Verify a data set, and return 1 if a sample is bad.

    Args:
        arguments: The parsed options.

    Raises:
        DataError: If the folder has no data, or their layout cannot be detected.
    """
    forgive_encoding()
    data_io = open_data(arguments, labels=not arguments.no_labels)
    print(describe_data(data_io), flush=True)
    found = verify(data_io, labels=not arguments.no_labels, quick=arguments.quick)
    for bad in (True, False):
        _list(found, bad, arguments.options)
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
        _print_wrapped("Labels are whole numbers from 0. Declare the classes of other values: --label-map 255=1")
    _fix_grids(data_io, found.of_kind("grid"), arguments)
    return 1 if found.bad else 0


def _list(found: Verification, bad: bool, options: Collection[str]) -> None:
    """Print the findings of one severity, grouped by sample, with advice for a command with these options."""
    last: Hashable | None = object()
    for finding in found.findings:
        if finding.bad != bad:
            continue
        if finding.index != last:
            last = finding.index
            print(f"\n{'BAD' if bad else 'look at'}  {'the whole data set' if last is None else last}")
        print(_wrapped(for_command(finding.message, options)))


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
    print()
    done = resample_label_maps(data_io, indices, arguments.fix_grids)
    for one in done:
        print(f"{one.index}: {one.path or 'not resampled'}")
        if one.message:
            print(_wrapped(for_command(one.message, arguments.options)))
    written = sum(one.path is not None for one in done)
    _print_wrapped(
        f"{plural(written, 'label map')} resampled to {arguments.fix_grids}; the originals are unchanged. Check "
        "them over their images, then replace the originals."
    )
