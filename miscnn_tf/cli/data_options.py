"""Options of commands for the location and format of the data."""

from __future__ import annotations

import argparse

from miscnn_tf.cli.argument_types import label_pair, whole_number

#: Names of the types. They are repeated here, because the registry imports all formats.
TYPES = (
    *("NIFTI", "NIFTI_S", "IMG", "DICOM", "DATASET_JSON", "PAIRED"),
    *("BRATS", "ACDC", "TOTALSEGMENTATOR", "CELL_TRACKING", "OBJECT_MASKS", "SPLIT"),
)


def type_name(text: str) -> str:
    """Return the upper-case name of a type; names from other packages stay unchanged.

    Example:
        >>> type_name("nifti"), type_name("my_format")
        ('NIFTI', 'my_format')
    """
    return text.upper() if text.upper() in TYPES else text


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data folder, and options for its format."""
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument("folder", nargs="?", metavar="FOLDER", help="the folder of the data set")
    folder.add_argument("--data_dir", "--data-dir", dest="data_dir", metavar="FOLDER", help="the folder, as an option")
    group = parser.add_argument_group("format of the data", "All of these are detected by default.")
    group.add_argument(
        "-t",
        "--type",
        "--layout",
        type=type_name,
        metavar="TYPE",
        help=f"the layout: {', '.join(TYPES)}, or one of another package",
    )
    group.add_argument("--channels", type=whole_number(1), metavar="N", help="channels per image")
    group.add_argument("--classes", type=whole_number(1), metavar="N", help="classes, background included")
    group.add_argument(
        "--pattern", metavar="REGEX", help="use only samples whose whole names match, such as 'case_0[0-9]+'"
    )
    group.add_argument(
        "--label-map",
        "--label_map",
        type=label_pair(),
        nargs="+",
        action="extend",
        metavar="VALUE=CLASS",
        help="classes of values in the label maps, '--label-map 255=1'; other values stay unchanged",
    )
    group.add_argument(
        "--structures",
        type=_structure_pair,
        nargs="+",
        action="extend",
        metavar="NAME=CLASS",
        help="DICOM: class of each structure of an RTSTRUCT or SEG, '--structures Lung_L=1 Heart=2'",
    )
    group.add_argument(
        "--annotation-tag", metavar="TEXT", help="DICOM: part of the name of the folder with the RTSTRUCT"
    )
    group.add_argument(
        "--series", metavar="REGEX", help="DICOM: description or UID of the series, if a sample has several"
    )
    group.add_argument("--modality", metavar="CODE", help="DICOM: modality of the series, '--modality CT'")
    group.add_argument(
        "--frames",
        type=_frame_pair,
        nargs="+",
        action="extend",
        metavar="KEYWORD=VALUE",
        help="DICOM: images to use, if a series has several at one position, '--frames DiffusionBValue=1000'",
    )
    group.add_argument(
        "--image-folder",
        metavar="NAME",
        help="PAIRED: image folder, relative to FOLDER, for instance 'train/images'",
    )
    group.add_argument(
        "--mask-folder",
        metavar="NAME",
        help="PAIRED: mask folder, relative to FOLDER, for instance '1st_manual' in DRIVE",
    )


def data_folder(arguments: argparse.Namespace) -> str:
    """Return the folder, given as an argument or as an option."""
    folder: str = arguments.folder if arguments.folder is not None else arguments.data_dir
    return folder


def _structure_pair(text: str) -> tuple[str, int]:
    # Names may contain "=", classes cannot.
    name, _, label = text.rpartition("=")
    if not name:
        raise ValueError
    return name, int(label)


_structure_pair.__name__ = "NAME=CLASS (Lung_L=1)"


def _frame_pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError
    return name, value


_frame_pair.__name__ = "KEYWORD=VALUE (DiffusionBValue=1000)"
