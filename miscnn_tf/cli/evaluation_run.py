"""Command ``miscnn-tf evaluate`` by means of the public interface."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf._base.plain_files import write_json
from miscnn_tf.cli.advice import for_command
from miscnn_tf.cli.data_options import OF_TRUTH, given_data
from miscnn_tf.cli.input_images import data_set_interface
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import DatasetJSON_interface, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import class_names_of
from miscnn_tf.data_loading.label_keys import parse_key
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import ConfigurationError, MiscnnError
from miscnn_tf.evaluation.label_folders import (
    annotation_files,
    data_set_around,
    evaluate_label_maps,
    find_annotations,
    find_label_maps,
    pair,
)
from miscnn_tf.evaluation.score_figures import plot_scores
from miscnn_tf.runs.names import HISTORY_FILE, RECORD_FILE, SCORES_FILE, SUMMARY_FILE, fold_folders
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.score_summary import scores_table
from miscnn_tf.runs.score_table import read_scores

logger = logging.getLogger(__name__)


def run_evaluation(arguments: argparse.Namespace) -> int:
    """Evaluate, and return the exit code.

    Args:
        arguments: The parsed options.

    Raises:
        DataError: If label maps cannot be read or compared.
        ConfigurationError: If the output folder holds a training, or the names do not fit the classes.
    """
    if arguments.output is not None:
        _require_no_training(Path(arguments.output))
    label_map = dict(arguments.label_map) if arguments.label_map else None
    # In a data set, ignored voxels need a class.
    of_data_set = {**dict.fromkeys(arguments.ignore, 0), **(label_map or {})} or None
    trained = _interface_of(arguments.model)
    class_names = arguments.names or (None if trained is None else trained.class_names)
    given = len(class_names) if arguments.classes is None and class_names is not None else arguments.classes
    # These are read with the series of the truth.
    annotations = annotation_files(arguments.predictions)
    predictions = None if annotations else find_label_maps(arguments.predictions, given)
    structures = _structures(Path(arguments.truth), trained, class_names)
    chosen = _chosen(arguments)
    truth = find_label_maps(arguments.truth, given, label_map=of_data_set, **structures, **chosen)
    if chosen and truth.data_io is None:
        raise ConfigurationError(
            f"{arguments.truth} holds label maps alone, and is not a data set, for which {', '.join(OF_TRUTH)} are; "
            "remove these options"
        )
    if truth.data_io is not None and truth.data_io.interface.found_in:
        print(f"Truth: {for_command(truth.data_io.interface.found_in, arguments.options)}")
    predictions = find_annotations(arguments.predictions, truth) if predictions is None else predictions
    images = _images(arguments.images, trained, given)
    found = len(pair(predictions, truth))
    left = len(truth.maps) - found
    print(
        f"{found} case{'s' if found != 1 else ''}" + (f"; {left} more of the truth have no prediction" if left else "")
    )
    summary = evaluate_label_maps(
        predictions,
        truth,
        arguments.output,
        classes=given,
        label_map=label_map,
        ignore=arguments.ignore,
        tolerance_mm=arguments.tolerance,
        class_names=class_names,
        images=images,
        meaning=trained or _around(Path(arguments.truth)),
    )
    # Images and names of the classes for the report.
    classes = 1 + max(map(int, summary["classes"]))
    names = pair(predictions, truth)
    understood = {parse_key(value): label for value, label in summary.get("label_map", {}).items()}
    of_data_set = {**dict.fromkeys(arguments.ignore, 0), **understood} or None
    data_io = truth.data_io or data_set_around(arguments.truth, names, classes, of_data_set) or images
    if "class_names" not in summary and data_io is not None and (known := class_names_of(data_io.interface)):
        summary["class_names"] = known
    if data_io is not None and data_io is images:
        images.interface.classes = classes
    if arguments.output is not None:
        write_json(Path(arguments.output) / SUMMARY_FILE, summary)
        plot_scores(read_scores(Path(arguments.output) / SCORES_FILE), arguments.output, summary.get("class_names"))
        write_run_record(
            arguments.output,
            "evaluation",
            data_io=data_io,
            predictions=arguments.predictions,
            settings={
                "predictions": str(arguments.predictions),
                "truth": str(arguments.truth),
                "tolerance_mm": arguments.tolerance,
                **{name: summary[name] for name in ("label_map", "ignored_values") if name in summary},
            },
        )
    print()
    print(scores_table(summary, summary.get("class_names", ())))
    if arguments.output is not None:
        output = Path(arguments.output)
        print(f"\nAll scores: {output / SCORES_FILE}; as a page: miscnn-tf report {shlex.quote(str(output))}")
    return 0


def _interface_of(model: str | None) -> Abstract_IO | None:
    """Return the interface of a training."""
    if model is None:
        return None
    # Imported here, since importing TensorFlow is slow.
    from miscnn_tf.cli.prediction_run import find_model

    return find_model(model).interface()


def _chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `find_interface` for the truth that the options of `OF_TRUTH` give."""
    data = given_data(arguments)
    layout = {"name": data["layout"]} if "layout" in data else {}
    return {**layout, **data.get("settings", {})}


def _around(truth: Path) -> Abstract_IO | None:
    """Return the interface of the data set around a folder of label maps, if a file in it defines the labels."""
    root = truth.resolve().parent
    if not truth.is_dir() or not DatasetJSON_interface.defines_classes(root):
        return None
    try:
        return find_interface(root, part="all")
    except MiscnnError as reason:
        logger.debug("no data set around %s: %s", truth, reason)
        return None


def _structures(
    truth: Path, trained: Abstract_IO | None, class_names: Sequence[str] | None
) -> dict[str, Mapping[str, int]]:
    """Return the argument that gives named structures in the truth the labels of a training, or of the given names."""
    named = [cls for cls in miscnn_data_interfaces.values() if cls.has_named_structures()]
    if class_names is None or not truth.is_dir() or not any(cls.recognises(truth, {}) for cls in named):
        return {}
    labels = {} if trained is None else trained.structure_labels()
    return {"structure_dict": labels or {name: label for label, name in enumerate(class_names) if label}}


def _images(folder: str | None, trained: Abstract_IO | None, classes: int | None) -> Data_IO | None:
    """Return the data set of the images."""
    if folder is None:
        return None
    if trained is not None:
        return Data_IO(data_set_interface(folder, trained), folder)
    # The number of classes is set when the label maps have been read.
    return Data_IO(find_interface(folder, part="all", classes=classes or 2), folder)


def _require_no_training(folder: Path) -> None:
    """Require a folder without a training, whose scores and report the evaluation would replace.

    Raises:
        ConfigurationError: If the folder is that of a training, of a cross-validation or of a fold.
    """
    if (folder / RECORD_FILE).is_file() or (folder / HISTORY_FILE).is_file() or fold_folders(folder):
        raise ConfigurationError(
            f"{folder} holds a training or a cross-validation, whose scores and page would be replaced; choose another "
            "folder with --output"
        )
