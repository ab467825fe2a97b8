"""A network's optimizer as its class and configuration, of which a fresh one is made for each copy, fold and reset."""

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

# A name is the object's own; the rate is the network's.
_NOT_SETTINGS = ("name", "learning_rate")
# They hold other optimizers, which the network does not see.
_WRAPPERS = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")


@dataclass(frozen=True)
class OptimizerRecipe:
    """What an optimizer is made of.

    Args:
        cls: Its class.
        settings: Its configuration without the learning rate.
        schedule: Keras' configuration of a ``LearningRateSchedule``, where it has one instead of a rate.

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
        """The recipe of an optimizer.

        Raises:
            ConfigurationError: If no second one can be made of its configuration.
        """
        optimizer = unwrapped(optimizer)
        try:
            config = dict(optimizer.get_config())
            schedule = None if rate_of(optimizer) is not None else config.get("learning_rate")
            settings = {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
            recipe = cls(type(optimizer), settings, schedule)
            recipe.make(1.0)
        except Exception as error:  # whatever a user's own class raises
            raise ConfigurationError(
                f"optimizer={optimizer!r} cannot be made again of its configuration ({type(error).__name__}: {error}); "
                "folds, copies and reset() need fresh ones. Give its class get_config() with all arguments of its "
                "constructor"
            ) from error
        return recipe

    @classmethod
    def of_name(cls, name: str) -> OptimizerRecipe:
        """The recipe of one of Keras' optimizers with its defaults; upper and lower case are alike.

        Raises:
            ConfigurationError: If there is none of that name.
        """
        known = known_optimizers()
        if name.lower() not in known:
            raise ConfigurationError(
                f"there is no optimizer called {name!r}.{did_you_mean(name.lower(), known)} Known: "
                f"{', '.join(sorted(known))}; or pass a Keras optimizer"
            )
        return cls.of(known[name.lower()]())

    def make(self, learning_rate: float) -> keras.optimizers.Optimizer:
        """A fresh optimizer; one with a schedule computes its rate itself."""
        rate = learning_rate if self.schedule is None else self.schedule
        return self.cls.from_config({**self.settings, "learning_rate": rate})

    def describe(self) -> dict[str, Any] | None:
        """Class and settings as JSON types; None for the default, Adam with Keras' settings."""
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
    def of_description(cls, description: Any, own: Mapping[str, Any]) -> OptimizerRecipe:
        """What `describe` returned, as a recipe again. Nothing is imported because a description names it.

        Args:
            description: None for the default.
            own: Classes by name, besides those of Keras and those that are registered with it.

        Raises:
            ConfigurationError: If the class is not known, or does not take these settings.
        """
        if description is None:
            return cls()
        name, config = (
            (description.get(key) for key in ("class_name", "config"))
            if isinstance(description, Mapping)
            else (None, None)
        )
        if not isinstance(name, str) or not isinstance(config, Mapping) or not all(map(_is_plain, config.values())):
            # A schedule is made by Keras, which imports what its configuration names.
            raise ConfigurationError(f"it does not hold the settings of the optimizer {name!r} as plain numbers")
        found = own.get(name) or keras.saving.get_registered_object(name) or known_optimizers().get(name.lower())
        if not (isinstance(found, type) and issubclass(found, keras.optimizers.Optimizer)):
            raise ConfigurationError(f"the optimizer {name!r} is not known here; pass custom_objects={{{name!r}: …}}")
        recipe = cls(found, {key: value for key, value in config.items() if key not in _NOT_SETTINGS})
        try:
            recipe.make(1.0)
        except Exception as error:  # whatever the class raises
            raise ConfigurationError(f"the optimizer {name!r} does not take {dict(config)!r}: {error}") from error
        return recipe


def known_optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Keras' optimizers by their names in lower case."""
    return {
        name.lower(): one
        for name, one in vars(keras.optimizers).items()
        if isinstance(one, type) and issubclass(one, keras.optimizers.Optimizer) and name not in _WRAPPERS
    }


def unwrapped(optimizer: Any) -> Any:
    """The optimizer itself, where ``compile()`` wrapped it for half precision."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def rate_of(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The learning rate of the moment, in the fewest digits that are the same float32; None for a schedule."""
    rate = optimizer.learning_rate
    return float(str(np.float32(keras.ops.convert_to_numpy(rate)))) if isinstance(rate, keras.Variable) else None


def copy_state(old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer) -> None:
    """Give an optimizer what another one remembers of the same weights; of other weights it begins anew.

    Args:
        old: Has been trained with.
        new: Of the same class; built.
    """
    remembered: dict[tuple[str, tuple[int, ...]], Any] = {}
    for variable in old.variables:
        key = (_name_in_optimizer(variable), tuple(variable.shape))
        # Two layers of one name: nothing says which is which.
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
    raise TypeError(f"it holds a {type(value).__name__}")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
