"""Starting weights of the trainings in an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from miscnn_tf._base.messages import plural
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.trainable import Trainable, resumable

logger = logging.getLogger(__name__)

STARTS: Final = ("initial", "weights")


@contextmanager
def starting_weights(model: Trainable, start: str = "initial") -> Iterator[None]:
    """Make ``model.reset()`` return to the weights that `start` names.

    Args:
        model: The model.
        start: ``"initial"``: the weights the model was made with; a warning is logged if it was trained since.
            ``"weights"``: its current weights.

    Raises:
        ConfigurationError: If `start` has another value, or the model cannot start from its weights.
    """
    if start not in STARTS:
        raise ConfigurationError(f"start={start!r} must be one of {', '.join(map(repr, STARTS))}")
    if start == "initial":
        epochs = resumable(model).epochs_trained
        if epochs:
            logger.warning(
                "the model was trained for %s, but each training starts from its initial weights. Pass start='weights' "
                "to start from its current weights",
                plural(epochs, "epoch"),
            )
        yield
        return
    with resumable(model).starting_from_current_weights():
        yield
