"""Opening and description of the data set that options of a command specify."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import plural
from miscnn_tf.cli.data_options import data_folder
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.layout_detection import find_interface_despite_errors, locate_data


def open_data(arguments: argparse.Namespace, labels: bool = True) -> Data_IO:
    """Open the data set that the options specify.

    Args:
        arguments: The parsed options.
        labels: True if the samples have label maps.

    Raises:
        DataError: If the folder has no data, or their layout cannot be detected.
    """
    of_layout = {
        "structure_dict": dict(arguments.structures) if arguments.structures else None,
        "annotation_tag": arguments.annotation_tag,
        "series": arguments.series,
        "modality": arguments.modality,
        "frames": dict(arguments.frames) if arguments.frames else None,
        "image_folder": arguments.image_folder,
        "mask_folder": arguments.mask_folder,
    }
    given = {name: value for name, value in of_layout.items() if value is not None}
    folder = enter_data_folder(
        data_folder(arguments),
        arguments.type,
        {"pattern": arguments.pattern, "part": "training" if labels else "all", **given},
    )
    interface = find_interface_despite_errors(
        folder,
        arguments.type,
        labels=labels,
        channels=arguments.channels,
        classes=arguments.classes,
        pattern=arguments.pattern,
        label_map=dict(arguments.label_map) if arguments.label_map else None,
        **given,
    )
    return Data_IO(interface, folder)


def enter_data_folder(folder: str, layout: str | None, settings: Mapping[str, Any]) -> str:
    """Return the folder of the data, and print it if it is not the given one but in it.

    Args:
        folder: The folder that the user gave.
        layout: Name of the layout; None: any.
        settings: Arguments that the user gave.

    Raises:
        DataError: If several folders in it have a known layout.
    """
    found = locate_data(folder, layout, settings)
    if found != Path(folder):
        print(f"{folder} holds the data in {found}, which is used", flush=True)
    return str(found)


def describe_data(data_io: Data_IO) -> str:
    """Describe the data set in one line, with a second line if folders were chosen by name."""
    interface = data_io.interface
    what = (
        f"{plural(len(data_io.indices_list), 'sample')} in {data_io.input_path}, read by {type(interface).__name__}: "
        f"{'3D' if interface.three_dim else '2D'}, {plural(interface.channels, 'channel')}, {interface.classes} classes"
    )
    return what if interface.found_in is None else f"{what}\n{interface.found_in}"
