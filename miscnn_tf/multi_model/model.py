"""Base class of models that train, predict, and can be saved and copied."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from miscnn_tf.processing.preprocessor import Preprocessor

#: Methods of every model.
METHODS = ("train", "evaluate", "predict", "reset", "copy", "dump", "load")


class Model(ABC):
    """Base of models that can be members of a group.

    A class with all seven methods is a model, whether it derives from this one or not: ``isinstance(network, Model)``
    is true for a `Neural_Network`. Derive from it if a model of your own joins a group; Python then refuses to make one
    that lacks a method.

    Args:
        preprocessor: Prepares the samples.

    Attributes:
        preprocessor: The same.
        id: A name that distinguishes instances; it is part of a folder's name.

    Example:
        >>> class Threshold(Model):
        ...     def train(self, sample_list, epochs=20, iterations=None, callbacks=(), class_weight=None): ...
        ...     def evaluate(self, training_samples, validation_samples, epochs=20, **settings): ...
        ...     def predict(self, sample_list, return_output=False, activation_output=False): ...
        ...     def reset(self): ...
        ...     def copy(self): ...
        ...     def dump(self, file_path): ...
        ...     def load(self, file_path, custom_objects=None): ...
        >>> issubclass(Threshold, Model), issubclass(dict, Model)
        (True, False)
    """

    def __init__(self, preprocessor: Preprocessor) -> None:
        self.preprocessor = preprocessor
        self.id = uuid.uuid4().hex

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        # Neural_Network is on a lower floor and starts TensorFlow: it is recognised by its methods.
        if cls is not Model:
            return NotImplemented
        known = {name for base in other.__mro__ for name in vars(base)}
        return known.issuperset(METHODS) or NotImplemented

    @abstractmethod
    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Any] = (),
        class_weight: Any = None,
    ) -> Any:
        """Train on samples, named as in ``data_io.get_indiceslist()``."""

    @abstractmethod
    def evaluate(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Any] = (),
        class_weight: Any = None,
    ) -> Any:
        """Train on some samples, and validate on others after each epoch."""

    @abstractmethod
    def predict(
        self, sample_list: Sequence[Hashable], return_output: bool = False, activation_output: bool = False
    ) -> list[np.ndarray] | None:
        """Segment samples: label arrays ``(x, y[, z])``, or class probabilities ``(x, y[, z], classes)``.

        Without `return_output` each is saved by the data interface, and None returned.
        """

    @abstractmethod
    def reset(self) -> None:
        """Return to the untrained state."""

    @abstractmethod
    def copy(self) -> Any:
        """Return another model in the same state, on the same preprocessor."""

    @abstractmethod
    def dump(self, file_path: str | Path) -> None:
        """Write the model to a file, or a folder, of that name."""

    @abstractmethod
    def load(self, file_path: str | Path, custom_objects: Any = None) -> None:
        """Read a file that `dump` wrote."""


@runtime_checkable
class Identified(Protocol):
    """A model with an id; the methods of `Model` do not need one."""

    id: str
