"""k-fold cross-validation, in one call or fold by fold on several machines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.folder_lock import locked_folder, move_aside
from miscnn_tf.errors import MissingDataError
from miscnn_tf.evaluation.all_folds import (
    fold_folder,
    fold_folders,
    other_split,
    remove_surplus,
    require_free_folds,
    run_folds,
)
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.callable_module import make_callable
from miscnn_tf.evaluation.fold_record import read_record
from miscnn_tf.evaluation.fold_run import (
    SAMPLES_FILE,
    History,
    RunOptions,
    by_the_chief,
    check_model,
    remove_results,
    run_split,
)
from miscnn_tf.evaluation.folds import Fold, Labelling, check_samples, load_disk2fold, make_folds, write_fold2disk
from miscnn_tf.evaluation.run_record import RUN_FILE, write_run_record
from miscnn_tf.evaluation.starting_weights import starting_weights
from miscnn_tf.evaluation.summary import write_summary

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["cross_validation", "load_disk2fold", "run_fold", "split_folds", "write_fold2disk"]


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
    strata: Labelling | None = None,
    groups: Labelling | None = None,
    backup_every: int = 1,
    executor: Executor | None = None,
    save_predictions: bool = True,
    report: bool = True,
    class_weight: Mapping[int, float] | Sequence[float] | None = None,
    start: str = "initial",
    archive: bool = False,
) -> list[History] | None:
    """Train and measure a model `k_fold` times, so that each sample validates exactly once.

    Each fold starts from fresh weights, a fresh optimizer and the asked learning rate (``model.reset()``), and leaves
    in ``<evaluation_path>/fold_<i>/``:

    - ``sample_list.json``: the split, ``{"TRAINING": […], "VALIDATION": […]}``;
    - ``history.tsv``: loss and metrics, a row per epoch;
    - ``model.keras``: the model of the epoch with the lowest ``val_loss`` (`save_models`);
    - ``validation.loss.png`` and ``validation.<metric>.png`` (`draw_figures`);
    - ``detailed_validation.tsv``: Dice per validation sample and class, of that best model, and ``scores.csv``: all
      other scores (`run_detailed_evaluation`; what they come to over all folds is in ``scores.csv`` and
      ``summary.json`` in `evaluation_path`);
    - ``predictions/``: what was predicted for the validation samples, as label maps (`run_detailed_evaluation`);
    - ``completed.json``: written last; by it a later run knows that the fold is finished.

    In `evaluation_path` itself are ``run.json``, which says what was run, and ``report.html``: all of it as one page,
    with the worst and the best cases to be paged through.

    The split depends on the names of the samples, `strata`, `groups` and `seed` only. If a cross-validation was
    interrupted, the same call goes on with the fold and the epoch in which it stopped: after every epoch the whole
    state of the training (weights, optimizer, callbacks, history) replaces ``training_state.npz`` in the fold's folder,
    which is gone when the fold is complete. Finished folds of other samples, of another `k_fold` or of other
    settings (epochs, architecture, loss, preprocessing, …) are an error, unless ``archive=True`` moves them to another
    folder or ``resume=False`` deletes them. Other changes, such as of image files, callbacks or the code of a function
    with the same name, are not detected; pass ``resume=False`` or another folder after them.

    Args:
        sample_list: Names of the samples; the list is not changed.
        model: The model. Afterwards it has the best weights of the last fold, where those were kept.
        k_fold: Number of folds, from 2 to the number of samples.
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: Folder of the results.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        run_detailed_evaluation: Predict each fold's validation samples and write their Dice.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        save_models: Keep the best model of each fold.
        return_output: Return the histories.
        seed: Of the split.
        resume: False throws away the results that the folder holds, and starts afresh.
        strata: What each fold gets its share of: a mapping or a function from a sample's name to its stratum, or to a
            set of several (the classes that occur in the case, the hospital, …).
        groups: What stays together: a mapping or a function from a sample's name to its group, such as the patient.
        backup_every: After how many epochs the state of the training is written, by which an interrupted fold goes on;
            0: never. It takes 12 bytes per weight.
        executor: Runs the folds in other processes or on other machines: any ``concurrent.futures.Executor``, such as
            ``ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))`` or Dask's
            ``Client.get_executor()``. The workers read the images and write the results themselves, at the same paths;
            they get what the model is made from, and copies of the callbacks. Functions and classes of your own have to
            be in a module that the workers can import. Threads of one process run one fold at a time.
        save_predictions: Keep the predictions of the validation samples, from which the report draws pictures, in
            ``predictions/`` of the fold's folder (`run_detailed_evaluation`).
        report: Write ``report.html``, a page with all of it (`miscnn_tf.report.run_page.write_report`).
        class_weight: What an error in each class costs: ``{class: weight}`` or a weight per class.
        start: Starting weights of each fold: ``"initial"``, the initial weights of the model, or ``"weights"``, its
            current weights, such as those of a file. Scores are only meaningful if the current weights were not trained
            on these samples.
        archive: Move the results of another run in the folder to a dated folder beside it, such as
            ``evaluation_2026-11-30_19-45-00``; with ``resume=False`` also those of the same run.

    Returns:
        With `return_output` the history of each fold, as Keras has it: ``{"loss": [per epoch], "val_loss": […], …}``.
        Otherwise None.

    Raises:
        ConfigurationError: If an argument is invalid, or the folder holds finished results of another cross-validation;
            raised before the first training.
        FolderInUseError: If another run holds the lock on the folder.
        TrainingError: If a fold failed in its worker; the message has its number. Finished folds are kept.

    Example:
        >>> from miscnn_tf.evaluation import cross_validation
        >>> cross_validation(samples, model, k_fold=5, epochs=100, draw_figures=True)  # doctest: +SKIP

        All scans of a patient on one side, and as many of each hospital in each fold:

        >>> cross_validation(
        ...     samples, model, groups=lambda name: name.split("_")[0], strata=hospital_of
        ... )  # doctest: +SKIP
    """
    options = RunOptions(
        *(epochs, iterations, draw_figures, run_detailed_evaluation, callbacks, save_models, resume, backup_every),
        save_predictions=save_predictions,
        class_weight=class_weight,
        archive=archive,
    )
    check_model(model)
    options.check()
    folds = make_folds(check_samples(sample_list, model), k_fold, seed, strata=strata, groups=groups)
    with starting_weights(model, start):
        histories = run_folds(
            folds,
            model,
            evaluation_path,
            options,
            executor,
            settings={"seed": seed, "stratified": strata is not None, "grouped": groups is not None},
            report=report,
        )
    return histories if return_output else None


def split_folds(
    sample_list: Sequence[Hashable],
    k_fold: int = 3,
    evaluation_path: str | Path = "evaluation",
    *,
    seed: int = 0,
    resume: bool = True,
    strata: Labelling | None = None,
    groups: Labelling | None = None,
    archive: bool = False,
) -> None:
    """Write the splits of a cross-validation, to be run with `run_fold` on several machines that share the folder.

    Of several machines that train one network together (``TF_CONFIG``), the first one writes.

    Args:
        sample_list: Names of the samples; the list is not changed.
        k_fold: Number of folds, from 2 to the number of samples.
        evaluation_path: Folder of the results; the splits become ``fold_<i>/sample_list.json`` in it.
        seed: Of the split: as in `cross_validation`.
        resume: False throws away finished results of another split that the folder holds.
        strata: What each fold gets its share of: as in `cross_validation`.
        groups: What stays together: as in `cross_validation`.
        archive: Move finished results of another split to a dated folder: as in `cross_validation`.

    Raises:
        ConfigurationError: If an argument cannot work, or the folder holds finished results of another split.

    Example:
        >>> split_folds(io.get_indiceslist(), k_fold=5, evaluation_path="evaluation")  # doctest: +SKIP
    """
    folds = make_folds(check_samples(sample_list), k_fold, seed, strata=strata, groups=groups)
    if is_chief():
        with locked_folder(evaluation_path) as root:
            _write_splits(root, folds, resume, archive)


def _write_splits(root: Path, folds: Sequence[Fold], resume: bool, archive: bool) -> None:
    require_free_folds(root)
    for number, folder in fold_folders(root).items():
        record = read_record(folder)
        if record is None or (number < len(folds) and folds[number].same_samples(record.fold)):
            continue
        if archive:
            move_aside(root)
            break
        if resume:
            raise other_split(folder, len(folds))
        with locked_folder(folder):
            remove_results(folder)
    remove_surplus(root, len(folds))
    if all(read_record(folder) is None for folder in fold_folders(root).values()):
        (root / RUN_FILE).unlink(missing_ok=True)  # of another run
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
    backup_every: int = 1,
    save_predictions: bool = True,
    report: bool = False,
    start: str = "initial",
    archive: bool = False,
) -> History:
    """Train and measure a model on one fold that `split_folds` wrote; the arguments are `cross_validation`'s.

    Args:
        fold: Number of the fold, from 0.
        model: The model; it is reset first.
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: The folder that was given to `split_folds`.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        callbacks: Further Keras callbacks; the list is not changed.
        save_models: Keep the best model.
        run_detailed_evaluation: Predict the validation samples and write their scores; ``scores.csv`` and
            ``summary.json`` in `evaluation_path` are then those of all folds that are finished by now.
        resume: False trains the fold again even though it is finished.
        backup_every: After how many epochs the state of the training is written; 0: never.
        save_predictions: Keep the predictions of the validation samples.
        report: Write ``report.html`` of all folds that are finished so far into `evaluation_path`.
        start: ``"initial"`` or ``"weights"``: as in `cross_validation`.
        archive: Move results of the fold with other settings to a dated folder: as in `cross_validation`.

    Returns:
        The history: ``{"loss": [per epoch], "val_loss": […], …}``; of a fold that was finished before, the one from
        then.

    Raises:
        MissingDataError: If there is no such fold.
        ConfigurationError: If an argument cannot work, or the fold was finished with other settings.

    Example:
        >>> run_fold(0, model, epochs=100, evaluation_path="evaluation")  # doctest: +SKIP
    """
    options = RunOptions(
        epochs,
        iterations,
        draw_figures,
        run_detailed_evaluation,
        callbacks,
        save_models,
        resume,
        backup_every,
        save_predictions,
        archive=archive,
    )
    check_model(model)
    options.check()
    folder = fold_folder(evaluation_path, fold)
    # The others wait until the first one has written the splits.
    by_the_chief(model, lambda: _require_fold(fold, evaluation_path))
    training, validation = load_disk2fold(folder / SAMPLES_FILE)
    check_samples([*training, *validation], model)
    with starting_weights(model, start):
        history = run_split(Fold(tuple(training), tuple(validation)), model, folder, options)
    if not is_chief():
        return history
    if not (Path(evaluation_path) / RUN_FILE).is_file():  # one that is there may know more, as the seed of the split
        settings = {"folds": len(fold_folders(Path(evaluation_path))), "epochs": epochs, "iterations": iterations}
        write_run_record(evaluation_path, "cross-validation", model, settings=settings)
    if run_detailed_evaluation:
        write_summary(evaluation_path, draw_figures=draw_figures)  # over the folds that are finished by now
    if report:
        write_report_if_possible(evaluation_path, model.preprocessor.data_io)
    return history


def _require_fold(fold: int, evaluation_path: str | Path) -> None:
    path = fold_folder(evaluation_path, fold) / SAMPLES_FILE
    if not path.is_file():
        written = sorted(fold_folders(Path(evaluation_path)))
        raise MissingDataError(
            f"there is no fold {fold} in {evaluation_path} ({path} is missing; folds there: {written or 'none'}). Call "
            "split_folds() first, or correct fold or evaluation_path"
        )


make_callable(__name__)
