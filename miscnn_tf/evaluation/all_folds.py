"""Running of all folds of a cross-validation, in this process or by an executor."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from miscnn_tf._base.files import make_folder
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.fold_run import archive_another_run, restore_best, run_split, writer_of
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.evaluation.remote_folds import check_executor, run_remotely
from miscnn_tf.evaluation.starting_weights import starting_weights
from miscnn_tf.evaluation.summary import write_summary
from miscnn_tf.evaluation.trainable import Trainable
from miscnn_tf.runs.earlier_files import remove_results, remove_summary
from miscnn_tf.runs.fold import Fold, matching_record, read_record
from miscnn_tf.runs.folder_lock import locked_folder
from miscnn_tf.runs.names import SAMPLES_FILE, fold_folder, fold_folders
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.tables import History
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)


def run_folds(
    folds: Sequence[Fold],
    model: Trainable,
    evaluation_path: str | Path,
    options: ValidationOptions,
    executor: Executor | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
) -> list[History]:
    """Run folds into ``fold_<i>/``: one after the other, or by an executor.

    Args:
        folds: The splits.
        model: The model.
        evaluation_path: The run folder.
        options: Options of the training and evaluation of each fold.
        executor: The executor whose workers run them; None: this process.
        settings: Further arguments of the caller, for ``run.json``.

    Returns:
        The history of each fold.

    Raises:
        ConfigurationError: If the folder holds finished results of other folds, or the executor cannot run them; before
            anything is trained.
        FolderInUseError: If another run holds the lock on the folder or on that of a fold.
        TrainingError: If a fold failed in its worker.
    """
    writer = writer_of(model)
    if executor is not None:
        check_executor(executor, model, writer)
    with starting_weights(model, options.start), writer.locked(evaluation_path):
        return _run_folds(folds, model, Path(evaluation_path), options, executor, settings or {}, writer)


def _run_folds(
    folds: Sequence[Fold],
    model: Trainable,
    root: Path,
    options: ValidationOptions,
    executor: Executor | None,
    settings: Mapping[str, Any],
    writer: Writer,
) -> list[History]:
    writer.write(lambda: begin_folds(root, folds, model, options, settings))
    # Earlier results have been deleted or moved.
    options = replace(options, resume=True, archive=False)
    folders = [fold_folder(root, number) for number in range(len(folds))]
    if executor is None:
        histories = []
        for number, (fold, folder) in enumerate(zip(folds, folders, strict=True)):
            logger.info("fold %d of %d (%s)", number + 1, len(folds), folder)
            histories.append(run_split(fold, model, folder, options, writer))
    else:
        histories = run_remotely(folds, folders, model, options, executor)
        if options.save_models:
            restore_best(model, folders[-1])  # as after training in this process
    writer.write(lambda: finish_folds(root, model, options), wait=False)
    return histories


def finish_folds(root: Path, model: Trainable, options: ValidationOptions) -> None:
    """Write the summary of the finished folds, and the report.

    Args:
        root: The run folder.
        model: The model.
        options: Options of the folds.

    Raises:
        DataError: If the scores of a fold are damaged.
        StorageError: If a file cannot be written.
    """
    if options.run_detailed_evaluation:
        write_summary(root, draw_figures=options.draw_figures)
    if options.report:
        write_report_if_possible(root, model.preprocessor.data_io)


def begin_folds(
    root: Path, folds: Sequence[Fold], model: Trainable, options: ValidationOptions, settings: Mapping[str, Any]
) -> None:
    """Prepare the run folder of folds: keep, move or delete the results in it, and write the run record.

    Args:
        root: The run folder; created if missing.
        folds: The splits.
        model: The model, or one of several models with the same settings.
        options: Options of the training and evaluation of each fold.
        settings: Further arguments of the caller, for ``run.json``.

    Raises:
        ConfigurationError: If the folder holds finished results of other folds or settings, which the options keep.
        FolderInUseError: If another run holds the lock on the folder of a fold.
    """
    make_folder(root)
    require_free_folds(root)
    if options.archive:
        archive_another_run(fold_folders(root), folds, model, root, options)
    if options.resume:
        now = options.settings(model)
        for number, folder in fold_folders(root).items():
            if number < len(folds):
                matching_record(folder, folds[number], now)
            elif read_record(folder) is not None:
                raise other_split(folder, len(folds))
    else:
        # Before the first fold, so that an interruption does not leave old results in the other folds.
        for folder in fold_folders(root).values():
            with locked_folder(folder):
                remove_results(folder)
        remove_summary(root)
    remove_surplus(root, len(folds))
    # Before the first fold, since the run may be interrupted.
    write_run_record(
        root,
        "cross-validation",
        model,
        settings={"folds": len(folds), **settings, "epochs": options.epochs, "iterations": options.iterations},
    )


def require_free_folds(root: Path) -> None:
    """Require that no other run holds the lock on the folder of a fold.

    Raises:
        FolderInUseError: If a lock is held.
    """
    for folder in fold_folders(root).values():
        with locked_folder(folder):
            pass


def remove_surplus(root: Path, number_of_folds: int) -> None:
    """Remove unfinished folds of an earlier split with more folds, which would count as folds of this one."""
    for number, folder in fold_folders(root).items():
        if number >= number_of_folds and read_record(folder) is None:
            with locked_folder(folder):
                remove_results(folder)
                (folder / SAMPLES_FILE).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


def other_split(folder: Path, number_of_folds: int) -> ConfigurationError:
    """Return the error for finished results of other folds."""
    return ConfigurationError(
        f"{folder} holds finished results of another split than the {number_of_folds} requested folds. Choose "
        "another evaluation_path, pass archive=True to move the finished results to a dated folder, or resume=False "
        "to delete them"
    )
