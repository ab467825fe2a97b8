"""Running all folds of a cross-validation, here or by an executor."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.folder_lock import locked_folder
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.fold_record import matching_record, read_record
from miscnn_tf.evaluation.fold_run import (
    SAMPLES_FILE,
    History,
    RunOptions,
    archive_another_run,
    by_the_chief,
    locked_by_the_chief,
    remove_results,
    restore_best,
    run_split,
)
from miscnn_tf.evaluation.folds import Fold
from miscnn_tf.evaluation.remote_folds import check_executor, run_remotely
from miscnn_tf.evaluation.run_record import REPORT_FILE, RUN_FILE, write_run_record
from miscnn_tf.evaluation.score_table import RESULT_FILES
from miscnn_tf.evaluation.summary import write_summary

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)


def run_folds(
    folds: Sequence[Fold],
    model: Neural_Network,
    evaluation_path: str | Path,
    options: RunOptions,
    executor: Executor | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    report: bool = True,
) -> list[History]:
    """Run folds, ``fold_<i>/`` each: one after the other, or by an executor.

    Args:
        folds: The splits.
        model: The model.
        evaluation_path: Folder of the results.
        options: How each is trained and measured.
        executor: Whose workers run them; None: this process.
        settings: What the caller was asked for besides, for ``run.json``.
        report: Whether to write the page of the run.

    Returns:
        The history of each.

    Raises:
        ConfigurationError: If the folder holds finished results of other folds, or the executor cannot run them; before
            anything is trained.
        FolderInUseError: If another run holds the lock on the folder or on that of a fold.
        TrainingError: If a fold failed in its worker.
    """
    if executor is not None:
        check_executor(executor, model)
    with locked_by_the_chief(model, evaluation_path):
        return _run_folds(folds, model, Path(evaluation_path), options, executor, settings, report)


def _run_folds(
    folds: Sequence[Fold],
    model: Neural_Network,
    root: Path,
    options: RunOptions,
    executor: Executor | None,
    settings: Mapping[str, Any] | None,
    report: bool,
) -> list[History]:
    by_the_chief(model, lambda: begin_folds(root, folds, model, options, settings or {}))
    # Earlier results have been deleted or moved.
    options = replace(options, resume=True, archive=False)
    folders = [fold_folder(root, number) for number in range(len(folds))]
    if executor is None:
        histories = []
        for number, (fold, folder) in enumerate(zip(folds, folders, strict=True)):
            logger.info("fold %d of %d (%s)", number + 1, len(folds), folder)
            histories.append(run_split(fold, model, folder, options))
    else:
        histories = run_remotely(folds, folders, model, options, executor)
        if options.save_models:
            restore_best(model, folders[-1])  # as where it was trained here
    if not is_chief():
        return histories
    if options.run_detailed_evaluation:
        write_summary(root, draw_figures=options.draw_figures)
    if report:
        write_report_if_possible(root, model.preprocessor.data_io)
    return histories


def begin_folds(
    root: Path, folds: Sequence[Fold], model: Neural_Network, options: RunOptions, settings: Mapping[str, Any]
) -> None:
    """Make the folder that of these folds; what is in it stays, or is thrown away, as the options say.

    Args:
        root: The folder, created where missing.
        folds: The splits.
        model: The model, or one of those that are trained, which are made alike.
        options: How each is trained and measured.
        settings: What the caller was asked for besides, for ``run.json``.

    Raises:
        ConfigurationError: If the folder holds finished results of other folds or settings, and they are to stay.
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
        # All at once, so that an interruption after the first fold does not leave old results in the others.
        for folder in fold_folders(root).values():
            with locked_folder(folder):
                remove_results(folder)
        for name in (RUN_FILE, REPORT_FILE, *RESULT_FILES):
            (root / name).unlink(missing_ok=True)
    remove_surplus(root, len(folds))
    # Now that nothing of another run can be overwritten, and before the first fold: it may be interrupted.
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


def fold_folder(evaluation_path: str | Path, number: int) -> Path:
    """The folder of a fold."""
    return Path(evaluation_path) / f"fold_{number}"


def fold_folders(root: Path) -> dict[int, Path]:
    """The folders of folds that are there, by number."""
    names = ((path.name.removeprefix("fold_"), path) for path in root.glob("fold_*") if path.is_dir())
    return {int(number): path for number, path in names if number.isdecimal()}


def remove_surplus(root: Path, number_of_folds: int) -> None:
    """Remove unfinished folds of an earlier split that had more of them, lest they be taken for folds of this one."""
    for number, folder in fold_folders(root).items():
        if number >= number_of_folds and read_record(folder) is None:
            with locked_folder(folder):
                remove_results(folder)
                (folder / SAMPLES_FILE).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


def other_split(folder: Path, number_of_folds: int) -> ConfigurationError:
    """The error for finished results that do not belong to these folds."""
    return ConfigurationError(
        f"{folder} holds finished results of another split than the {number_of_folds} requested folds. Choose "
        "another evaluation_path, pass archive=True to move the finished results to a dated folder, or resume=False "
        "to delete them"
    )
