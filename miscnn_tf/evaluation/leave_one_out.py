"""Leave-one-out validation: as many folds as samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf._base.callable_module import make_callable
from miscnn_tf.evaluation.all_folds import run_folds
from miscnn_tf.evaluation.fold_run import check_run
from miscnn_tf.evaluation.folds import check_samples, leave_one_out_folds
from miscnn_tf.evaluation.options import ValidationOptions, gather_options
from miscnn_tf.evaluation.trainable import Trainable
from miscnn_tf.runs.tables import History

if TYPE_CHECKING:
    from keras.callbacks import Callback

__all__ = ["leave_one_out"]


def leave_one_out(
    sample_list: Sequence[Hashable],
    model: Trainable,
    epochs: int = 20,
    iterations: int | None = None,
    callbacks: Sequence[Callback] = (),
    evaluation_path: str | Path = "evaluation",
    *,
    options: ValidationOptions | None = None,
    executor: Executor | None = None,
    return_output: bool = False,
    **settings: Any,
) -> list[History] | None:
    """Train a model once for each sample, on all the others, and evaluate it on that sample.

    Fold i, in ``<evaluation_path>/fold_<i>/``, leaves out the i-th sample in the order of the names; its scores are
    always written (``run_detailed_evaluation``). Otherwise this is `cross_validation` with as many folds as samples.
    There are as many models, too: pass ``save_models=False`` to save disk space.

    Args:
        sample_list: Names of the samples, at least two; the list is not changed.
        model: The model; it is reset before each fold.
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        evaluation_path: The run folder.
        options: All options of the folds in one object, in place of the single arguments.
        executor: Runs the folds in other processes or on other machines, as in `cross_validation`.
        return_output: Return the histories.
        **settings: Further fields of `ValidationOptions` by keyword, such as ``save_models=False``.

    Returns:
        With `return_output` the history of each fold; otherwise None.

    Raises:
        ConfigurationError: If an argument is invalid, or given as an option too, or the folder holds finished results
            of another run.

    Example:
        >>> from miscnn_tf.evaluation import leave_one_out
        >>> leave_one_out(samples, model, epochs=100)  # doctest: +SKIP
    """
    options = gather_options(
        leave_one_out, options, settings, epochs=epochs, iterations=iterations, callbacks=callbacks
    )
    options = replace(options, run_detailed_evaluation=True)
    check_run(model, options)
    folds = leave_one_out_folds(check_samples(sample_list, model))
    histories = run_folds(folds, model, evaluation_path, options, executor, settings={"leave_one_out": True})
    return histories if return_output else None


make_callable(__name__)
