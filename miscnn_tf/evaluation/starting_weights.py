"""Where the trainings of an evaluation start: from the model's initial weights, or from those that it has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.messages import plural

logger = logging.getLogger(__name__)

STARTS: Final = ("initial", "weights")


@contextmanager
def starting_weights(model: Any, start: str = "initial") -> Iterator[None]:
    """While this holds, ``model.reset()`` goes back to the weights that are meant.

    Args:
        model: The model.
        start: ``"initial"``: those that it was made with; a warning names what is forgotten. ``"weights"``: those that
            it has now.

    Raises:
        ConfigurationError: If `start` is something else, or the model cannot start from its weights.
    """
    if start not in STARTS:
        raise ConfigurationError(f"start={start!r} must be one of {', '.join(map(repr, STARTS))}")
    if start == "initial":
        epochs = getattr(model, "epochs_trained", 0)
        if epochs:
            logger.warning(
                "the model was trained for %s, which is forgotten: each training starts from its initial weights. Pass "
                "start='weights' to go on from those that it has",
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
