"""k-fold cross-validation, in one call or fold by fold on several machines."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf._base.callable_module import make_callable
from miscnn_tf.errors import MissingDataError
from miscnn_tf.evaluation.all_folds import finish_folds, other_split, remove_surplus, require_free_folds, run_folds
from miscnn_tf.evaluation.fold_run import check_run, run_split, writer_of
from miscnn_tf.evaluation.folds import Labelling, check_samples, make_folds
from miscnn_tf.evaluation.options import ValidationOptions, gather_options
from miscnn_tf.evaluation.starting_weights import starting_weights
from miscnn_tf.evaluation.trainable import Trainable
from miscnn_tf.runs.earlier_files import remove_results, remove_summary
from miscnn_tf.runs.fold import Fold, load_disk2fold, read_fold, read_record, write_fold2disk
from miscnn_tf.runs.folder_lock import locked_folder, move_aside
from miscnn_tf.runs.names import RUN_FILE, SAMPLES_FILE, fold_folder, fold_folders
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.tables import History
from miscnn_tf.runs.writer import Writer

if TYPE_CHECKING:
    from keras.callbacks import Callback

__all__ = ["ValidationOptions", "cross_validation", "load_disk2fold", "run_fold", "split_folds", "write_fold2disk"]


def cross_validation(
    sample_list: Sequence[Hashable],
    model: Trainable,
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
    options: ValidationOptions | None = None,
    seed: int = 0,
    strata: Labelling | None = None,
    groups: Labelling | None = None,
    executor: Executor | None = None,
    **settings: Any,
) -> list[History] | None:
    """Train and evaluate a model `k_fold` times, so that each sample validates exactly once.

    Each fold starts from fresh weights, a fresh optimizer and the requested learning rate (``model.reset()``), and
    writes into ``<evaluation_path>/fold_<i>/``:

    - ``sample_list.json``: the split, ``{"TRAINING": […], "VALIDATION": […]}``;
    - ``history.tsv``: loss and metrics, a row per epoch;
    - ``model.keras``: the model of the epoch with the lowest ``val_loss`` (`save_models`);
    - ``validation.loss.png`` and ``validation.<metric>.png`` (`draw_figures`);
    - ``detailed_validation.tsv``: Dice per validation sample and class of that best model, and ``scores.csv``: all
      scores (`run_detailed_evaluation`);
    - ``predictions/``: the predicted label maps of the validation samples (`run_detailed_evaluation`);
    - ``completed.json``: written last; it marks the fold as finished.

    `evaluation_path` itself has ``run.json``, the record of the run, and ``report.html``, a page with all results and
    the worst and best samples. With `run_detailed_evaluation` it has the scores of all folds in ``scores.csv`` and
    their summary in ``summary.json``.

    The split only depends on the names of the samples, `strata`, `groups` and `seed`. After an interruption, the same
    call continues with the interrupted fold and epoch: after every epoch the whole state of the training (weights,
    optimizer, callbacks, history) replaces ``training_state.npz`` in the folder of the fold, which is removed when the
    fold is complete. Finished folds of other samples, of another `k_fold` or of other settings (epochs, architecture,
    loss, preprocessing, …) are an error, unless ``archive=True`` moves them to another folder or ``resume=False``
    deletes them. Other changes, such as of image files, callbacks or the code of a function with the same name, are not
    detected; pass ``resume=False`` or another folder after them.

    Args:
        sample_list: Names of the samples; the list is not changed.
        model: The model. Afterwards it has the best weights of the last fold, if those were kept.
        k_fold: Number of folds, from 2 to the number of samples.
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: The run folder.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        run_detailed_evaluation: Predict the validation samples of each fold and write their scores.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        save_models: Keep the best model of each fold.
        return_output: Return the histories.
        options: All options of the folds in one object, in place of the single arguments.
        seed: Seed of the split.
        strata: Strata that are distributed evenly among the folds: a mapping or a function from the name of a sample to
            its stratum, or to a set of several (the classes in the sample, the hospital, …).
        groups: Groups that are not divided: a mapping or a function from the name of a sample to its group, such as the
            patient.
        executor: Runs the folds in other processes or on other machines: any ``concurrent.futures.Executor``, such as
            ``ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))`` or Dask's
            ``Client.get_executor()``. The workers read the images and write the results themselves, at the same paths;
            they get the settings and initial weights of the model, and copies of the callbacks. Custom functions and
            classes must be in a module that the workers can import. Threads of one process run one fold at a time.
        **settings: Further fields of `ValidationOptions` by keyword, such as ``resume=False`` or ``class_weight=…``.

    Returns:
        With `return_output` the history of each fold, as in Keras: ``{"loss": [per epoch], "val_loss": […], …}``.
        Otherwise None.

    Raises:
        ConfigurationError: If an argument is invalid, or given as an option too, or the folder holds finished results
            of another cross-validation; raised before the first training.
        FolderInUseError: If another run holds the lock on the folder.
        TrainingError: If a fold failed in its worker; the message has its number. Finished folds are kept.

    Example:
        >>> from miscnn_tf.evaluation import cross_validation
        >>> cross_validation(samples, model, k_fold=5, epochs=100, draw_figures=True)  # doctest: +SKIP

        With all scans of a patient on one side, and as many of each hospital in each fold:

        >>> cross_validation(
        ...     samples, model, groups=lambda name: name.split("_")[0], strata=hospital_of
        ... )  # doctest: +SKIP
    """
    options = gather_options(
        cross_validation,
        options,
        settings,
        epochs=epochs,
        iterations=iterations,
        draw_figures=draw_figures,
        run_detailed_evaluation=run_detailed_evaluation,
        callbacks=callbacks,
        save_models=save_models,
    )
    check_run(model, options)
    folds = make_folds(check_samples(sample_list, model), k_fold, seed, strata=strata, groups=groups)
    split = {"seed": seed, "stratified": strata is not None, "grouped": groups is not None}
    histories = run_folds(folds, model, evaluation_path, options, executor, settings=split)
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

    Of several cluster nodes that train one network together, only the first one writes.

    Args:
        sample_list: Names of the samples; the list is not changed.
        k_fold: Number of folds, from 2 to the number of samples.
        evaluation_path: The run folder; the splits become ``fold_<i>/sample_list.json`` in it.
        seed: Seed of the split.
        resume: False deletes finished results of another split in the folder.
        strata: Strata that are distributed evenly among the folds, as in `cross_validation`.
        groups: Groups that are not divided, as in `cross_validation`.
        archive: Move finished results of another split to a dated folder.

    Raises:
        ConfigurationError: If an argument is invalid, or the folder holds finished results of another split.

    Example:
        >>> split_folds(io.get_indiceslist(), k_fold=5, evaluation_path="evaluation")  # doctest: +SKIP
    """
    folds = make_folds(check_samples(sample_list), k_fold, seed, strata=strata, groups=groups)
    writer = Writer()
    with writer.locked(evaluation_path):
        writer.write(lambda: _write_splits(Path(evaluation_path), folds, resume, archive))


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
        remove_summary(root)  # of another run
    for number, fold in enumerate(folds):
        write_fold2disk(fold_folder(root, number) / SAMPLES_FILE, fold.training, fold.validation)


def run_fold(
    fold: int,
    model: Trainable,
    epochs: int = 20,
    iterations: int | None = None,
    evaluation_path: str | Path = "evaluation",
    draw_figures: bool = True,
    callbacks: Sequence[Callback] = (),
    save_models: bool = True,
    *,
    options: ValidationOptions | None = None,
    **settings: Any,
) -> History:
    """Train and evaluate a model on one fold that `split_folds` wrote.

    The summary and the report in `evaluation_path` are those of all folds that are finished so far.

    Args:
        fold: Number of the fold, from 0.
        model: The model; it is reset first.
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: The folder that was given to `split_folds`.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores. The default is MIScnn's;
            without it, and in `options`, the default is False as in `cross_validation`.
        callbacks: Further Keras callbacks; the list is not changed.
        save_models: Keep the best model.
        options: All options of the fold in one object, in place of the single arguments.
        **settings: Further fields of `ValidationOptions` by keyword, such as ``run_detailed_evaluation=True``.

    Returns:
        The history: ``{"loss": [per epoch], "val_loss": […], …}``. For a fold that was finished before, it is the
        stored one.

    Raises:
        MissingDataError: If the fold does not exist.
        ConfigurationError: If an argument is invalid, or given as an option too, or the fold was finished with other
            settings.

    Example:
        >>> run_fold(0, model, epochs=100, evaluation_path="evaluation")  # doctest: +SKIP
    """
    options = gather_options(
        run_fold,
        options,
        settings,
        epochs=epochs,
        iterations=iterations,
        draw_figures=draw_figures,
        callbacks=callbacks,
        save_models=save_models,
    )
    check_run(model, options)
    root, folder, writer = Path(evaluation_path), fold_folder(evaluation_path, fold), writer_of(model)
    # The other nodes wait until the first one has written the splits.
    writer.write(lambda: _require_fold(fold, root))
    split = read_fold(folder / SAMPLES_FILE)
    check_samples([*split.training, *split.validation], model)
    with starting_weights(model, options.start):
        history = run_split(split, model, folder, options, writer)

    def finish() -> None:
        if not (root / RUN_FILE).is_file():  # an existing one may also have the seed of the split
            facts = {"folds": len(fold_folders(root)), "epochs": options.epochs, "iterations": options.iterations}
            write_run_record(root, "cross-validation", model, settings=facts)
        finish_folds(root, model, options)

    writer.write(finish, wait=False)
    return history


def _require_fold(fold: int, root: Path) -> None:
    path = fold_folder(root, fold) / SAMPLES_FILE
    if not path.is_file():
        written = list(fold_folders(root))
        raise MissingDataError(
            f"there is no fold {fold} in {root} ({path} is missing; existing folds: {written or 'none'}). Call "
            "split_folds() first, or correct fold or evaluation_path"
        )


make_callable(__name__)
