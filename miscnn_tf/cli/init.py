"""Analyse a data set, and write a configuration for 'miscnn-tf train'.

Preprocessing, patches and network follow from sizes, voxel sizes, intensities and classes, by rules like those of
nnU-Net. The file has a reason for each value; read it and change it as needed. The fingerprint of the data is written
beside it, as EXPERIMENT.fingerprint.json.

Layouts that are detected: a folder per sample with imaging.nii.gz and segmentation.nii.gz (or .png, …); dataset.json
with imagesTr/ and labelsTr/ (Medical Segmentation Decathlon, nnU-Net, AMOS); images/ beside masks/; a folder per sample
with a DICOM series and RTSTRUCT or SEG files; and the folders of BraTS, ACDC, LiTS, KiTS, TotalSegmentator, ISIC,
Carvana, the Cell Tracking Challenge and the Data Science Bowl 2018 as they are downloaded. train/ and val/ are kept as
the split.

Examples:
  miscnn-tf init scans -o experiment.toml --minutes 60
  miscnn-tf init cells -o cells.toml --label-map nonzero=1
  miscnn-tf init CHASE_DB1 -o vessels.toml --mask-pattern '.*_2ndHO'
  miscnn-tf init patients -o lungs.toml --structures Lung_L=1 Lung_R=2 --set network.epochs=20
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from miscnn_tf.cli.argument_types import memory_size, positive_number
from miscnn_tf.cli.data_options import add_data_arguments, data_folder, given_tables

#: Names of `miscnn_tf.experiment.network_plan.PRESETS`, which needs NumPy.
PRESETS = ("plain", "residual_M", "residual_L", "residual_XL")
#: The same of `CONFIGURATIONS` there.
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf init``."""
    add_data_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("experiment.toml"),
        metavar="EXPERIMENT.toml",
        help="the configuration to write (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=memory_size(),
        metavar="GB",
        help="memory for a training step, in GB or with a unit, such as 512MB (default: that of the NVIDIA GPU, else "
        "4, at most half of this machine's)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="plain",
        help="network of nnU-Net: plain, or with a residual encoder for 8, 24 or 40 GB of GPU memory (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--configuration",
        choices=CONFIGURATIONS,
        help="training of nnU-Net: 2d, the slices of volumes one by one, 3d_fullres, 3d_lowres, coarser volumes, or "
        "3d_cascade_fullres, a second stage after 3d_lowres (default: full resolution of volumes or images)",
    )
    parser.add_argument(
        "--previous-stage",
        metavar="RUN",
        help="for 3d_cascade_fullres: the folder of the cross-validation of 3d_lowres",
    )
    parser.add_argument(
        "--minutes",
        type=positive_number(),
        metavar="N",
        help="time limit of the training; on a CPU, patch and batch follow from it and the measured time of a step "
        "(default: a number of epochs)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing configuration")


def run(arguments: argparse.Namespace) -> int:
    """Write the configuration, and return the exit code."""
    from miscnn_tf.cli.init_run import run_init

    memory_gb = None if arguments.memory is None else arguments.memory / 1e9
    given = given_tables(arguments)
    if arguments.previous_stage is not None:
        given["data"]["previous_stage"] = os.path.abspath(arguments.previous_stage)
    run_init(
        data_folder(arguments),
        arguments.output,
        given,
        memory_gb,
        arguments.overwrite,
        arguments.minutes,
        arguments.preset,
        arguments.configuration,
    )
    print(f"\nNext: check {arguments.output}, then run miscnn-tf train {shlex.quote(str(arguments.output))}")
    return 0
