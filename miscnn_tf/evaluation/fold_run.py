"""Training and measuring a model on one split, so that an interruption costs no finished work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from miscnn_tf.arguments import whole_number
from miscnn_tf.cluster import is_chief
from miscnn_tf.configuration import plain
from miscnn_tf.data_loading.folder_lock import locked_folder, move_aside
from miscnn_tf.data_loading.results import EVALUATION_FILE, HISTORY_FILE, STATE_FILE, backup_history
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.evaluation.another_run import holds_another_run
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.evaluation.dice import mean_dice
from miscnn_tf.evaluation.fold_record import RECORD_FILE, FoldRecord, matching_record, training_settings
from miscnn_tf.evaluation.folds import Fold, load_disk2fold, write_fold2disk
from miscnn_tf.evaluation.kept_predictions import remove_predictions
from miscnn_tf.evaluation.run_record import REPORT_FILE
from miscnn_tf.evaluation.score_table import RESULT_FILES, SCORES_FILE, read_scores
from miscnn_tf.messages import plural

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)

SAMPLES_FILE = "sample_list.json"
MODEL_FILE = "model.keras"
# The best weights of a fold whose model is not asked for, until they have been evaluated.
TEMPORARY_MODEL_FILE = "best.unsaved.keras"

History = dict[str, list[float]]

T = TypeVar("T")


@dataclass(frozen=True)
class RunOptions:
    """How each fold of a run is trained and measured; the same for all of them.

    Args:
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        draw_figures: Whether to draw the curves of the loss and metrics.
        run_detailed_evaluation: Whether to predict the validation samples with the best weights and write their Dice.
        callbacks: Further Keras callbacks.
        save_models: Whether to keep the best model.
        resume: Whether finished work stands; otherwise it is thrown away first.
        backup_every: After how many epochs the whole state of the training is written; 0: never.
        save_predictions: Whether to keep the predictions of the validation samples.
        class_weight: What an error in each class costs: ``{class: weight}`` or a weight per class.
        archive: Whether results of another run (without `resume`: all results) are moved to a dated folder.
    """

    epochs: int = 20
    iterations: int | None = None
    draw_figures: bool = False
    run_detailed_evaluation: bool = False
    callbacks: Sequence[Callback] = ()
    save_models: bool = True
    resume: bool = True
    backup_every: int = 1
    save_predictions: bool = True
    class_weight: Any = None
    archive: bool = False

    def check(self) -> None:
        """Find mistakes that would otherwise show after the first fold was set up.

        Raises:
            ConfigurationError: Naming the argument.
        """
        from miscnn_tf.neural_network.callbacks import callback_list

        whole_number(self.epochs, "epochs", 1)
        if self.iterations is not None:
            whole_number(self.iterations, "iterations", 1)
        whole_number(self.backup_every, "backup_every")
        callback_list(self.callbacks)

    def settings(self, model: Neural_Network) -> dict[str, Any]:
        """What the result of such a training depends on besides the samples, as plain data."""
        settings = training_settings(model, self.epochs, self.iterations)
        if self.class_weight is not None:
            settings["class_weight"] = plain(self.class_weight, "class_weight")
        return settings

    @property
    def best_file(self) -> str | None:
        """Name of the file for the best model; None where nobody asks for it."""
        if self.save_models:
            return MODEL_FILE
        return TEMPORARY_MODEL_FILE if self.run_detailed_evaluation else None


def run_split(fold: Fold, model: Neural_Network, folder: Path, options: RunOptions) -> History:
    """Train a model afresh on one side of a split and measure it on the other.

    Where no sample validates, the model of the last epoch is the best one, and there is nothing to measure.

    What is there already is not done again: a training that finished with the same samples and settings, the epochs of
    one that was interrupted, and the detailed evaluation. Afterwards `model` has the weights of the best epoch where
    those were kept (`save_models` or `run_detailed_evaluation`).

    Of several machines that train together (``TF_CONFIG``), the first one writes, and measures in the end.

    Args:
        fold: The split.
        model: The model; it is reset before the training.
        folder: Where the results go.
        options: How.

    Returns:
        The history: for each metric a list with a number per epoch.

    Raises:
        ConfigurationError: If the folder holds results, finished or not, of other samples or settings.
        FolderInUseError: If another run holds the lock on the folder.
        TrainingError: If the validation loss was not finite in any epoch.
    """
    with locked_by_the_chief(model, folder):
        if options.archive:
            by_the_chief(model, lambda: archive_another_run({0: folder}, [fold], model, folder, options))
        return _run_split(fold, model, folder, options)


def _run_split(fold: Fold, model: Neural_Network, folder: Path, options: RunOptions) -> History:
    settings = options.settings(model)
    record = _found_by_all(model, folder, lambda: _finished(fold, folder, settings, options))
    if record is None:
        record = _train(fold, model, folder, settings, options)
    if not is_chief():
        restore_best(model, folder, options.save_models)
        return record.history
    (folder / STATE_FILE).unlink(missing_ok=True)
    if options.draw_figures:
        # matplotlib takes a while to import.
        from miscnn_tf.evaluation.curves import plot_validation

        plot_validation(record.history, model.metrics, str(folder))
    restore_best(model, folder, options.save_models)
    if not fold.validation:
        return record.history
    if options.run_detailed_evaluation and not record.detailed:
        scores = detailed_validation(
            fold.validation,
            model,
            folder,
            draw_figures=options.draw_figures,
            save_predictions=options.save_predictions,
        )
        record = replace(record, detailed=True)
        record.write(folder)
        logger.info("%s: mean Dice per class %s", folder, [round(mean, 4) for mean in mean_dice(list(scores.values()))])
    elif options.run_detailed_evaluation and options.draw_figures and (folder / SCORES_FILE).is_file():
        from miscnn_tf.evaluation.score_figures import plot_scores

        plot_scores(read_scores(folder / SCORES_FILE), folder)  # asked for only now that all is finished
    (folder / TEMPORARY_MODEL_FILE).unlink(missing_ok=True)
    return record.history


def restore_best(model: Neural_Network, folder: Path, kept_only: bool = True) -> None:
    """Give the model the best weights of a fold, if they are there.

    Args:
        model: The model.
        folder: The fold's folder.
        kept_only: Not those that are there until they have been evaluated.
    """
    # Only here, where a network is at work, is TensorFlow needed.
    from miscnn_tf.neural_network.checkpoint import restore_weights

    best = _best_model(folder, kept_only)
    if best is not None:
        restore_weights(model, best)


def by_the_chief(model: Neural_Network, act: Callable[[], object]) -> None:
    """Change files on the first of the machines that train together, while the others wait.

    Args:
        model: What they train.
        act: Changes the files.
    """

    def act_if_chief() -> None:
        if is_chief():
            act()

    _together(model, act_if_chief)


@contextmanager
def locked_by_the_chief(model: Neural_Network, folder: str | Path) -> Iterator[None]:
    """Hold the lock on a folder of results, on the first of the cluster nodes only.

    Args:
        model: The model.
        folder: The folder; created if missing.

    Raises:
        FolderInUseError: If another run holds the lock; a TrainingError on the other nodes.
    """
    with ExitStack() as stack:
        by_the_chief(model, lambda: stack.enter_context(locked_folder(folder)))
        yield


def check_model(model: Neural_Network) -> None:
    """Find out before anything runs that `model` is none.

    Raises:
        ConfigurationError: If it lacks what a fold needs.
    """
    for method in ("evaluate", "predict", "reset"):
        if not callable(getattr(model, method, None)):
            raise ConfigurationError(
                f"model is a {type(model).__name__} without {method}(); pass a miscnn_tf.Neural_Network as second "
                "argument"
            )
    for attribute in ("learning_rate", "metrics"):
        if not hasattr(model, attribute):
            raise ConfigurationError(
                f"model is a {type(model).__name__} without {attribute}; pass a miscnn_tf.Neural_Network. The members "
                "of a group are trained by its own evaluate()"
            )


def archive_another_run(
    folders: Mapping[int, Path], folds: Sequence[Fold], model: Neural_Network, root: Path, options: RunOptions
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
    if not options.resume or holds_another_run(folders, folds, model, options):
        move_aside(root)


def remove_results(folder: Path) -> None:
    """Delete the files that a run wrote into the folder of a fold, and no others."""
    from miscnn_tf.utils.traces import find_curves

    curves = find_curves(folder)
    # The record comes first: without it the other files count as unfinished if this is interrupted.
    for name in (
        RECORD_FILE,
        STATE_FILE,
        HISTORY_FILE,
        MODEL_FILE,
        TEMPORARY_MODEL_FILE,
        EVALUATION_FILE,
        REPORT_FILE,
        *RESULT_FILES,
    ):
        (folder / name).unlink(missing_ok=True)
    for figure in curves:
        figure.unlink(missing_ok=True)
    remove_predictions(folder)


def _train(
    fold: Fold, model: Neural_Network, folder: Path, settings: dict[str, Any], options: RunOptions
) -> FoldRecord:
    from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
    from miscnn_tf.neural_network.model import Neural_Network

    all_callbacks = [*options.callbacks]
    # Other models know nothing of it.
    if options.backup_every and isinstance(model, Neural_Network):
        all_callbacks.append(TrainingState(folder, options.backup_every, keep=True))
        interrupted = options.resume and (folder / STATE_FILE).is_file()
    else:
        interrupted = False

    def begin() -> None:
        make_folder(folder)
        if not interrupted:
            remove_results(folder)
        elif (folder / SAMPLES_FILE).is_file():
            _require_same_samples(fold, folder)
        write_fold2disk(folder / SAMPLES_FILE, fold.training, fold.validation)

    by_the_chief(model, begin)
    # Each fold uses the current learning rate; reset() restores the constructor's.
    rate = model.learning_rate
    model.reset()
    if model.learning_rate != rate:
        model.learning_rate = rate
    best = options.best_file
    if best is not None and fold.validation:
        all_callbacks.append(BestModel(model, folder / best))
    logger.info(
        "%s: training on %s, validating on %d", folder, plural(len(fold.training), "sample"), len(fold.validation)
    )
    arguments: dict[str, Any] = {"epochs": options.epochs, "iterations": options.iterations, "callbacks": all_callbacks}
    if options.class_weight is not None:
        arguments["class_weight"] = options.class_weight
    if fold.validation:
        result = model.evaluate(list(fold.training), list(fold.validation), **arguments)
    else:
        result = model.train(list(fold.training), **arguments)
    history = {name: [float(value) for value in values] for name, values in result.history.items()}
    record = FoldRecord(fold, settings, history)

    def finish() -> None:
        if best is not None and not fold.validation:
            model.dump(folder / best)
        backup_history(history, str(folder))
        if best is not None and not (folder / best).is_file():
            (folder / STATE_FILE).unlink(missing_ok=True)  # nothing to go on from
            raise TrainingError(
                f"{folder}: val_loss was not a finite number in any epoch (see {HISTORY_FILE} there), so that there is "
                "no best model. Lower the learning rate, or look for NaN in the images"
            )
        record.write(folder)

    by_the_chief(model, finish)
    return record


def _finished(fold: Fold, folder: Path, settings: dict[str, Any], options: RunOptions) -> FoldRecord | None:
    """The record of a fold that need not be trained again, or None."""
    record = matching_record(folder, fold, settings) if options.resume else None
    if record is None:
        return None
    needs_model = options.save_models or (options.run_detailed_evaluation and not record.detailed)
    if needs_model and _best_model(folder, options.save_models) is None:
        logger.warning("%s: finished before, but its model was not kept and is needed; it is trained again", folder)
        return None
    logger.info("%s: finished before with these samples and settings, not trained again", folder)
    return record


def _found_by_all(model: Neural_Network, folder: Path, find: Callable[[], FoldRecord | None]) -> FoldRecord | None:
    """What is found, where all machines that train together find the same: else they would train different folds.

    Raises:
        ConfigurationError: If some find a finished fold, and others none.
    """
    record, _ = _together(model, find)
    _, found = _together(model, lambda: None, lambda: [record is not None])
    if found.any() and not found.all():
        raise ConfigurationError(
            f"{folder} is finished on some of the machines that train together, and not on others: they do not see the "
            "same folder. Choose an evaluation_path that all of them share"
        )
    return record


def _together(
    model: Neural_Network, act: Callable[[], T], numbers: Callable[[], Sequence[float]] = tuple
) -> tuple[T, np.ndarray]:
    """What `act` returns, and the numbers of all machines that train together, as `Workers.together` has it."""
    hardware = getattr(model, "hardware", None)
    if hardware is None:  # a model of another kind trains alone
        return act(), np.array([numbers()])
    result: tuple[T, np.ndarray] = hardware.workers.together(act, numbers)
    return result


def _require_same_samples(fold: Fold, folder: Path) -> None:
    """Before its list of samples is written anew, so that an interrupted fold can still go on as it was."""
    if not fold.same_samples(Fold(*map(tuple, load_disk2fold(folder / SAMPLES_FILE)))):
        raise ConfigurationError(
            f"{folder} holds an interrupted training with other samples. Train with the same arguments to continue "
            "it, choose another evaluation_path, pass archive=True to move it to a dated folder, or resume=False to "
            "delete it"
        )


def _best_model(folder: Path, kept_only: bool) -> Path | None:
    names = (MODEL_FILE,) if kept_only else (MODEL_FILE, TEMPORARY_MODEL_FILE)
    return next((folder / name for name in names if (folder / name).is_file()), None)
