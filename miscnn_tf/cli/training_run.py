"""Commands ``miscnn-tf train`` and ``cross-validate`` by means of the public interface."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import plural
from miscnn_tf.cli.output_folder import claim
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import scored_names_of
from miscnn_tf.errors import MissingDataError
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.cross_validation import cross_validation
from miscnn_tf.evaluation.fold_run import run_split, writer_of
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.evaluation.postprocessing_choice import choose_postprocessing
from miscnn_tf.experiment.build import (
    make_cross_validation,
    make_data_io,
    make_preprocessor,
    make_split,
    make_training,
    number_of_folds,
)
from miscnn_tf.experiment.build_network import make_callbacks, make_model, require_parts
from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.multi_model.loading import fold_model_files
from miscnn_tf.neural_network.keras_file import store_postprocessing
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.processing.components import ComponentStep
from miscnn_tf.runs.names import MODEL_FILE, PREDICTIONS_FOLDER, RECORD_FILE, REPORT_FILE, SUMMARY_FILE
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.score_summary import read_summary, scores_table


def run_training(experiment: Experiment, folder: Path, fresh: bool = False) -> None:
    """Train on one split, and evaluate if there are validation samples.

    Args:
        experiment: The configuration.
        folder: The run folder; an interrupted run in it is continued.
        fresh: Delete the results of an earlier run in it.

    Raises:
        ConfigurationError: If the configuration is invalid, or the folder holds another run.
        DataError: If a sample cannot be used.
    """
    require_parts(experiment)
    model = _make(experiment, folder)
    samples = model.preprocessor.data_io.get_indiceslist()
    fold = make_split(experiment, samples)
    model.preprocessor.data_io.check([*fold.training, *fold.validation])
    _require_previous_stage(model, [*fold.training, *fold.validation])
    writer = writer_of(model)
    writer.write(lambda: claim(folder, experiment, "training"))
    options = _options(experiment, bool(fold.validation), fresh)
    settings = {**make_training(experiment), **_training_keys(experiment)}
    if fresh or not ((folder / RECORD_FILE).is_file() and (folder / MODEL_FILE).is_file()):
        print(
            f"Training on {plural(len(fold.training), 'sample')}, {_validating(len(fold.validation))} "
            f"({model.hardware.description}) in {folder}",
            flush=True,
        )
        _announce_page(folder)
        # Before the training, for a report of an interrupted one.
        writer.write(
            lambda: write_run_record(
                folder, "training", model, settings=settings, predictions=folder / PREDICTIONS_FOLDER
            )
        )
    else:
        # Its record is kept: the precision that this program measured may be another one.
        print(f"The training in {folder} is finished; it is not trained again", flush=True)
    run_split(fold, model, folder, options, writer)
    if not writer.is_chief:
        print(f"{model.hardware.cluster}: trained. The first worker evaluates and writes the results")
        return
    page = write_report_if_possible(folder, model.preprocessor.data_io)
    if fold.validation:
        _print_scores(folder, scored_names_of(model.preprocessor.data_io.interface) or ())
    _print_page(page)
    print(f"The model: {folder / MODEL_FILE}. To segment new images: {_prediction_with(folder)}")


def run_cross_validation(experiment: Experiment, folder: Path, fresh: bool = False) -> None:
    """Train and evaluate a model per fold; arguments and errors are those of `run_training`."""
    require_parts(experiment)
    model = _make(experiment, folder)
    samples = model.preprocessor.data_io.get_indiceslist()
    folds = number_of_folds(experiment, samples)
    model.preprocessor.data_io.check(samples)
    _require_previous_stage(model, samples)
    writer = writer_of(model)
    writer.write(lambda: claim(folder, experiment, "cross-validation"))
    options = _options(experiment, True, fresh)
    print(f"{folds} folds of {len(samples)} samples ({model.hardware.description}) in {folder}", flush=True)
    _announce_page(folder)
    cross_validation(samples, model, evaluation_path=folder, options=options, **make_cross_validation(experiment))
    if not writer.is_chief:
        print(f"{model.hardware.cluster}: trained. The first worker evaluates and writes the results")
        return
    _print_scores(folder, scored_names_of(model.preprocessor.data_io.interface) or ())
    _choose_postprocessing(folder, model.preprocessor.data_io)
    _print_page(folder / REPORT_FILE)
    print(f"The models of all folds segment new images together: {_prediction_with(folder)}")


def _choose_postprocessing(folder: Path, data_io: Data_IO) -> None:
    """Choose the postprocessing on all folds, and store it in their models."""
    steps: tuple[ComponentStep, ...] = ()
    try:
        choice = choose_postprocessing(folder, data_io)
        steps, text = choice.steps, choice.table
    except MissingDataError as error:  # a prediction whose name is too long for a file is not kept
        text = f"No postprocessing is chosen: {error}"
    for file in fold_model_files(folder):
        store_postprocessing(file, steps)
    print(f"\n{text}")


def _make(experiment: Experiment, folder: Path) -> Neural_Network:
    data_io = make_data_io(experiment, folder)
    model = make_model(experiment, make_preprocessor(experiment, data_io))
    if not sys.stdout.isatty():
        model.verbose = 2  # a line per epoch, since a log file cannot show a progress bar
    return model


def _require_previous_stage(model: Neural_Network, samples: Sequence[Hashable]) -> None:
    if model.preprocessor.previous_stage is not None:
        model.preprocessor.previous_stage.require(samples)


def _options(experiment: Experiment, validates: bool, fresh: bool) -> ValidationOptions:
    return ValidationOptions(
        draw_figures=experiment.output.figures,
        run_detailed_evaluation=validates,
        callbacks=make_callbacks(experiment, validates),
        resume=not fresh,
        backup_every=experiment.output.backup_every,
        class_weight=experiment.network.class_weight,
        **make_training(experiment),
    )


def _training_keys(experiment: Experiment) -> dict[str, Any]:
    """Return the settings of the training that are not settings of the model."""
    return experiment.network.given("schedule", "minutes", "patience", "class_weight", "seed")


def _validating(number: int) -> str:
    return f"validating on {number}" if number else "without validation"


def _prediction_with(folder: Path) -> str:
    return f"miscnn-tf predict {shlex.quote(str(folder))} IMAGES PREDICTIONS"


def _print_scores(folder: Path, names: Sequence[str]) -> None:
    summary = read_summary(folder / SUMMARY_FILE)
    print(f"\n{scores_table(summary, names)}")


def _announce_page(folder: Path) -> None:
    print(
        f"Curves and remaining time, from the first epoch on: {(folder / REPORT_FILE).resolve().as_uri()}", flush=True
    )


def _print_page(page: Path | None) -> None:
    if page is not None and page.is_file():
        print(f"\nScores, curves and pictures: {page.resolve().as_uri()}")
