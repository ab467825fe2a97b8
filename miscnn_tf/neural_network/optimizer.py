"""The optimizer of a network as class and configuration, to make a new one for each copy, fold and reset."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.messages import did_you_mean

logger = logging.getLogger(__name__)

# Keys left out of the settings: the name of the object, and the learning rate, which the network stores.
_NOT_SETTINGS = ("name", "learning_rate")
# Wrappers of other optimizers.
_WRAPPERS = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")


@dataclass(frozen=True)
class OptimizerRecipe:
    """Class and settings of an optimizer.

    Args:
        cls: Its class.
        settings: Its configuration without the learning rate.
        schedule: Keras' configuration of a ``LearningRateSchedule``; None for a constant rate.

    Example:
        >>> recipe = OptimizerRecipe.of(keras.optimizers.SGD(momentum=0.9))
        >>> recipe.make(0.01).momentum
        0.9
    """

    cls: type[keras.optimizers.Optimizer] = keras.optimizers.Adam
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedule: Any = None

    @classmethod
    def of(cls, optimizer: keras.optimizers.Optimizer) -> OptimizerRecipe:
        """Return the recipe of an optimizer.

        Raises:
            ConfigurationError: If its configuration does not make a second optimizer.
        """
        optimizer = unwrapped(optimizer)
        try:
            config = dict(optimizer.get_config())
            schedule = None if rate_of(optimizer) is not None else config.get("learning_rate")
            settings = {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
            recipe = cls(type(optimizer), settings, schedule)
            recipe.make(1.0)
        except Exception as error:  # a custom class may raise any error
            raise ConfigurationError(
                f"optimizer={optimizer!r} cannot be rebuilt from its configuration ({type(error).__name__}: {error}), "
                "which folds, copies and reset() need. Give its class a get_config() that returns all arguments of its "
                "constructor"
            ) from error
        return recipe

    @classmethod
    def of_name(cls, name: str) -> OptimizerRecipe:
        """Return the recipe of a Keras optimizer with its defaults; case does not matter.

        Raises:
            ConfigurationError: If no optimizer has that name.
        """
        known = known_optimizers()
        if name.lower() not in known:
            raise ConfigurationError(
                f"the optimizer {name!r} is unknown.{did_you_mean(name.lower(), known)} Known: "
                f"{', '.join(sorted(known))}; or pass a Keras optimizer"
            )
        return cls.of(known[name.lower()]())

    def make(self, learning_rate: float) -> keras.optimizers.Optimizer:
        """Return a new optimizer; a schedule takes precedence over `learning_rate`."""
        rate = learning_rate if self.schedule is None else self.schedule
        return self.cls.from_config({**self.settings, "learning_rate": rate})

    def describe(self) -> dict[str, Any] | None:
        """Return class and settings as JSON types; None for the default, Adam with Keras' settings."""
        if self == OptimizerRecipe() or self == _adam():
            return None
        keras_own = self.cls.__module__.startswith("keras.")
        name = self.cls.__name__ if keras_own else keras.saving.get_registered_name(self.cls)
        settings = {**self.settings, "learning_rate": self.schedule} if self.schedule is not None else self.settings
        try:
            return {"class_name": name, "config": json.loads(json.dumps(settings, default=_plain))}
        except TypeError as reason:
            logger.warning("the settings of the optimizer %s cannot be written: %s", name, reason)
            return {"class_name": name, "config": None}

    @classmethod
    def of_description(cls, description: Mapping[str, Any] | None, own: Mapping[str, Any]) -> OptimizerRecipe:
        """Return the recipe for a description from `describe`, without importing classes that it names.

        Args:
            description: None for the default.
            own: Classes by name, in addition to those of Keras and those registered with it.

        Raises:
            ConfigurationError: If the class is unknown, or does not take these settings.
        """
        if description is None:
            return cls()
        name, config = description["class_name"], description["config"]
        if config is None or not all(map(_is_plain, config.values())):
            # For a schedule's configuration Keras would import the class that it names.
            raise ConfigurationError(
                f"the settings of the optimizer {name!r} are not plain numbers, but {config!r:.100}; set "
                "network.optimizer for further training"
            )
        found = own.get(name) or keras.saving.get_registered_object(name) or known_optimizers().get(name.lower())
        if not (isinstance(found, type) and issubclass(found, keras.optimizers.Optimizer)):
            raise ConfigurationError(f"the optimizer {name!r} is unknown; pass custom_objects={{{name!r}: …}}")
        recipe = cls(found, {key: value for key, value in config.items() if key not in _NOT_SETTINGS})
        try:
            recipe.make(1.0)
        except Exception as error:  # a custom class may raise any error
            raise ConfigurationError(f"the optimizer {name!r} does not take {dict(config)!r}: {error}") from error
        return recipe


def known_optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Return Keras' optimizers by their names in lower case."""
    return {
        name.lower(): one
        for name, one in vars(keras.optimizers).items()
        if isinstance(one, type) and issubclass(one, keras.optimizers.Optimizer) and name not in _WRAPPERS
    }


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that ``compile()`` wrapped for half precision, or the optimizer itself."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def rate_of(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Return the current learning rate in the fewest digits of the same float32; None for a schedule."""
    rate = optimizer.learning_rate
    return float(str(np.float32(keras.ops.convert_to_numpy(rate)))) if isinstance(rate, keras.Variable) else None


def copy_state(old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer) -> None:
    """Copy the state of an optimizer for the weights that both train.

    Args:
        old: The previous optimizer.
        new: A built optimizer of the same class.
    """
    remembered: dict[tuple[str, tuple[int, ...]], Any] = {}
    for variable in old.variables:
        key = (_name_in_optimizer(variable), tuple(variable.shape))
        # Two layers with the same name cannot be distinguished.
        remembered[key] = None if key in remembered else variable
    for variable in new.variables:
        known = remembered.get((_name_in_optimizer(variable), tuple(variable.shape)))
        if known is not None:
            variable.assign(known)


def _name_in_optimizer(variable: Any) -> str:
    return str(variable.path).partition("/")[2] or str(variable.path)


def _adam() -> OptimizerRecipe:
    return OptimizerRecipe.of(keras.optimizers.Adam())


def _plain(value: Any) -> Any:
    if np.ndim(value) == 0 and isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value is a {type(value).__name__}")


def _is_plain(value: Any) -> bool:
    plain = bool | int | float | str | None
    return isinstance(value, plain) or (isinstance(value, list) and all(isinstance(one, plain) for one in value))
