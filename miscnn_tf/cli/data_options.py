"""The options by which commands are told where the data are and what they are like."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from miscnn_tf.cli.argument_types import label_pair, whole_number
from miscnn_tf.messages import plural

if TYPE_CHECKING:
    from miscnn_tf.data_loading.data_io import Data_IO

#: The names that a type goes by; written out, because to ask for them would import all formats.
TYPES = ("NIFTI", "NIFTI_S", "IMG", "DICOM", "DATASET_JSON", "PAIRED")


def type_name(text: str) -> str:
    """A type in whatever letters; the name that an installed package chose stays as it is.

    Example:
        >>> type_name("nifti"), type_name("my_format")
        ('NIFTI', 'my_format')
    """
    return text.upper() if text.upper() in TYPES else text


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data folder, and what is guessed where it is left out."""
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument("folder", nargs="?", metavar="FOLDER", help="the folder of the data set")
    folder.add_argument("--data_dir", "--data-dir", dest="data_dir", metavar="FOLDER", help="the same, as an option")
    group = parser.add_argument_group("what the data are like", "All of it is guessed where it is left out.")
    group.add_argument(
        "-t",
        "--type",
        type=type_name,
        metavar="TYPE",
        help=f"the format and layout: {', '.join(TYPES)}, or what an installed package adds",
    )
    group.add_argument("--channels", type=whole_number(1), metavar="N", help="channels per image")
    group.add_argument("--classes", type=whole_number(1), metavar="N", help="classes, background included")
    group.add_argument("--pattern", metavar="REGEX", help="take only samples whose whole name matches, 'case_0[0-9]+'")
    group.add_argument(
        "--label-map",
        "--label_map",
        type=label_pair(),
        nargs="+",
        action="extend",
        metavar="VALUE=CLASS",
        help="what values in the label maps mean, '--label-map 255=1'; others stay as they are",
    )
    group.add_argument(
        "--structures",
        type=_structure_pair,
        nargs="+",
        action="extend",
        metavar="NAME=CLASS",
        help="DICOM: which class each structure of an RTSTRUCT or SEG is, '--structures Lung_L=1 Heart=2'",
    )
    group.add_argument(
        "--annotation-tag", metavar="TEXT", help="DICOM: what the folder with the RTSTRUCT has in its name"
    )
    group.add_argument(
        "--series", metavar="REGEX", help="DICOM: description or UID of the series, where a sample has several"
    )
    group.add_argument("--modality", metavar="CODE", help="DICOM: modality of the series, '--modality CT'")
    group.add_argument(
        "--frames",
        type=_frame_pair,
        nargs="+",
        action="extend",
        metavar="KEYWORD=VALUE",
        help="DICOM: which images, where a series has several of one place, '--frames DiffusionBValue=1000'",
    )
    group.add_argument(
        "--image-folder", metavar="NAME", help="PAIRED: where the images are, relative to FOLDER, 'train/images'"
    )
    group.add_argument(
        "--mask-folder", metavar="NAME", help="PAIRED: where the masks are, likewise; '1st_manual' of DRIVE"
    )


def open_data(arguments: argparse.Namespace, labels: bool = True) -> Data_IO:
    """The data set that the options name.

    Args:
        arguments: What was parsed.
        labels: Whether its samples have label maps.

    Raises:
        DataError: If there is none, or it cannot be told what it is.
    """
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.data_loading.layouts import find_interface_despite_errors

    folder = data_folder(arguments)
    of_layout = {
        "structure_dict": dict(arguments.structures) if arguments.structures else None,
        "annotation_tag": arguments.annotation_tag,
        "series": arguments.series,
        "modality": arguments.modality,
        "frames": dict(arguments.frames) if arguments.frames else None,
        "image_folder": arguments.image_folder,
        "mask_folder": arguments.mask_folder,
    }
    interface = find_interface_despite_errors(
        folder,
        arguments.type,
        labels=labels,
        channels=arguments.channels,
        classes=arguments.classes,
        pattern=arguments.pattern,
        label_map=dict(arguments.label_map) if arguments.label_map else None,
        **{name: value for name, value in of_layout.items() if value is not None},
    )
    return Data_IO(interface, folder)


def data_folder(arguments: argparse.Namespace) -> str:
    """The folder, however it was given."""
    folder: str = arguments.folder if arguments.folder is not None else arguments.data_dir
    return folder


def describe_data(data_io: Data_IO) -> str:
    """How many samples of what are where, in a line; and a second one where folders were chosen by their names."""
    interface = data_io.interface
    what = (
        f"{plural(len(data_io.indices_list), 'sample')} in {data_io.input_path}, read by {type(interface).__name__}: "
        f"{'3D' if interface.three_dim else '2D'}, {plural(interface.channels, 'channel')}, {interface.classes} classes"
    )
    found_in = getattr(interface, "found_in", None)
    return what if found_in is None else f"{what}\n{found_in}"


def _structure_pair(text: str) -> tuple[str, int]:
    # Names may have such a sign in them; the class has none.
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
