"""One split into training and validation samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf.cluster import is_chief
from miscnn_tf.evaluation.automatic_report import write_report_if_possible
from miscnn_tf.evaluation.callable_module import make_callable
from miscnn_tf.evaluation.fold_run import (
    History,
    RunOptions,
    by_the_chief,
    check_model,
    locked_by_the_chief,
    remove_results,
    run_split,
)
from miscnn_tf.evaluation.folds import Labelling, check_samples, leave_out
from miscnn_tf.evaluation.run_record import write_run_record
from miscnn_tf.evaluation.starting_weights import starting_weights

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["split_validation"]


def split_validation(
    sample_list: Sequence[Hashable],
    model: Neural_Network,
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
    seed: int = 0,
    resume: bool = True,
    strata: Labelling | None = None,
    groups: Labelling | None = None,
    backup_every: int = 1,
    save_predictions: bool = True,
    report: bool = True,
    start: str = "initial",
    archive: bool = False,
) -> History | None:
    """Train a model on a part of the samples and measure it on the rest.

    The results are those of a fold of `cross_validation`, in `evaluation_path` itself: ``sample_list.json``,
    ``history.tsv``, ``model.keras`` (the best by ``val_loss``), figures, ``detailed_validation.tsv``. As there, what is
    finished is not run again, and results of another split or other settings are an error unless ``archive=True`` or
    ``resume=False`` is given.

    Args:
        sample_list: Names of the samples; the list is not changed.
        model: The model; it is reset first. Afterwards it has the best weights, where those were kept.
        percentage: Share of the samples that validate, above 0 and below 1, rounded to whole samples, at least one.
        epochs: Number of epochs.
        iterations: Steps per epoch; None: each training sample once.
        evaluation_path: Folder of the results.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        run_detailed_evaluation: Predict the validation samples and write their Dice.
        callbacks: Further Keras callbacks; the list is not changed.
        save_models: Keep the best model.
        return_output: Return the history.
        seed: Of the split, which depends on the samples' names besides.
        resume: False throws away the results that the folder holds, and starts afresh.
        strata: What both sides get their share of: a mapping or a function from a sample's name to its stratum, or to a
            set of several.
        groups: What stays together: a mapping or a function from a sample's name to its group, such as the patient.
        backup_every: After how many epochs the state of the training is written, by which an interrupted one goes on;
            0: never.
        save_predictions: Keep what was predicted for the validation samples in ``predictions/``.
        report: Write ``report.html``, a page with all of it.
        start: Starting weights: ``"initial"``, the initial weights of the model, or ``"weights"``, its current ones.
        archive: Move results of another run to a dated folder beside this one: as in `cross_validation`.

    Returns:
        With `return_output` the history, ``{"loss": [per epoch], "val_loss": […], …}``; otherwise None.

    Raises:
        ConfigurationError: If an argument cannot work, or the folder holds finished results of another split.

    Example:
        >>> from miscnn_tf.evaluation import split_validation
        >>> split_validation(samples, model, percentage=0.2, epochs=100)  # doctest: +SKIP
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
    fold = leave_out(check_samples(sample_list, model), percentage, seed, strata=strata, groups=groups)
    settings = {
        "validation_share": percentage,
        "seed": seed,
        "stratified": strata is not None,
        "grouped": groups is not None,
        "epochs": epochs,
        "iterations": iterations,
    }
    with locked_by_the_chief(model, evaluation_path):
        if not resume and not archive:
            by_the_chief(model, lambda: remove_results(Path(evaluation_path)))
        with starting_weights(model, start):
            history = run_split(fold, model, Path(evaluation_path), options)
        if is_chief():
            write_run_record(evaluation_path, "training", model, settings=settings)
            if report:
                write_report_if_possible(evaluation_path, model.preprocessor.data_io)
    return history if return_output else None


make_callable(__name__)
