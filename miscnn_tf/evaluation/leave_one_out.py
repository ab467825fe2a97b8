"""Leave-one-out validation: as many folds as samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from miscnn_tf.evaluation.all_folds import run_folds
from miscnn_tf.evaluation.callable_module import make_callable
from miscnn_tf.evaluation.fold_run import History, RunOptions, check_model
from miscnn_tf.evaluation.folds import check_samples, leave_one_out_folds
from miscnn_tf.evaluation.starting_weights import starting_weights

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["leave_one_out"]


def leave_one_out(
    sample_list: Sequence[Hashable],
    model: Neural_Network,
    epochs: int = 20,
    iterations: int | None = None,
    callbacks: Sequence[Callback] = (),
    evaluation_path: str | Path = "evaluation",
    *,
    draw_figures: bool = False,
    save_models: bool = False,
    return_output: bool = False,
    resume: bool = True,
    backup_every: int = 1,
    executor: Executor | None = None,
    save_predictions: bool = True,
    report: bool = True,
    start: str = "initial",
    archive: bool = False,
) -> list[History] | None:
    """Train a model once for each sample, on all the others, and measure it on that one.

    Fold i, in ``<evaluation_path>/fold_<i>/``, leaves out the i-th sample in the order of the names; the Dice of the
    sample left out is always written (``detailed_validation.tsv``). Otherwise it is `cross_validation` with as many
    folds as samples: an interrupted run goes on where it stopped, and finished results of another one are never
    overwritten.

    Args:
        sample_list: Names of the samples, at least two; the list is not changed.
        model: The model; it is reset before each fold.
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        evaluation_path: Folder of the results.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        save_models: Keep the best model of each fold; off by default, since there are as many as samples.
        return_output: Return the histories.
        resume: False throws away the results that the folder holds, and starts afresh.
        backup_every: After how many epochs the state of the training is written; 0: never.
        executor: Runs the folds in other processes or on other machines: as in `cross_validation`.
        save_predictions: Keep what was predicted for each sample in ``predictions/`` of its fold.
        report: Write ``report.html``, a page with all of it.
        start: Starting weights of each fold, ``"initial"`` or ``"weights"``: as in `cross_validation`.
        archive: Move results of another run to a dated folder beside this one: as in `cross_validation`.

    Returns:
        With `return_output` the history of each fold; otherwise None.

    Raises:
        ConfigurationError: If an argument cannot work, or the folder holds finished results of another run.

    Example:
        >>> from miscnn_tf.evaluation import leave_one_out
        >>> leave_one_out(samples, model, epochs=100)  # doctest: +SKIP
    """
    options = RunOptions(
        *(epochs, iterations, draw_figures, True, callbacks, save_models, resume, backup_every, save_predictions),
        archive=archive,
    )
    check_model(model)
    options.check()
    folds = leave_one_out_folds(check_samples(sample_list, model))
    with starting_weights(model, start):
        histories = run_folds(
            folds, model, evaluation_path, options, executor, settings={"leave_one_out": True}, report=report
        )
    return histories if return_output else None


make_callable(__name__)
