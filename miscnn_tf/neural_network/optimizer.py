"""Optimizer of a network as class and configuration, to make a new one for each copy, fold and reset."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from miscnn_tf._base.arguments import positive
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.nesterov_sgd import NesterovSGD

logger = logging.getLogger(__name__)

#: Default learning rate; a distinct object, so that `is` distinguishes an omitted argument from the same value.
DEFAULT_RATE = float("0.0001")

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


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer and learning rate of a network.

    Args:
        recipe: The recipe of the optimizer.
        rate: The learning rate.
        initial_rate: The learning rate to which `Neural_Network.reset` returns.
    """

    recipe: OptimizerRecipe
    rate: float
    initial_rate: float

    @classmethod
    def of(cls, optimizer: Any, learning_rate: Any = DEFAULT_RATE) -> OptimizerSettings:
        """Return the settings for the arguments of `Neural_Network`.

        Args:
            optimizer: A Keras optimizer, the name of one, or None for Adam.
            learning_rate: A positive number; if omitted, that of an optimizer object takes precedence.

        Raises:
            ConfigurationError: If an argument is invalid, or the two differ in their learning rate.
        """
        recipe, own_rate = _recipe(optimizer)
        rate = valid_rate(own_rate if own_rate is not None and learning_rate is DEFAULT_RATE else learning_rate)
        if own_rate is not None and np.float32(rate) != np.float32(own_rate):
            raise ConfigurationError(
                f"learning_rate={learning_rate!r} differs from the learning rate {own_rate} of the optimizer; give one "
                "of them"
            )
        return cls(recipe, rate, rate)

    def with_optimizer(self, optimizer: Any) -> OptimizerSettings:
        """Return these settings with another optimizer, and with its learning rate if it is an object."""
        recipe, own_rate = _recipe(optimizer)
        return replace(self, recipe=recipe) if own_rate is None else OptimizerSettings(recipe, own_rate, own_rate)

    def reset(self) -> OptimizerSettings:
        """Return these settings with the initial learning rate."""
        return replace(self, rate=self.initial_rate)

    def make(self) -> keras.optimizers.Optimizer:
        """Return a new optimizer."""
        return self.recipe.make(self.rate)


def valid_rate(value: Any) -> float:
    """Return a learning rate, which must be a number because it is stored in files and set before each training.

    Raises:
        ConfigurationError: If it is not a positive number.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        raise _schedule_error(f"the schedule {type(value).__name__}")
    return positive(value, "learning_rate")


def known_optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Return the optimizers by name: `NesterovSGD`, and Keras' in lower case."""
    return {
        "nesterov_sgd": NesterovSGD,
        **{
            name.lower(): one
            for name, one in vars(keras.optimizers).items()
            if isinstance(one, type) and issubclass(one, keras.optimizers.Optimizer) and name not in _WRAPPERS
        },
    }


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that ``compile()`` wrapped for half precision, or the optimizer itself."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def rate_of(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Return the current learning rate in the fewest digits of the same float32; None for a schedule."""
    rate = optimizer.learning_rate
    return float(str(np.float32(keras.ops.convert_to_numpy(rate)))) if isinstance(rate, keras.Variable) else None


def learning_rate_of(model: keras.Model) -> float:
    """Return the optimizer's current learning rate; ``float()`` fails under a distribution strategy."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def has_schedule(model: keras.Model) -> bool:
    """Return True if the optimizer has a ``LearningRateSchedule``, so that its rate cannot be set."""
    return not isinstance(model.optimizer.learning_rate, keras.Variable)


def require_no_schedule(model: keras.Model, who: str) -> None:
    """Require that the learning rate can be set.

    Args:
        model: The compiled model.
        who: The callback or attribute that sets it, for the message.

    Raises:
        ConfigurationError: If the optimizer has a schedule.
    """
    if has_schedule(model):
        raise ConfigurationError(
            f"{who} sets the learning rate, but the model's optimizer has a LearningRateSchedule, which computes it: "
            "use one of the two, or give the optimizer a number as learning_rate"
        )


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


def _recipe(optimizer: Any) -> tuple[OptimizerRecipe, float | None]:
    """Return the recipe of an optimizer and its learning rate; None for one given by name."""
    if optimizer is None:
        return OptimizerRecipe(), None
    if isinstance(optimizer, str):
        return OptimizerRecipe.of_name(optimizer), None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        hint = "; add parentheses to the class" if isinstance(optimizer, type) else ""
        raise ConfigurationError(f"optimizer must be a Keras optimizer or the name of one, got {optimizer!r}{hint}")
    recipe = OptimizerRecipe.of(optimizer)
    rate = rate_of(unwrapped(optimizer))
    if rate is None:
        raise _schedule_error(f"the {type(optimizer).__name__} with a LearningRateSchedule")
    return recipe, valid_rate(rate)


def _schedule_error(found: str) -> ConfigurationError:
    return ConfigurationError(
        f"learning_rate must be a positive number, got {found}. Pass the rate of the first step, and to train() a "
        "callback that changes it: miscnn_tf.neural_network.callbacks.PolynomialDecay or "
        "keras.callbacks.LearningRateScheduler"
    )
