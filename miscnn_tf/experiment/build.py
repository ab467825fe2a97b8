"""Construction of the objects of the Python interface from a configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.label_keys import parse_key
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.folds import check_samples, leave_out, make_folds
from miscnn_tf.experiment.schema import (
    AUTO,
    UNLIMITED_EPOCHS,
    Data,
    Experiment,
    Split,
)
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.fold import Fold, load_disk2fold
from miscnn_tf.runs.previous_stage import PreviousStage

#: Keys of attributes of the Preprocessor that are not constructor arguments.
_ATTRIBUTES = {
    "overlap": "patchwise_overlap",
    "blending": "patchwise_blending",
    "foreground": "patchwise_foreground",
    "skip_blanks": "patchwise_skip_blanks",
    "skip_class": "patchwise_skip_class",
    "threads": "mp_threads",
}


def default_of(function: Callable[..., Any], argument: str) -> Any:
    """Return the default of an argument."""
    return inspect.signature(function).parameters[argument].default


# ---------------------------------------------------------------- data


def make_interface(data: Data) -> Abstract_IO:
    """Create the interface of the configured layout, which is detected if ``layout = "auto"``.

    Raises:
        DataError: If the folder does not exist, or has another layout.
    """
    return find_interface(data.path, **data_settings(data))


def data_settings(data: Data) -> dict[str, Any]:
    """Return the arguments of `find_interface` beside the folder."""
    return {
        "name": None if data.layout == AUTO else data.layout,
        **{name: getattr(data, name) for name in ("channels", "classes", "three_dim", "pattern", "class_names")},
        "label_map": None if data.label_map is None else {parse_key(old): new for old, new in data.label_map.items()},
        **{name: getattr(data, name) for name in ("ignore_label", "regions", "regions_class_order")},
        **data.settings,
    }


def make_data_io(experiment: Experiment, folder: str | Path) -> Data_IO:
    """Create the Data_IO, which writes to `folder`.

    Args:
        experiment: The configuration.
        folder: Folder of the run.
    """
    return Data_IO(
        make_interface(experiment.data),
        experiment.data.path,
        output_path=str(Path(folder) / "predictions"),
        batch_path=experiment.preprocessing.prepared_folder or str(Path(folder) / "batches"),
    )


def make_split(experiment: Experiment, samples: list[Hashable]) -> Fold:
    """Return the training samples and the validation samples, which may be empty.

    Raises:
        ConfigurationError: If the split has samples that do not exist, or is impossible.
    """
    from miscnn_tf.evaluation.split_validation import split_validation

    split = experiment.split
    if split.file is not None:
        training, validation = load_disk2fold(split.file)
        fold, where = Fold(tuple(training), tuple(validation)), f"[split] file {split.file}"
    elif split.training is not None:
        fold, where = Fold(tuple(split.training), tuple(split.validation or ())), "[split]"
    else:
        share = split.validation_share
        if share is None:
            share = default_of(split_validation, "percentage")
        if share == 0:
            return Fold(tuple(samples), ())
        return leave_out(samples, share, **_split_arguments(split))
    unknown = sorted({str(name) for name in (*fold.training, *fold.validation) if name not in samples})
    if unknown or not fold.training:
        raise ConfigurationError(
            f"{where} has {', '.join(map(repr, unknown[:3]))}, which the data set does not have; its samples are "
            f"{', '.join(map(repr, samples[:3]))}, …"
            if unknown
            else f"{where} has no training samples; add some"
        )
    check_samples([*fold.training, *fold.validation])  # without duplicates
    return fold


def make_cross_validation(experiment: Experiment) -> dict[str, Any]:
    """Return the arguments of `cross_validation` that define the split."""
    return {**experiment.cross_validation.given("k_fold"), **_split_arguments(experiment.split)}


def number_of_folds(experiment: Experiment, samples: list[Hashable]) -> int:
    """Return the number of folds of a cross-validation, after checking that the split is possible."""
    from miscnn_tf.evaluation.cross_validation import cross_validation

    arguments = make_cross_validation(experiment)
    arguments.setdefault("k_fold", default_of(cross_validation, "k_fold"))
    return len(make_folds(samples, **arguments))


def _split_arguments(split: Split) -> dict[str, Any]:
    labels = {name: _labelling(expression, name) for name, expression in split.given("groups", "strata").items()}
    return {**labels, **split.given("seed")}


def _labelling(expression: str, key: str) -> Callable[[Hashable], str]:
    """Return a function that extracts the group of a regular expression from a sample's name."""
    compiled = re.compile(expression)

    def label(name: Hashable) -> str:
        match = compiled.fullmatch(str(name)) or compiled.match(str(name))
        if match is None or match[1] is None:
            raise ConfigurationError(f"[split] {key} = {expression!r} does not match the sample {name!r}; correct it")
        return match[1]

    return label


# ---------------------------------------------------------------- preprocessing


def make_preprocessor(experiment: Experiment, data_io: Data_IO) -> Preprocessor:
    """Create the preprocessor."""
    table, network, previous = experiment.preprocessing, experiment.network, experiment.data.previous_stage
    arguments = table.given("analysis", "prepare_subfunctions", "prepare_batches", "use_multiprocessing", "cache_bytes")
    if table.patch_shape is not None:
        arguments["patch_shape"] = tuple(table.patch_shape)
    preprocessor = Preprocessor(
        data_io,
        batch_size=network.batch_size,
        subfunctions=table.make_steps(),
        data_aug=experiment.augmentation.make(),
        previous_stage=None if previous is None else PreviousStage(previous),
        **network.given("seed"),
        **arguments,
    )
    for key, attribute in _ATTRIBUTES.items():
        value = getattr(table, key)
        if value is not None:
            setattr(preprocessor, attribute, tuple(value) if isinstance(value, list) else value)
    preprocessor.plan()  # raises an error if the overlap does not fit the patch
    return preprocessor


def make_training(experiment: Experiment) -> dict[str, Any]:
    """Return the arguments of a training: epochs and iterations."""
    from miscnn_tf.evaluation.cross_validation import cross_validation

    network = experiment.network
    epochs = network.epochs
    if epochs is None:
        epochs = default_of(cross_validation, "epochs") if network.minutes is None else UNLIMITED_EPOCHS
    return {"epochs": epochs, "iterations": network.iterations}
