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
from pathlib import Path

from miscnn_tf.cli.data_options import add_data_arguments


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
    from miscnn_tf.cli.verify_run import run_verify

    return run_verify(arguments)
