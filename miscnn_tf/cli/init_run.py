"""What ``miscnn-tf init`` does."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miscnn_tf.configuration import get_config, plain
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.messages import plural
from miscnn_tf.planning.build import make_interface
from miscnn_tf.planning.experiment import AUTO, Data, Experiment
from miscnn_tf.planning.fingerprint import take_fingerprint
from miscnn_tf.planning.plan_file import describe_data, plan_text
from miscnn_tf.planning.planner import Choice, make_plan, this_machine, to_tables
from miscnn_tf.planning.toml_file import apply_changes, check_experiment, write_text


def run_init(
    folder: str | Path,
    output: Path,
    layout: str | None = None,
    memory_gb: float | None = None,
    changes: Sequence[str] = (),
    overwrite: bool = False,
) -> Experiment:
    """Look at a data set, and write a configuration and the fingerprint.

    Args:
        folder: The data set.
        output: The file to write.
        layout: Name of the layout; None: found out.
        memory_gb: What a step of training may take; None: by the machine.
        changes: Keys that are said, not found out: ``"data.classes=3"``.
        overwrite: Replace a file that is there.

    Returns:
        What was written.

    Raises:
        StorageError: If the file is there already.
        DataError: If the data cannot be used.
    """
    if output.exists() and not overwrite:
        raise StorageError(f"{output} is there already; choose another name with -o, or replace it with --overwrite")
    if output.suffix != ".toml":
        raise ConfigurationError(f"-o {output}: the name of a configuration ends in .toml")
    said: dict[str, Any] = {"data": {"path": os.path.abspath(folder), "layout": layout or AUTO}}
    apply_changes(said, changes)
    # Mistakes in what was said are told before the data are looked at, which may take a while.
    patches = said.get("preprocessing", {}).get("patch_shape") is not None
    preprocessing = {**({} if patches else {"analysis": "fullimage"}), **said.get("preprocessing", {})}
    checked = check_experiment({**said, "preprocessing": preprocessing}, "--set")
    interface = make_interface(checked.data)
    data_io = Data_IO(interface, checked.data.path)
    name = miscnn_data_interfaces.name_of(type(interface)) or checked.data.layout
    found_in = getattr(interface, "found_in", None)
    print(
        f"{plural(len(data_io.indices_list), 'case')}, laid out as {name}{f': {found_in}' if found_in else ''}",
        flush=True,
    )
    fingerprint = take_fingerprint(data_io)
    machine = this_machine(memory_gb)
    names = interface.names_of_classes()
    plan = make_plan(fingerprint, machine, names)

    data = {"path": Choice(_shown_path(checked.data.path, output), ""), "layout": Choice(name, "how the files lie")}
    data["channels"] = Choice(interface.channels, "")
    data["classes"] = Choice(interface.classes, "background included")
    if interface.class_names is not None:
        data["class_names"] = Choice(list(interface.class_names), "")
    label_map = getattr(interface, "label_map", None)
    if label_map:
        values = ", ".join(map(str, interface.values_of_classes()))
        data["label_map"] = Choice(
            {str(old): new for old, new in label_map.items()},
            f"what values in the masks mean; predictions are written in the same: {values}",
        )
    settings = {**_settings(interface), **said["data"].get("settings", {})}
    if settings:
        data["settings"] = Choice(settings, "further arguments of the layout")
    for key, value in said["data"].items():
        # Of a label map the interface knows more: what the files hold besides.
        if key not in ("path", "layout", "settings", "label_map"):
            data[key] = Choice(value, "as you said")
    for table, keys in said.items():
        if table != "data":
            plan.setdefault(table, {}).update({key: Choice(value, "as you said") for key, value in keys.items()})

    experiment = check_experiment(
        {"data": {**{key: choice.value for key, choice in data.items()}, "path": checked.data.path}, **to_tables(plan)},
        output,
    )
    fingerprint_file = output.with_suffix(".fingerprint.json")
    header = [
        "A configuration for miscnn-tf: 'miscnn-tf train' and 'miscnn-tf cross-validate' read it.",
        *describe_data(fingerprint, names, interface.channels, str(folder)),
        f"The figures are in {fingerprint_file.name}. Planned for {machine.description}.",
    ]
    fingerprint.write(fingerprint_file)
    write_text(output, plan_text(data, plan, header))
    print("\n".join(header[1:-1]))
    print(f"Wrote {output} and {fingerprint_file.name}, planned for {machine.description}")
    return experiment


def _settings(interface: Abstract_IO) -> dict[str, Any]:
    """What else was found out about the files: arguments of the interface that are not its defaults."""
    parameters = inspect.signature(type(interface)).parameters
    # The ending is seen each time, and has no say where the data are.
    own = {*Data.model_fields, "file_ending"}
    return {
        name: value
        for name, value in get_config(interface).items()
        if name not in own and value is not None and value != plain(parameters[name].default)
    }


def _shown_path(path: str, output: Path) -> str:
    """Relative to the configuration where the data lie beside or below it: both may then be moved together."""
    beside = Path(os.path.abspath(output)).parent
    return os.path.relpath(path, beside) if Path(path).is_relative_to(beside) else path
