"""Options that all validations share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.configuration import plain
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.model_settings import training_settings
from miscnn_tf.runs.names import MODEL_FILE, TEMPORARY_MODEL_FILE

if TYPE_CHECKING:
    from keras.callbacks import Callback


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """Training and evaluation of each fold, the same for all folds of a run.

    `cross_validation`, `cross_validation.run_fold`, `split_validation` and `leave_one_out` take these options as
    `options`, or by keyword. The defaults are the same everywhere. The one exception is MIScnn's
    ``run_fold(draw_figures=True)``, whose default only applies without `options`.

    Args:
        epochs: Epochs per fold.
        iterations: Steps per epoch; None: each training sample once.
        draw_figures: Draw the curves of the loss and the metrics, and box plots of the scores.
        run_detailed_evaluation: Predict the validation samples with the best weights and write their scores.
            `leave_one_out` always does.
        callbacks: Further Keras callbacks, the same objects in each fold; the list is not changed.
        save_models: Keep the best model of each fold.
        resume: Continue an interrupted run and keep finished folds. False deletes the results in the folder first.
        backup_every: Epochs between two backups of the state of the training, with which an interrupted fold is
            continued; 0: no backups. A backup takes 12 bytes per weight.
        save_predictions: Keep the predictions of the validation samples in ``predictions/``; the report shows them.
        report: Write ``report.html``, a page with all results (`miscnn_tf.report.run_page.write_report`).
        class_weight: Weights of the classes in the loss: ``{class: weight}`` or a weight per class.
        start: Starting weights of each fold: ``"initial"``, the initial weights of the model, or ``"weights"``, its
            current weights, such as those of a file. Scores are only meaningful if the current weights were not trained
            on these samples.
        archive: Move the results of another run in the folder to a dated folder beside it, such as
            ``evaluation_2026-11-30_19-45-00``; with ``resume=False`` also those of the same run.

    Raises:
        ConfigurationError: If a number is invalid.

    Example:
        >>> options = ValidationOptions(epochs=100, run_detailed_evaluation=True)
        >>> cross_validation(samples, model, k_fold=5, options=options)  # doctest: +SKIP
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
    report: bool = True
    class_weight: Mapping[int, float] | Sequence[float] | None = None
    start: str = "initial"
    archive: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        whole_number(self.epochs, "epochs", 1)
        if self.iterations is not None:
            whole_number(self.iterations, "iterations", 1)
        whole_number(self.backup_every, "backup_every")

    def settings(self, model: Any) -> dict[str, Any]:
        """Return the settings that determine the result of a training besides the samples, as plain data."""
        settings = training_settings(model, self.epochs, self.iterations)
        if self.class_weight is not None:
            settings["class_weight"] = plain(self.class_weight, "class_weight")
        return settings

    @property
    def best_file(self) -> str | None:
        """Name of the file for the best model; None if it is not needed."""
        if self.save_models:
            return MODEL_FILE
        return TEMPORARY_MODEL_FILE if self.run_detailed_evaluation else None


def gather_options(
    function: Callable[..., Any],
    options: ValidationOptions | None,
    settings: Mapping[str, Any],
    **arguments: Any,
) -> ValidationOptions:
    """Return the options of a call: those that were passed as a whole, or one made of the single arguments.

    Args:
        function: The called function.
        options: Its argument `options`.
        settings: Its further keyword arguments.
        **arguments: Its arguments that are named as options. One that equals its default counts as not given.

    Raises:
        TypeError: If a keyword argument is unknown.
        ConfigurationError: If options are given in both ways, or an option is invalid.
    """
    known = [field.name for field in fields(ValidationOptions)]
    for name in settings:
        if name not in known:
            raise TypeError(
                f"{function.__name__}() got an unexpected keyword argument {name!r}.{did_you_mean(name, known)}"
            )
    if options is None:
        return ValidationOptions(**arguments, **settings)
    parameters = inspect.signature(function).parameters
    given = [name for name, value in arguments.items() if value != parameters[name].default] + list(settings)
    if given:
        raise ConfigurationError(
            f"{function.__name__}() got options and also {', '.join(given)}; set {'them' if given[1:] else 'it'} in "
            f"options: ValidationOptions({', '.join(f'{name}=…' for name in given)})"
        )
    return options
