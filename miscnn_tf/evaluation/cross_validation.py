"""k-fold cross-validation, in one call or fold by fold on several machines."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.evaluation.callable_module import make_callable
from miscnn_tf.evaluation.fold_record import matching_record, read_record, training_settings
from miscnn_tf.evaluation.fold_run import SAMPLES_FILE, History, check_arguments, remove_results, run_split
from miscnn_tf.evaluation.folds import Fold, check_samples, load_disk2fold, make_folds, write_fold2disk

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["cross_validation", "load_disk2fold", "run_fold", "split_folds", "write_fold2disk"]

logger = logging.getLogger(__name__)


def cross_validation(
    sample_list: Sequence[Hashable],
    model: Neural_Network,
    k_fold: int = 3,
    epochs: int = 20,
    iterations: int | None = None,
    evaluation_path: str | Path = "evaluation",
    draw_figures: bool = False,
    run_detailed_evaluation: bool = False,
    callbacks: Sequence[Callback] = (),
    save_models: bool = True,
    return_output: bool = False,
    *,
    seed: int = 0,
    resume: bool = True,
) -> list[History] | None:
    """Train and measure a model `k_fold` times, so that each sample validates exactly once.

    Each fold starts from fresh weights, a fresh optimizer and the asked learning rate (``model.reset()``), and leaves
    in ``<evaluation_path>/fold_<i>/``:

    - ``sample_list.json``: the split, ``{"TRAINING": […], "VALIDATION": […]}``;
    - ``history.tsv``: loss and metrics, a row per epoch;
    - ``model.keras``: the model of the epoch with the lowest ``val_loss`` (`save_models`);
    - ``validation.loss.png`` and ``validation.<metric>.png`` (`draw_figures`);
    - ``detailed_validation.tsv``: Dice per validation sample and class, of that best model
      (`run_detailed_evaluation`);
    - ``completed.json``: written last; by it a later run knows that the fold is finished.

    The split depends on the names of the samples and on `seed` only. If a cross-validation was interrupted, the same
    call goes on with the fold in which it stopped. Finished folds of other samples, of another `k_fold` or of other
    settings (epochs, architecture, loss, preprocessing, …) are never mixed in nor overwritten: that is an error, unless
    ``resume=False`` asks to start afresh. What cannot be seen in the settings, such as changed image files, other
    callbacks or edited code of a function with the same name, needs ``resume=False`` or another folder too.

    Args:
        sample_list: Names of the samples; the list is not changed.
        model: The model. Afterwards it has the best weights of the last fold, where those were kept.
        k_fold: Number of folds, from 2 to the number of samples.
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: Folder of the results.
        draw_figures: Draw the curves of the loss and the metrics.
        run_detailed_evaluation: Predict each fold's validation samples and write their Dice.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        save_models: Keep the best model of each fold.
        return_output: Return the histories.
        seed: Of the split.
        resume: False throws away the results that the folder holds, and starts afresh.

    Returns:
        With `return_output` the history of each fold, as Keras has it: ``{"loss": [per epoch], "val_loss": […], …}``.
        Otherwise None.

    Raises:
        ConfigurationError: If an argument cannot work (found before anything is trained), or the folder holds finished
            results of another cross-validation.

    Example:
        >>> from miscnn_tf.evaluation import cross_validation
        >>> cross_validation(samples, model, k_fold=5, epochs=100, draw_figures=True)  # doctest: +SKIP
    """
    check_arguments(model, epochs, iterations, callbacks)
    samples = check_samples(sample_list, model)
    folds = make_folds(samples, k_fold, seed)
    return run_folds(
        folds,
        model,
        evaluation_path,
        epochs=epochs,
        iterations=iterations,
        draw_figures=draw_figures,
        run_detailed_evaluation=run_detailed_evaluation,
        callbacks=callbacks,
        save_models=save_models,
        return_output=return_output,
        resume=resume,
    )


def split_folds(
    sample_list: Sequence[Hashable],
    k_fold: int = 3,
    evaluation_path: str | Path = "evaluation",
    *,
    seed: int = 0,
    resume: bool = True,
) -> None:
    """Write the splits of a cross-validation, to be run with `run_fold` on several machines that share the folder.

    Args:
        sample_list: Names of the samples; the list is not changed.
        k_fold: Number of folds, from 2 to the number of samples.
        evaluation_path: Folder of the results; the splits become ``fold_<i>/sample_list.json`` in it.
        seed: Of the split: as in `cross_validation`.
        resume: False throws away finished results of another split that the folder holds.

    Raises:
        ConfigurationError: If an argument cannot work, or the folder holds finished results of another split.

    Example:
        >>> split_folds(io.get_indiceslist(), k_fold=5, evaluation_path="evaluation")  # doctest: +SKIP
    """
    folds = make_folds(check_samples(sample_list), k_fold, seed)
    root = make_folder(evaluation_path)
    for number, folder in _fold_folders(root).items():
        record = read_record(folder)
        if record is None or (number < len(folds) and folds[number].same_samples(record.fold)):
            continue
        if resume:
            raise _other_split(folder, len(folds))
        remove_results(folder)
    _remove_surplus(root, len(folds))
    for number, fold in enumerate(folds):
        write_fold2disk(fold_folder(root, number) / SAMPLES_FILE, fold.training, fold.validation)


def run_fold(
    fold: int,
    model: Neural_Network,
    epochs: int = 20,
    iterations: int | None = None,
    evaluation_path: str | Path = "evaluation",
    draw_figures: bool = True,
    callbacks: Sequence[Callback] = (),
    save_models: bool = True,
    *,
    run_detailed_evaluation: bool = False,
    resume: bool = True,
) -> History:
    """Train and measure a model on one fold that `split_folds` wrote; the arguments are `cross_validation`'s.

    Args:
        fold: Number of the fold, from 0.
        model: The model; it is reset first.
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: The folder that was given to `split_folds`.
        draw_figures: Draw the curves of the loss and the metrics.
        callbacks: Further Keras callbacks; the list is not changed.
        save_models: Keep the best model.
        run_detailed_evaluation: Predict the validation samples and write their Dice.
        resume: False trains the fold again even though it is finished.

    Returns:
        The history: ``{"loss": [per epoch], "val_loss": […], …}``; of a fold that was finished before, the one from
        then.

    Raises:
        MissingDataError: If there is no such fold.
        ConfigurationError: If an argument cannot work, or the fold was finished with other settings.

    Example:
        >>> run_fold(0, model, epochs=100, evaluation_path="evaluation")  # doctest: +SKIP
    """
    check_arguments(model, epochs, iterations, callbacks)
    folder = fold_folder(evaluation_path, fold)
    if not (folder / SAMPLES_FILE).is_file():
        written = sorted(_fold_folders(Path(evaluation_path)))
        raise MissingDataError(
            f"there is no fold {fold} in {evaluation_path} ({folder / SAMPLES_FILE} is missing; folds there: "
            f"{written or 'none'}). Call split_folds() first, or correct fold or evaluation_path"
        )
    training, validation = load_disk2fold(folder / SAMPLES_FILE)
    check_samples([*training, *validation], model)
    return run_split(
        Fold(tuple(training), tuple(validation)),
        model,
        folder,
        epochs=epochs,
        iterations=iterations,
        draw_figures=draw_figures,
        run_detailed_evaluation=run_detailed_evaluation,
        callbacks=callbacks,
        save_models=save_models,
        resume=resume,
    )


def run_folds(
    folds: Sequence[Fold],
    model: Neural_Network,
    evaluation_path: str | Path,
    *,
    epochs: int,
    iterations: int | None,
    draw_figures: bool,
    run_detailed_evaluation: bool,
    callbacks: Sequence[Callback],
    save_models: bool,
    return_output: bool,
    resume: bool,
) -> list[History] | None:
    """Run folds one after the other, ``fold_<i>/`` each; the arguments are `cross_validation`'s.

    Raises:
        ConfigurationError: If the folder holds finished results of other folds; before anything is trained.
    """
    root = make_folder(evaluation_path)
    if resume:
        settings = training_settings(model, epochs, iterations)
        for number, folder in _fold_folders(root).items():
            if number < len(folds):
                matching_record(folder, folds[number], settings)
            elif read_record(folder) is not None:
                raise _other_split(folder, len(folds))
    else:
        # All at once: interrupted after the first fold, the others must not pass for new ones.
        for folder in _fold_folders(root).values():
            remove_results(folder)
    _remove_surplus(root, len(folds))
    histories = []
    for number, fold in enumerate(folds):
        logger.info("fold %d of %d (%s)", number + 1, len(folds), fold_folder(root, number))
        history = run_split(
            fold,
            model,
            fold_folder(root, number),
            epochs=epochs,
            iterations=iterations,
            draw_figures=draw_figures,
            run_detailed_evaluation=run_detailed_evaluation,
            callbacks=callbacks,
            save_models=save_models,
            resume=True,
        )
        histories.append(history)
    return histories if return_output else None


def fold_folder(evaluation_path: str | Path, number: int) -> Path:
    """The folder of a fold."""
    return Path(evaluation_path) / f"fold_{number}"


def _fold_folders(root: Path) -> dict[int, Path]:
    """The folders of folds that are there, by number."""
    names = ((path.name.removeprefix("fold_"), path) for path in root.glob("fold_*") if path.is_dir())
    return {int(number): path for number, path in names if number.isdecimal()}


def _remove_surplus(root: Path, number_of_folds: int) -> None:
    """Remove unfinished folds of an earlier split that had more of them, lest they be taken for folds of this one."""
    for number, folder in _fold_folders(root).items():
        if number >= number_of_folds and read_record(folder) is None:
            remove_results(folder)
            (folder / SAMPLES_FILE).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


def _other_split(folder: Path, number_of_folds: int) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} holds finished results of another split than the {number_of_folds} folds that are asked for now. "
        "Choose another evaluation_path, or pass resume=False to throw the finished results away"
    )


make_callable(__name__)
