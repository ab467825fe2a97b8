"""Starting weights of the trainings in an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from miscnn_tf._base.messages import plural
from miscnn_tf.errors import ConfigurationError

logger = logging.getLogger(__name__)

STARTS: Final = ("initial", "weights")


@contextmanager
def starting_weights(model: Any, start: str = "initial") -> Iterator[None]:
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
        epochs = getattr(model, "epochs_trained", 0)
        if epochs:
            logger.warning(
                "the model was trained for %s, but each training starts from its initial weights. Pass start='weights' "
                "to start from its current weights",
                plural(epochs, "epoch"),
            )
        yield
        return
    if not hasattr(model, "start_from"):
        raise ConfigurationError(f"start='weights' needs a miscnn_tf.Neural_Network, got a {type(model).__name__}")
    before = {name: getattr(model, name) for name in ("initialization_weights", "start_digest")}
    model.start_from(model.model.get_weights())
    try:
        yield
    finally:
        vars(model).update(before)
