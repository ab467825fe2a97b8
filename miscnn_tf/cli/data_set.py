"""Opening and description of the data set that options of a command specify."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import plural, text_table
from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import DATA_OPTIONS, data_folder, given_tables
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.layout_detection import find_interface_despite_errors, locate_data
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.build import data_settings
from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.experiment.toml_file import check_experiment


def open_data(arguments: argparse.Namespace, labels: bool = True) -> Data_IO:
    """Open the data set that the options specify.

    Args:
        arguments: The parsed options.
        labels: True if the samples have label maps.

    Raises:
        DataError: If the folder has no data, or their layout cannot be detected.
        ConfigurationError: If an option is invalid, or ``--set`` sets a key outside ``[data]``.
    """
    tables = given_tables(arguments)
    others = sorted(tables.keys() - {"data"})
    if others:
        raise ConfigurationError(f"--set {others[0]}.…: this command uses only keys of [data], such as data.classes=3")
    settings = data_settings(check_given(tables).data)
    asked = {name: value for name, value in settings.items() if name != "name" and value is not None}
    folder = enter_data_folder(
        data_folder(arguments), settings["name"], {"part": "training" if labels else "all", **asked}
    )
    return Data_IO(find_interface_despite_errors(folder, labels=labels, **settings), folder)


def check_given(tables: Mapping[str, Any]) -> Experiment:
    """Check tables of a configuration in which those that are planned from the data may be missing.

    Args:
        tables: Result of `given_tables`.

    Raises:
        ConfigurationError: If there are mistakes; all are listed.
    """
    patches = tables.get("preprocessing", {}).get("patch_shape") is not None
    preprocessing = {**({} if patches else {"analysis": "fullimage"}), **tables.get("preprocessing", {})}
    return check_experiment({**tables, "preprocessing": preprocessing}, "the options")


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
    """Describe the data set in one line, with further lines if folders or structures were chosen by name."""
    interface = data_io.interface
    what = (
        f"{plural(len(data_io.indices_list), 'sample')} in {data_io.input_path}, read by {type(interface).__name__}: "
        f"{'3D' if interface.three_dim else '2D'}, {plural(interface.channels, 'channel')}, {interface.classes} classes"
    )
    more = [what_was_found(interface), structure_table(interface)]
    return "\n".join([what, *(text for text in more if text)])


def what_was_found(interface: Abstract_IO) -> str:
    """Return the description of the folders and files that were chosen, with the options to choose others.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> what_was_found(NIFTI_interface())
        ''
    """
    # All commands that describe a data set have these options.
    return for_command(interface.found_in or "", {*DATA_OPTIONS, "--set"})


def structure_table(interface: Abstract_IO) -> str:
    """Return a table of the named structures, with the label of each or the reason why it is left out.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> structure_table(NIFTI_interface())
        ''
    """
    labels = sorted(interface.structure_labels().items(), key=lambda one: one[1])
    rows = [(name, str(label)) for name, label in labels]
    rows += [(name, f"left out: {reason}") for name, reason in sorted(interface.structures_left_out.items())]
    return text_table([("structure", "label"), *rows], "ll") if rows else ""
