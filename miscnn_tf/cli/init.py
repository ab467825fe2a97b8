"""Look at a folder of data, and write a configuration for it that 'miscnn-tf train' can use.

What is found (sizes, voxel sizes, intensities, classes) decides preprocessing, patches and network, by rules like
nnU-Net's; the file says why each value was chosen, and is meant to be read and changed. The figures themselves are
written beside it, as EXPERIMENT.fingerprint.json.

Folders that are understood as they are: a folder per case with imaging.nii.gz and segmentation.nii.gz (or .png, …);
dataset.json with imagesTr/ and labelsTr/ (Medical Segmentation Decathlon, nnU-Net); images/ beside masks/; a folder per
case with a DICOM series and RTSTRUCT or SEG files.

For example:
  miscnn-tf init scans -o experiment.toml
  miscnn-tf init cells -o cells.toml --set data.label_map="{255 = 1}"
  miscnn-tf init DRIVE/training -o vessels.toml --set data.settings.mask_folder="'1st_manual'"
  miscnn-tf init patients -o lungs.toml --set data.settings.structure_dict="{Lung_L = 1, Lung_R = 2}"
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from miscnn_tf.cli.argument_types import memory_size
from miscnn_tf.cli.data_options import type_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf init``."""
    parser.add_argument("folder", metavar="FOLDER", help="the data set")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("experiment.toml"),
        metavar="EXPERIMENT.toml",
        help="the configuration to write (default: %(default)s)",
    )
    parser.add_argument(
        "--layout",
        type=type_name,
        metavar="NAME",
        help="how the files lie: NIFTI, IMG, DICOM, … (default: found out)",
    )
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="what a step of training may take, in GB or with its unit, such as 512MB (default: 8 with an NVIDIA GPU, "
        "else 4, at most half of this machine's)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="say something that is not to be found out, for instance --set data.classes=3; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a configuration that is there")


def run(arguments: argparse.Namespace) -> int:
    """Look and write; returns the exit code."""
    from miscnn_tf.cli.init_run import run_init

    memory_gb = None if arguments.memory is None else arguments.memory / 1e9
    run_init(arguments.folder, arguments.output, arguments.layout, memory_gb, arguments.set, arguments.overwrite)
    print(f"\nNext: look at {arguments.output}, then miscnn-tf train {shlex.quote(str(arguments.output))}")
    return 0
