"""One split into training and validation samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf._base.callable_module import make_callable
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.fold_run import check_run, run_split, writer_of
from miscnn_tf.evaluation.folds import Labelling, check_samples, leave_out
from miscnn_tf.evaluation.options import ValidationOptions, gather_options
from miscnn_tf.evaluation.starting_weights import starting_weights
from miscnn_tf.evaluation.trainable import Trainable
from miscnn_tf.runs.earlier_files import remove_results
from miscnn_tf.runs.run_record import write_run_record
from miscnn_tf.runs.tables import History

if TYPE_CHECKING:
    from keras.callbacks import Callback

__all__ = ["split_validation"]


def split_validation(
    sample_list: Sequence[Hashable],
    model: Trainable,
    percentage: float = 0.2,
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
    **settings: Any,
) -> History | None:
    """Train a model on a part of the samples and evaluate it on the rest.

    The results are those of a fold of `cross_validation`, in `evaluation_path` itself: ``sample_list.json``,
    ``history.tsv``, ``model.keras`` (the best by ``val_loss``), figures, ``detailed_validation.tsv``. As there,
    finished work is not repeated, and results of another split or other settings are an error unless ``archive=True``
    or ``resume=False`` is given.

    Args:
        sample_list: Names of the samples; the list is not changed.
        model: The model; it is reset first. Afterwards it has the best weights, if those were kept.
        percentage: Share of the validation samples, above 0 and below 1, rounded to whole samples, at least one.
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: The run folder.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        run_detailed_evaluation: Predict the validation samples and write their scores.
        callbacks: Further Keras callbacks; the list is not changed.
        save_models: Keep the best model.
        return_output: Return the history.
        options: All options in one object, in place of the single arguments.
        seed: Seed of the split, which otherwise only depends on the names of the samples.
        strata: Strata that are distributed evenly between both sides: a mapping or a function from the name of a sample
            to its stratum, or to a set of several.
        groups: Groups that are not divided: a mapping or a function from the name of a sample to its group, such as the
            patient.
        **settings: Further fields of `ValidationOptions` by keyword, such as ``resume=False``.

    Returns:
        With `return_output` the history, ``{"loss": [per epoch], "val_loss": […], …}``; otherwise None.

    Raises:
        ConfigurationError: If an argument is invalid, or given as an option too, or the folder holds finished results
            of another split.

    Example:
        >>> from miscnn_tf.evaluation import split_validation
        >>> split_validation(samples, model, percentage=0.2, epochs=100)  # doctest: +SKIP
    """
    options = gather_options(
        split_validation,
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
    fold = leave_out(check_samples(sample_list, model), percentage, seed, strata=strata, groups=groups)
    facts = {
        "validation_share": percentage,
        "seed": seed,
        "stratified": strata is not None,
        "grouped": groups is not None,
        "epochs": options.epochs,
        "iterations": options.iterations,
    }
    folder, writer = Path(evaluation_path), writer_of(model)
    with writer.locked(folder):
        if not options.resume and not options.archive:
            writer.write(lambda: remove_results(folder))
        with starting_weights(model, options.start):
            history = run_split(fold, model, folder, options, writer)
        writer.write(lambda: _finish(folder, model, facts, options), wait=False)
    return history if return_output else None


def _finish(folder: Path, model: Trainable, facts: dict[str, Any], options: ValidationOptions) -> None:
    write_run_record(folder, "training", model, settings=facts)
    if options.report:
        write_report_if_possible(folder, model.preprocessor.data_io)


make_callable(__name__)
