"""What callbacks remember from epoch to epoch, as plain data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras

logger = logging.getLogger(__name__)

#: Keras' callbacks that remember something, and in which attributes.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}

#: Keras' callbacks whose memory is the optimizer, a file, or none.
_WITHOUT_STATE = (
    keras.callbacks.CSVLogger,
    keras.callbacks.History,
    keras.callbacks.LambdaCallback,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
    keras.callbacks.TerminateOnNaN,
)


def get_states(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """The state of each callback that has one, with the name of its class.

    Example:
        >>> get_states([keras.callbacks.ReduceLROnPlateau()])[0]["class_name"]
        'ReduceLROnPlateau'
    """
    states = [(type(callback).__name__, _state_of(callback)) for callback in callbacks]
    return [{"class_name": name, "state": state} for name, state in states if state is not None]


def set_states(callbacks: Sequence[keras.callbacks.Callback], states: Sequence[dict[str, Any]]) -> None:
    """Give callbacks the states that `get_states` returned; of several of a class, in their order.

    One that has no state, but is not known to need none, and one that was not there are named in a warning.
    """
    left = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        found = next((one for one in left if one["class_name"] == name), None)
        if found is not None:
            left.remove(found)
            _restore(callback, found["state"])
        elif not isinstance(callback, _WITHOUT_STATE):
            logger.warning(
                "the callback %s begins anew in the training that goes on: no state of it was kept. Give it the "
                "methods get_state() and set_state() if it remembers anything",
                name,
            )


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    own = getattr(callback, "get_state", None)
    if callable(own):
        return dict(own())
    names = _attributes(callback)
    return None if names is None else {name: getattr(callback, name, None) for name in names}


def _restore(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    own = getattr(callback, "set_state", None)
    if callable(own):
        own(state)
        return
    for name in _attributes(callback) or ():
        if state.get(name) is not None:
            setattr(callback, name, state[name])


def _attributes(callback: keras.callbacks.Callback) -> tuple[str, ...] | None:
    return next((names for cls, names in _ATTRIBUTES.items() if isinstance(callback, cls)), None)
