"""Implementation of ``miscnn-tf init``."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.configuration import get_config, plain
from miscnn_tf._base.messages import plural
from miscnn_tf.cli.data_set import check_given, enter_data_folder, structure_table, what_was_found
from miscnn_tf.cli.terminal import start_tensorflow
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.label_keys import IGNORE_TEXT, is_ignored
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.experiment.build import make_interface, make_preprocessor
from miscnn_tf.experiment.fingerprint import take_fingerprint
from miscnn_tf.experiment.network_plan import CASCADE, LOW_RESOLUTION, Plans
from miscnn_tf.experiment.planner import (
    Choice,
    Plan,
    find_configurations,
    make_plan,
    plan_validation,
    this_machine,
    to_tables,
)
from miscnn_tf.experiment.schema import AUTO, Data, Experiment
from miscnn_tf.experiment.toml_file import check_experiment, describe_data, plan_text, write_text
from miscnn_tf.runs.fold import write_fold2disk
from miscnn_tf.runs.writer import Writer

_GIVEN: Final = "set on the command line"
_WIDTH: Final = 110
#: Keys of ``[split]`` with which the user decides on the samples.
_SPLITS: Final = ("file", "training", "validation", "validation_share")


def run_init(
    folder: str | Path,
    output: Path,
    given: Mapping[str, Any],
    memory_gb: float | None = None,
    overwrite: bool = False,
    minutes: float | None = None,
    preset: str = "plain",
    configuration: str | None = None,
) -> Experiment:
    """Analyse a data set, and write a configuration and the fingerprint.

    Args:
        folder: The data set, as the user wrote it.
        output: The file to write.
        given: Tables of keys that are set, not detected, with the path of the data set: see `given_tables`.
        memory_gb: Memory for a training step; None: depends on the machine.
        overwrite: Replace an existing file.
        minutes: Time limit of the training; None for a number of epochs.
        preset: Family of networks: a key of `network_plan.PRESETS`.
        configuration: One of `network_plan.CONFIGURATIONS`; by default volumes, or images, in full resolution.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: If the configuration is not planned for these data.
        StorageError: If the file exists.
        DataError: If the data are invalid.
    """
    if output.exists() and not overwrite:
        raise StorageError(f"{output} exists already; choose another name with -o, or replace it with --overwrite")
    if output.suffix != ".toml":
        raise ConfigurationError(f"-o {output}: the name of a configuration must end in .toml")
    # Report mistakes in the given values before reading the data, which may take minutes.
    given_experiment = check_given(given)
    if {"architecture", "loss", "metrics", "optimizer"} & given.get("network", {}).keys():
        from miscnn_tf.experiment.build_network import require_parts  # imports TensorFlow

        require_parts(given_experiment)
    checked = given_experiment.data
    _require_previous_stage(checked.previous_stage, configuration)
    asked = {"pattern": checked.pattern, **checked.settings}
    inner = enter_data_folder(checked.path, None if checked.layout == AUTO else checked.layout, asked)
    checked = checked.model_copy(update={"path": inner})
    interface = make_interface(checked)
    data_io = Data_IO(interface, checked.path)
    name = miscnn_data_interfaces.name_of(type(interface)) or checked.layout
    found = what_was_found(interface)
    print(
        f"{plural(len(data_io.indices_list), 'sample')}, layout {name}{found and f': {found}'}",
        flush=True,
    )
    if structures := structure_table(interface):
        print(structures, flush=True)
    fingerprint = take_fingerprint(data_io)
    machine = this_machine(memory_gb)
    names = interface.names_of_classes()
    if minutes is None:
        minutes = given_experiment.network.minutes

    def seconds_of(plan: Plan) -> float:
        return _seconds_per_step(_with_given(plan, given), data_io, checked.previous_stage)

    plan = make_plan(
        fingerprint,
        machine,
        names,
        minutes,
        preset,
        channel_names=interface.channel_names,
        regions=tuple(region.name for region in scheme_of(interface).regions),
        ignore=scheme_of(interface).has_ignored,
        measure=seconds_of if _can_measure(given) else None,
        configuration=configuration,
    )
    split_file = output.with_suffix(".split.json")
    kept = interface.validation_samples if given.get("split", {}).keys().isdisjoint(_SPLITS) else ()
    plan["split"] |= _plan_split(interface, data_io, split_file, kept)
    if kept:
        del plan["split"]["validation_share"]

    data = {"path": Choice(_shown_path(checked.path, output), ""), "layout": Choice(name, "layout of the files")}
    data["channels"] = Choice(interface.channels, "")
    data["classes"] = Choice(interface.classes, "background included")
    if interface.class_names is not None:
        data["class_names"] = Choice(list(interface.class_names), "")
    if interface.label_map:
        values = ", ".join(map(str, interface.values_of_classes()))
        data["label_map"] = Choice(
            {str(old): IGNORE_TEXT if is_ignored(new) else new for old, new in interface.label_map.items()},
            f"classes of values in the label maps; predictions are written with the values {values}",
        )
    settings = _settings(interface, given["data"].get("settings", {}))
    if settings:
        data["settings"] = Choice(settings, "further arguments of the layout")
    for key, value in given["data"].items():
        # The label map of the interface also has other values of the files.
        if key not in ("path", "layout", "settings", "label_map"):
            data[key] = Choice(value, _GIVEN)
    plan = _with_given(plan, given)

    experiment = check_experiment(
        {
            "data": {**{key: choice.value for key, choice in data.items()}, "path": checked.path},
            **to_tables(plan),
            "split": {**to_tables(plan)["split"], **({"file": os.path.abspath(split_file)} if kept else {})},
        },
        output,
    )
    fingerprint_file = output.with_suffix(".fingerprint.json")
    header = [
        "Configuration for 'miscnn-tf train' and 'miscnn-tf cross-validate'.",
        *describe_data(fingerprint, names, interface.channels, _shown(folder, inner)),
        *_describe_configurations(find_configurations(fingerprint, machine, len(names), preset), configuration),
        f"Fingerprint of the data: {fingerprint_file.name}. Planned for {machine.description}.",
    ]
    fingerprint.write(fingerprint_file)
    if kept:
        write_fold2disk(split_file, [name for name in data_io.indices_list if name not in {*kept}], kept)
    write_text(output, plan_text(data, plan, header))
    print("\n".join(header[1:-1]))
    print(f"Wrote {output} and {fingerprint_file.name}, planned for {machine.description}")
    return experiment


def _require_previous_stage(folder: str | None, configuration: str | None) -> None:
    """Require the folder of the previous stage for a cascade, and none for other networks."""
    if (folder is not None) == (configuration == CASCADE):
        return
    if folder is not None:
        raise ConfigurationError(
            f"data.previous_stage = {folder!r} is for the configuration {CASCADE}; add --configuration {CASCADE}, or "
            "leave it out"
        )
    raise ConfigurationError(
        f"configuration {CASCADE!r} needs the cross-validation of its previous stage: plan {LOW_RESOLUTION}, run "
        "miscnn-tf cross-validate, and name the folder of that run with --previous-stage"
    )


def _describe_configurations(planned: Plans, configuration: str | None) -> list[str]:
    """Return lines about the configuration of nnU-Net that is planned, and the others."""
    chosen = configuration or planned.default
    line = f"{configuration_line(chosen)}."
    if len(planned.plans) < 2:
        return [line]
    others = [name for name in planned.plans if name != chosen]
    line = (
        f"{configuration_line(chosen)}, which also trains {' and '.join(others)} on such data: 'miscnn-tf init "
        f"--configuration {others[0]}' plans it, 'miscnn-tf compare' chooses."
    )
    lines = [line, *(f"{name} is not planned: {reason}." for name, reason in planned.refusals.items())]
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH, break_on_hyphens=False)]


def configuration_line(name: str) -> str:
    """Return the beginning of the line of a file about its configuration of nnU-Net."""
    return f"Configuration {name} of nnU-Net"


def _with_given(plan: Plan, given: Mapping[str, Any]) -> Plan:
    """Return the plan with the keys that the user gave, without planned keys that do not fit them."""
    tables = {table: {key: Choice(value, _GIVEN) for key, value in keys.items()} for table, keys in given.items()}
    network = dict(plan["network"])
    if "iterations" in given.get("network", {}):
        network |= plan_validation(given["network"]["iterations"])
    if "metrics" in given.get("network", {}):
        network.pop("best_by", None)  # it needs a metric of the plan
    if given.get("preprocessing", {}).get("analysis", "patchwise-crop") != "patchwise-crop":
        network.pop("validation_batches", None)  # of random patches
    plan = {**plan, "network": network}
    return {
        table: {**plan.get(table, {}), **tables.get(table, {})}
        for table in dict.fromkeys((*plan, *tables))
        if table != "data"
    }


def _can_measure(given: Mapping[str, Any]) -> bool:
    """Return True if a training step can be measured, and patch and batch reduced."""
    fixed = given.get("network", {}).keys() & {"architecture", "weights"} or "patch_shape" in given.get(
        "preprocessing", {}
    )
    return not fixed and Writer().is_alone


def _seconds_per_step(plan: Plan, data_io: Data_IO, previous_stage: str | None) -> float:
    """Measure a training step of a plan on this machine."""
    start_tensorflow()
    from miscnn_tf.experiment.build_network import make_model  # imports TensorFlow
    from miscnn_tf.neural_network.step_time import seconds_per_step

    data = {"path": data_io.input_path, "previous_stage": previous_stage}
    experiment = Experiment.model_validate({"data": data, **to_tables(plan)})
    network = make_model(experiment, make_preprocessor(experiment, data_io))
    shape = (network.preprocessor.batch_size, *network.window_shape)
    patch = " x ".join(map(str, network.window_shape))
    print(f"Measuring a training step: patches of {patch}, {shape[0]} in a batch …", flush=True)
    return seconds_per_step(network.model, shape, network.input_channels, network.classes)


def _plan_split(interface: Abstract_IO, data_io: Data_IO, file: Path, kept: Sequence[Hashable]) -> dict[str, Choice]:
    """Return the keys of the split that the layout decides: samples kept for validation, or groups of samples."""
    if kept:
        numbers = f"{plural(len(data_io.indices_list) - len(kept), 'training sample')}, {len(kept)} for validation"
        return {"file": Choice(file.name, f"the folders of the data set: {numbers}")}
    if interface.sample_groups is None:
        return {}
    expression = re.compile(interface.sample_groups)
    matches = [expression.fullmatch(str(name)) for name in data_io.indices_list]
    groups = {None if match is None else match[1] for match in matches}
    if None in groups or len(groups) < 2:
        return {}
    return {"groups": Choice(interface.sample_groups, "samples that stay on one side of the split")}


def _settings(interface: Abstract_IO, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the interface that differ from its defaults, and those that the user gave.

    Some layouts pass given arguments on to others, and have them in their own arguments.
    """
    parameters = inspect.signature(type(interface)).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    # The file ending is detected for each run.
    own = {*Data.model_fields, "file_ending"}
    differing = {
        name: value
        for name, value in get_config(interface).items()
        if name not in own and value is not None and value != plain(parameters[name].default)
    }
    return {**differing, **{name: value for name, value in given.items() if takes_any or name in parameters}}


def _shown(folder: str | Path, inner: str) -> str:
    """Return the folder as the user gave it, unless the data are in a folder in it."""
    return str(folder) if os.path.abspath(folder) == inner else inner


def _shown_path(path: str, output: Path) -> str:
    """Return a path relative to the configuration if the data are in its folder, so that both can be moved together."""
    beside = Path(os.path.abspath(output)).parent
    return os.path.relpath(path, beside) if Path(path).is_relative_to(beside) else path
