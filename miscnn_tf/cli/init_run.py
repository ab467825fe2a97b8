"""Implementation of ``miscnn-tf init``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.configuration import get_config, plain
from miscnn_tf._base.messages import plural
from miscnn_tf.cli.data_set import check_given, structure_table
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.experiment.build import make_interface
from miscnn_tf.experiment.fingerprint import take_fingerprint
from miscnn_tf.experiment.planner import Choice, make_plan, this_machine, to_tables
from miscnn_tf.experiment.schema import Data, Experiment
from miscnn_tf.experiment.toml_file import check_experiment, describe_data, plan_text, write_text

_GIVEN: Final = "set on the command line"


def run_init(
    folder: str | Path,
    output: Path,
    given: Mapping[str, Any],
    memory_gb: float | None = None,
    overwrite: bool = False,
    minutes: float | None = None,
) -> Experiment:
    """Analyse a data set, and write a configuration and the fingerprint.

    Args:
        folder: The data set, as the user wrote it.
        output: The file to write.
        given: Tables of keys that are set, not detected, with the path of the data set: see `given_tables`.
        memory_gb: Memory for a training step; None: depends on the machine.
        overwrite: Replace an existing file.
        minutes: Time limit of the training; None for a number of epochs.

    Returns:
        The configuration.

    Raises:
        StorageError: If the file exists.
        DataError: If the data are invalid.
    """
    if output.exists() and not overwrite:
        raise StorageError(f"{output} exists already; choose another name with -o, or replace it with --overwrite")
    if output.suffix != ".toml":
        raise ConfigurationError(f"-o {output}: the name of a configuration must end in .toml")
    # Report mistakes in the given values before reading the data, which may take minutes.
    checked = check_given(given)
    if {"architecture", "loss", "metrics", "optimizer"} & given.get("network", {}).keys():
        from miscnn_tf.experiment.build_network import require_parts  # imports TensorFlow

        require_parts(checked)
    interface = make_interface(checked.data)
    data_io = Data_IO(interface, checked.data.path)
    name = miscnn_data_interfaces.name_of(type(interface)) or checked.data.layout
    found_in = "" if interface.found_in is None else f": {interface.found_in}"
    print(
        f"{plural(len(data_io.indices_list), 'sample')}, layout {name}{found_in}",
        flush=True,
    )
    if structures := structure_table(interface):
        print(structures, flush=True)
    fingerprint = take_fingerprint(data_io)
    machine = this_machine(memory_gb)
    names = interface.names_of_classes()
    plan = make_plan(fingerprint, machine, names, minutes)

    data = {"path": Choice(_shown_path(checked.data.path, output), ""), "layout": Choice(name, "layout of the files")}
    data["channels"] = Choice(interface.channels, "")
    data["classes"] = Choice(interface.classes, "background included")
    if interface.class_names is not None:
        data["class_names"] = Choice(list(interface.class_names), "")
    if interface.label_map:
        values = ", ".join(map(str, interface.values_of_classes()))
        data["label_map"] = Choice(
            {str(old): new for old, new in interface.label_map.items()},
            f"classes of values in the label maps; predictions are written with the values {values}",
        )
    settings = {**_settings(interface), **given["data"].get("settings", {})}
    if settings:
        data["settings"] = Choice(settings, "further arguments of the layout")
    for key, value in given["data"].items():
        # The label map of the interface also has other values of the files.
        if key not in ("path", "layout", "settings", "label_map"):
            data[key] = Choice(value, _GIVEN)
    for table, keys in given.items():
        if table != "data":
            plan.setdefault(table, {}).update({key: Choice(value, _GIVEN) for key, value in keys.items()})

    experiment = check_experiment(
        {"data": {**{key: choice.value for key, choice in data.items()}, "path": checked.data.path}, **to_tables(plan)},
        output,
    )
    fingerprint_file = output.with_suffix(".fingerprint.json")
    header = [
        "Configuration for 'miscnn-tf train' and 'miscnn-tf cross-validate'.",
        *describe_data(fingerprint, names, interface.channels, str(folder)),
        f"Fingerprint of the data: {fingerprint_file.name}. Planned for {machine.description}.",
    ]
    fingerprint.write(fingerprint_file)
    write_text(output, plan_text(data, plan, header))
    print("\n".join(header[1:-1]))
    print(f"Wrote {output} and {fingerprint_file.name}, planned for {machine.description}")
    return experiment


def _settings(interface: Abstract_IO) -> dict[str, Any]:
    """Return the arguments of the interface that differ from its defaults."""
    parameters = inspect.signature(type(interface)).parameters
    # The file ending is detected for each run.
    own = {*Data.model_fields, "file_ending"}
    return {
        name: value
        for name, value in get_config(interface).items()
        if name not in own and value is not None and value != plain(parameters[name].default)
    }


def _shown_path(path: str, output: Path) -> str:
    """Return a path relative to the configuration if the data are in its folder, so that both can be moved together."""
    beside = Path(os.path.abspath(output)).parent
    return os.path.relpath(path, beside) if Path(path).is_relative_to(beside) else path
