"""Options of commands for the data set. Every option is a key of ``[data]`` in a configuration.

All commands use these names, so that what was learned for one holds for the others.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from miscnn_tf.cli.argument_types import label_pair, whole_number

#: Names of the layouts. They are repeated here, because the registry imports all formats.
LAYOUTS: Final = (
    *("NIFTI", "NIFTI_S", "IMG", "DICOM", "DATASET_JSON", "PAIRED"),
    *("BRATS", "ACDC", "TOTALSEGMENTATOR", "CELL_TRACKING", "OBJECT_MASKS", "SPLIT"),
)


class DataOption(NamedTuple):
    """An option for a key of ``[data]``.

    Attributes:
        key: The key, ``"layout"`` or ``"settings.series"``.
        arguments: Arguments of argparse's ``add_argument``.
        earlier: Earlier names of the option, which are accepted but not listed.
    """

    key: str
    arguments: dict[str, Any]
    earlier: tuple[str, ...] = ()


def layout_name(text: str) -> str:
    """Return the upper-case name of a layout; names from other packages stay unchanged.

    Example:
        >>> layout_name("nifti"), layout_name("my_format")
        ('NIFTI', 'my_format')
    """
    return text.upper() if text.upper() in LAYOUTS else text


def _pair(metavar: str, example: str, convert: Callable[[str], Any] = str) -> Callable[[str], tuple[str, Any]]:
    """Make an argument type ``NAME=VALUE``; the name may contain "="."""

    def pair(text: str) -> tuple[str, Any]:
        name, sign, value = text.rpartition("=")
        if not sign or not name:
            raise ValueError
        return name, convert(value)

    pair.__name__ = f"{metavar} ({example})"
    return pair


def _several(metavar: str, kind: Callable[[str], Any], text: str) -> dict[str, Any]:
    return {"type": kind, "nargs": "+", "action": "extend", "metavar": metavar, "help": text}


#: Options by name.
DATA_OPTIONS: Final[dict[str, DataOption]] = {
    "--layout": DataOption(
        "layout",
        {
            "type": layout_name,
            "metavar": "NAME",
            "help": f"layout of the files: {', '.join(LAYOUTS)}, or one of another package",
        },
        ("-t", "--type"),
    ),
    "--channels": DataOption(
        "channels", {"type": whole_number(1), "metavar": "N", "help": "number of channels of an image"}
    ),
    "--classes": DataOption(
        "classes", {"type": whole_number(1), "metavar": "N", "help": "number of classes, background included"}
    ),
    "--pattern": DataOption(
        "pattern", {"metavar": "REGEX", "help": "use only samples whose whole names match, such as 'case_0[0-9]+'"}
    ),
    "--label-map": DataOption(
        "label_map",
        _several(
            "VALUE=CLASS",
            label_pair(),
            "class of a value in the label maps, such as 255=1; nonzero=1 for all values but 0, 128+=1 for 128 and "
            "above, '#ff0000=1' for a colour, 255=ignore for voxels without annotation; other values are kept; may be "
            "repeated",
        ),
        ("--label_map",),
    ),
    "--structures": DataOption(
        "settings.structure_dict",
        _several(
            "NAME=CLASS",
            _pair("NAME=CLASS", "Lung_L=1", int),
            "DICOM: class of a structure of an RTSTRUCT or SEG, such as Lung_L=1; may be repeated, also "
            "with several names for one class",
        ),
    ),
    "--annotation-tag": DataOption(
        "settings.annotation_tag",
        {"metavar": "TEXT", "help": "DICOM: part of the folder or file name of the RTSTRUCT or SEG"},
    ),
    "--series": DataOption(
        "settings.series",
        {"metavar": "REGEX", "help": "DICOM: description or UID of the series, if a sample has several"},
    ),
    "--modality": DataOption(
        "settings.modality",
        {"metavar": "CODE", "help": "DICOM: modality of the series, such as CT, if a sample has several"},
    ),
    "--frames": DataOption(
        "settings.frames",
        _several(
            "KEYWORD=VALUE",
            _pair("KEYWORD=VALUE", "DiffusionBValue=1000"),
            "DICOM: images to use if a series has several at one position, such as DiffusionBValue=1000",
        ),
    ),
    "--image-folder": DataOption(
        "settings.image_folder",
        {"metavar": "NAME", "help": "PAIRED: folder of the images in the data set, such as 'train/images'"},
    ),
    "--mask-folder": DataOption(
        "settings.mask_folder",
        {"metavar": "NAME", "help": "PAIRED: folder of the masks in the data set, such as '2nd_manual' in DRIVE"},
    ),
    "--mask-pattern": DataOption(
        "settings.mask_pattern",
        {"metavar": "REGEX", "help": "PAIRED: use only masks whose whole names match, such as '.*_2ndHO' in CHASE"},
    ),
}

#: Options of the data set that the truth of ``miscnn-tf evaluate`` may be.
OF_TRUTH: Final = ("--layout", "--image-folder", "--mask-folder", "--mask-pattern")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data folder, all options of `DATA_OPTIONS`, and ``--set``."""
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument("folder", nargs="?", metavar="FOLDER", help="the folder of the data set")
    folder.add_argument("--data_dir", "--data-dir", dest="data_dir", metavar="FOLDER", help="the folder, as an option")
    add_data_options(parser)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `DATA_OPTIONS`, and ``--set``."""
    group = parser.add_argument_group("data", "All of these are detected by default.")
    for name in DATA_OPTIONS:
        add_data_option(group, name)
    add_set_option(group, "--set data.settings.slice_axis=2")


def add_data_option(group: Any, name: str, **changes: Any) -> None:
    """Add one option of `DATA_OPTIONS` with its earlier names.

    Args:
        group: A parser, or a group of one.
        name: The option, ``"--layout"``.
        **changes: Arguments of ``add_argument`` that differ.
    """
    _, arguments, earlier = DATA_OPTIONS[name]
    arguments = {**arguments, **changes}
    action = group.add_argument(name, **arguments)
    if earlier:
        group.add_argument(*earlier, **{**arguments, "dest": action.dest, "help": argparse.SUPPRESS})


def add_set_option(group: Any, example: str) -> None:
    """Add ``--set``, which sets any key of a configuration."""
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"set a key of the configuration, such as {example}; may be repeated",
    )


def data_folder(arguments: argparse.Namespace) -> str:
    """Return the folder, given as an argument or as an option."""
    folder: str = arguments.folder if arguments.folder is not None else arguments.data_dir
    return folder


def given_tables(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the tables of a configuration that the folder, the data options and ``--set`` define.

    Args:
        arguments: The parsed options of `add_data_arguments`.

    Raises:
        ConfigurationError: If a ``--set`` is invalid, or sets a key that an option sets as well.
    """
    from miscnn_tf.experiment.toml_file import apply_changes

    tables: dict[str, Any] = {"data": {"path": os.path.abspath(data_folder(arguments)), **given_data(arguments)}}
    _require_once(tables["data"], arguments.set)
    apply_changes(tables, arguments.set)
    return tables


def given_changes(arguments: argparse.Namespace) -> list[str]:
    """Return the keys of a configuration that the data options and ``--set`` define, ``"data.classes=3"``.

    Args:
        arguments: The parsed options of `add_data_options`.

    Raises:
        ConfigurationError: If a ``--set`` sets a key that an option sets as well.
    """
    from miscnn_tf.experiment.toml_file import toml_value

    data = given_data(arguments)
    _require_once(data, arguments.set)
    settings = data.pop("settings", {})
    given = {**data, **{f"settings.{key}": value for key, value in settings.items()}}
    return [*(f"data.{key}={toml_value(value)}" for key, value in given.items()), *arguments.set]


def _require_once(data: Mapping[str, Any], changes: Sequence[str]) -> None:
    from miscnn_tf.errors import ConfigurationError
    from miscnn_tf.experiment.toml_file import apply_changes

    changed: dict[str, Any] = {}
    apply_changes(changed, changes)
    twice = [f"data.{key}" for key in _keys(data) if key in _keys(changed.get("data", {}))]
    if twice:
        raise ConfigurationError(f"--set {twice[0]}: the key is set by an argument or option as well; keep one of them")


def given_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of ``[data]`` that the options of `DATA_OPTIONS` define.

    Args:
        arguments: The parsed options; a command need not have all of them.
    """
    data: dict[str, Any] = {}
    for name, option in DATA_OPTIONS.items():
        value = vars(arguments).get(name.removeprefix("--").replace("-", "_"))
        if value is None:
            continue
        if option.key == "label_map":
            value = {str(old): new for old, new in value}
        elif isinstance(value, list):
            value = dict(value)
        table, _, key = option.key.rpartition(".")
        (data.setdefault(table, {}) if table else data)[key] = value
    return data


def _keys(data: Mapping[str, Any]) -> list[str]:
    """Return the keys of ``[data]``; those of its settings as ``settings.series``."""
    settings = data.get("settings")
    inner = [f"settings.{key}" for key in settings] if isinstance(settings, Mapping) else []
    return [key for key in data if key != "settings"] + inner
