"""Training and evaluation of a model on one split, in which an interruption costs no finished work."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from miscnn_tf._base.arguments import callback_list
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.interfaces.description import scored_names_of
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, TrainingError
from miscnn_tf.evaluation.automatic_report import renew_report
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.evaluation.dice import mean_dice
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.evaluation.trainable import Connected, Trainable, logged, require_trainable, resumable
from miscnn_tf.runs.best_model import restore_weights
from miscnn_tf.runs.earlier_files import remove_results
from miscnn_tf.runs.epoch_log import Renewal
from miscnn_tf.runs.fold import Fold, FoldRecord, holds_another_run, matching_record, read_fold, write_fold2disk
from miscnn_tf.runs.folder_lock import move_aside
from miscnn_tf.runs.names import (
    HISTORY_FILE,
    MODEL_FILE,
    SAMPLES_FILE,
    SCORES_FILE,
    STATE_FILE,
    TEMPORARY_MODEL_FILE,
    fold_folders,
    is_fold_folder,
)
from miscnn_tf.runs.run_folder import number_of_folds
from miscnn_tf.runs.run_record import read_run_record
from miscnn_tf.runs.score_table import read_scores
from miscnn_tf.runs.tables import History, backup_history
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)


def run_split(
    fold: Fold, model: Trainable, folder: Path, options: ValidationOptions, writer: Writer | None = None
) -> History:
    """Train a model afresh on one side of a split and evaluate it on the other.

    Without validation samples, the model of the last epoch is the best one, and nothing is evaluated.

    Finished work in the folder is not repeated: a training with the same samples and settings, the epochs of an
    interrupted one, and the detailed evaluation. Afterwards `model` has the weights of the best epoch if those were
    kept (`save_models` or `run_detailed_evaluation`).

    Of several cluster nodes, the first one writes, and evaluates at the end.

    Args:
        fold: The split.
        model: The model; it is reset before the training.
        folder: The run folder.
        options: Options of the training and evaluation.
        writer: The writer of the run; created if missing.

    Returns:
        The history: the values per epoch of each metric.

    Raises:
        ConfigurationError: If the folder holds results, finished or not, of other samples or settings.
        FolderInUseError: If another run holds the lock on the folder.
        TrainingError: If the validation loss was not finite in any epoch.
    """
    writer = writer or writer_of(model)
    with writer.locked(folder):
        if options.archive:
            writer.write(lambda: archive_another_run({0: folder}, [fold], model, folder, options))
        return _run_split(fold, model, folder, options, writer)


def _run_split(fold: Fold, model: Trainable, folder: Path, options: ValidationOptions, writer: Writer) -> History:
    settings = options.settings(model)
    record, everywhere = writer.agree(lambda: _finished(fold, folder, settings, options))
    if not everywhere:
        # They would train different folds.
        raise ConfigurationError(
            f"{folder} is finished on some of the machines that train together, and not on others: they do not see the "
            "same folder. Choose an evaluation_path that all of them share"
        )
    if record is None:
        record = _train(fold, model, folder, settings, options, writer)
    restore_best(model, folder, kept_only=options.save_models)
    writer.write(lambda: _evaluate(record, fold, model, folder, options), wait=False)
    return record.history


def _evaluate(record: FoldRecord, fold: Fold, model: Trainable, folder: Path, options: ValidationOptions) -> None:
    """Draw the curves of a finished training, and evaluate the best model on the validation samples."""
    (folder / STATE_FILE).unlink(missing_ok=True)
    if options.draw_figures:
        # Imported here, since importing matplotlib is slow.
        from miscnn_tf.evaluation.curves import plot_validation

        names = scored_names_of(model.preprocessor.data_io.interface)
        plot_validation(record.history, model.metrics, str(folder), class_names=names)
    if not fold.validation:
        return
    if options.run_detailed_evaluation and not record.detailed:
        scores = detailed_validation(
            fold.validation,
            model,
            folder,
            draw_figures=options.draw_figures,
            save_predictions=options.save_predictions,
        )
        replace(record, detailed=True).write(folder)
        logger.info("%s: mean Dice per class %s", folder, [round(mean, 4) for mean in mean_dice(list(scores.values()))])
    elif options.run_detailed_evaluation and options.draw_figures and (folder / SCORES_FILE).is_file():
        # The scores were computed by an earlier call without draw_figures.
        from miscnn_tf.evaluation.score_figures import plot_scores

        plot_scores(read_scores(folder / SCORES_FILE), folder, scored_names_of(model.preprocessor.data_io.interface))
    (folder / TEMPORARY_MODEL_FILE).unlink(missing_ok=True)


def restore_best(model: Trainable, folder: Path, *, kept_only: bool = True) -> None:
    """Give a model the best weights of a fold, if the folder has them.

    Args:
        model: The model.
        folder: The folder of the fold.
        kept_only: Ignore a model file that is only there until the evaluation.
    """
    best = _best_model(folder, kept_only)
    if best is not None:
        # The file also holds the optimizer, with the learning rate of the best epoch.
        rate = model.learning_rate
        restore_weights(model, best)
        if model.learning_rate != rate:
            model.learning_rate = rate


def writer_of(model: Trainable) -> Writer:
    """Return the writer of a run of a model; one per run."""
    return Writer(model.together if isinstance(model, Connected) else None)


def check_run(model: Trainable, options: ValidationOptions) -> None:
    """Find mistakes before anything runs.

    Raises:
        ConfigurationError: If the model lacks a member that a fold needs, or a callback is invalid.
    """
    require_trainable(model)
    callback_list(options.callbacks)


def archive_another_run(
    folders: Mapping[int, Path], folds: Sequence[Fold], model: Trainable, root: Path, options: ValidationOptions
) -> None:
    """Move the results in `root` to a dated folder if they are those of another run, or without ``resume``.

    Args:
        folders: The folders of folds in `root` by number.
        folds: The splits of the new run.
        model: The model.
        root: The folder. This thread must hold its lock.
        options: Options of the training and evaluation of each fold.

    Raises:
        StorageError: If it cannot be moved; it is then unchanged.
    """

    def state_settings() -> dict[str, Any]:
        return {
            **resumable(model).state_settings(),
            "epochs": options.epochs,
            "iterations": options.iterations,
        }

    if not options.resume or holds_another_run(folders, folds, options.settings(model), state_settings):
        move_aside(root)


def _train(
    fold: Fold,
    model: Trainable,
    folder: Path,
    settings: dict[str, Any],
    options: ValidationOptions,
    writer: Writer,
) -> FoldRecord:
    all_callbacks = [*options.callbacks]
    state = resumable(model).training_state(folder, options.backup_every) if options.backup_every else None
    if state is not None:
        all_callbacks.append(state)
    interrupted = state is not None and options.resume and (folder / STATE_FILE).is_file()

    def begin() -> None:
        make_folder(folder)
        if not interrupted:
            remove_results(folder)
        elif (folder / SAMPLES_FILE).is_file():
            _require_same_samples(fold, folder)
        write_fold2disk(folder / SAMPLES_FILE, fold.training, fold.validation)

    writer.write(begin)
    # Each fold uses the current learning rate; reset() restores the constructor's.
    rate = model.learning_rate
    model.reset()
    if model.learning_rate != rate:
        model.learning_rate = rate
    best = options.best_file
    if best is not None and fold.validation:
        all_callbacks.append(resumable(model).best_model(folder / best))
    renew = _renewal(folder) if options.report else None
    log, listener = logged(model).training_log(folder, options.epochs, options.callbacks, renew)
    all_callbacks.append(listener)
    numbers = _numbers(folder)
    bar = None if numbers is None else logged(model).fold_progress(*numbers)
    if bar is not None:
        all_callbacks.append(bar)
    logger.info(
        "%s: training on %s, validating on %d", folder, plural(len(fold.training), "sample"), len(fold.validation)
    )
    arguments: dict[str, Any] = {"epochs": options.epochs, "iterations": options.iterations, "callbacks": all_callbacks}
    if options.class_weight is not None:
        arguments["class_weight"] = options.class_weight
    try:
        if fold.validation:
            result = model.evaluate(list(fold.training), list(fold.validation), **arguments)
        else:
            result = model.train(list(fold.training), **arguments)
    except BaseException as error:
        log.interrupt(error)
        raise
    log.finish()
    history = {name: [float(value) for value in values] for name, values in result.history.items()}
    record = FoldRecord(fold, settings, history)

    def finish() -> None:
        if best is not None and not fold.validation:
            model.dump(folder / best)
        backup_history(history, str(folder))
        if best is not None and not (folder / best).is_file():
            (folder / STATE_FILE).unlink(missing_ok=True)  # it cannot be continued
            raise TrainingError(
                f"{folder}: val_loss was not a finite number in any epoch (see {HISTORY_FILE} there), so that there is "
                "no best model. Lower the learning rate, or look for NaN in the images"
            )
        record.write(folder)

    writer.write(finish)
    return record


def _renewal(folder: Path) -> Renewal:
    """Return a function that renews the report of the run to which the folder of a training belongs."""
    return lambda seconds: renew_report(folder.parent if is_fold_folder(folder) else folder, seconds)


def _numbers(folder: Path) -> tuple[int, int] | None:
    """Return the number of a fold from its folder, and that of all folds of the run; None for another folder."""
    root = folder.parent
    number = next((number for number, path in fold_folders(root).items() if path.name == folder.name), None)
    if number is None:
        return None
    try:
        record: dict[str, Any] | None = read_run_record(root)
    except (MissingDataError, DataError):  # it is written by the last fold, or reported by the report
        record = None
    return number, number_of_folds(record, root)


def _finished(fold: Fold, folder: Path, settings: dict[str, Any], options: ValidationOptions) -> FoldRecord | None:
    """Return the record of a fold that need not be trained again, or None."""
    record = matching_record(folder, fold, settings) if options.resume else None
    if record is None:
        return None
    needs_model = options.save_models or (options.run_detailed_evaluation and not record.detailed)
    if needs_model and _best_model(folder, options.save_models) is None:
        logger.warning("%s: finished before, but its model was not kept and is needed; it is trained again", folder)
        return None
    logger.info("%s: finished before with these samples and settings, not trained again", folder)
    return record


def _require_same_samples(fold: Fold, folder: Path) -> None:
    """Require the samples of an interrupted training, before their list is replaced.

    Raises:
        ConfigurationError: If they differ.
    """
    if not fold.same_samples(read_fold(folder / SAMPLES_FILE)):
        raise ConfigurationError(
            f"{folder} holds an interrupted training with other samples. Train with the same arguments to continue "
            "it, choose another evaluation_path, pass archive=True to move it to a dated folder, or resume=False to "
            "delete it"
        )


def _best_model(folder: Path, kept_only: bool) -> Path | None:
    names = (MODEL_FILE,) if kept_only else (MODEL_FILE, TEMPORARY_MODEL_FILE)
    return next((folder / name for name in names if (folder / name).is_file()), None)
