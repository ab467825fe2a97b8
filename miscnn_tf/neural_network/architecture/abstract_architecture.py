"""Base class of network architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from miscnn_tf._base.representation import Constructed
from miscnn_tf.errors import ConfigurationError


class Abstract_Architecture(Constructed):
    """Base class of all architectures. Subclass it to build your own network.

    Implement **either** `create_model`, which handles 2D and 3D by the length of the input shape, **or**
    `create_model_2D` and `create_model_3D` (one is enough if you need only one of them). The methods that you leave out
    call those that you implement.

    Store each constructor argument in an attribute of the same name, so that model files can save the architecture.

    Example:
        >>> class Shallow(Abstract_Architecture):
        ...     def __init__(self, n_filters=8):
        ...         self.n_filters = n_filters
        ...
        ...     def create_model_3D(self, input_shape, n_labels=2):
        ...         image = keras.Input(input_shape)
        ...         x = keras.layers.Conv3D(self.n_filters, 3, padding="same", activation="relu")(image)
        ...         return keras.Model(image, keras.layers.Conv3D(n_labels, 1, activation="softmax")(x))
        >>> Shallow().create_model((None, None, None, 1), n_labels=2).output_shape
        (None, None, None, None, 2)
    """

    @property
    def divisor(self) -> int:
        """Divisor of every spatial axis of the input; 1 if any size works."""
        return 1

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """Return the divisor of each of `n_axes` spatial axes. Override it if axes are pooled differently."""
        return (self.divisor,) * n_axes

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network.

        Args:
            input_shape: ``(x, y[, z], channels)``, without the batch. An axis may be None: any size that `divisors`
                allows.
            n_labels: Number of classes, background included.

        Returns:
            A Keras model from ``(batch, x, y[, z], channels)`` to class probabilities ``(batch, x, y[, z], n_labels)``.

        Raises:
            ConfigurationError: If the shape or its number of axes is not supported.
        """
        return self._by_rank(number_of_axes(input_shape), input_shape, n_labels)

    def create_model_2D(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for images ``(x, y, channels)``; see `create_model`."""
        return self._in_general(2, input_shape, n_labels)

    def create_model_3D(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for volumes ``(x, y, z, channels)``; see `create_model`."""
        return self._in_general(3, input_shape, n_labels)

    def check_shape(self, shape: Sequence[int | None], argument: str = "patch_shape") -> None:
        """Raise an error for a shape that the network cannot halve at every level.

        Args:
            shape: Spatial axes ``(x, y[, z])``, without channels; None where an axis may have any size.
            argument: Name of the argument, for the message.

        Raises:
            ConfigurationError: If an axis does not fit; the message suggests the nearest sizes for each such axis.

        Example:
            >>> from miscnn_tf.neural_network.architecture.unet.standard import Architecture
            >>> Architecture(depth=3).check_shape((40, 50, 4))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            miscnn_tf.errors.ConfigurationError: ... axis 1: 50 -> 48 or 56; axis 2: 4 -> 8
        """
        divisors = self.divisors(len(shape))
        misfits = [
            f"axis {axis}: {size} -> {_nearest(size, divisor)}"
            for axis, (size, divisor) in enumerate(zip(shape, divisors, strict=True))
            if size is not None and (size < 1 or size % divisor)
        ]
        if misfits:
            needed = str(divisors[0]) if len(set(divisors)) == 1 else str(divisors)
            raise ConfigurationError(
                f"{argument}={tuple(shape)} does not fit {_name(self)}: every axis must be divisible by {needed}, "
                f"because the network halves it at each level. Sizes that fit: {'; '.join(misfits)}"
            )

    def _in_general(self, n_axes: int, input_shape: Sequence[int | None], n_labels: int) -> keras.Model:
        if number_of_axes(input_shape) != n_axes:
            expected = "(x, y, channels)" if n_axes == 2 else "(x, y, z, channels)"
            raise ConfigurationError(
                f"create_model_{n_axes}D of {_name(self)} got input_shape={tuple(input_shape)}, which has "
                f"{len(input_shape) - 1} spatial axes; pass {expected}"
            )
        if type(self).create_model is Abstract_Architecture.create_model:
            raise ConfigurationError(
                f"{_name(self)} has no create_model_{n_axes}D, so it cannot be used for {n_axes}D data: implement that "
                f"method, or create_model(input_shape, n_labels) for 2D and 3D"
            )
        return self.create_model(input_shape, n_labels)

    def _by_rank(self, n_axes: int, input_shape: Sequence[int | None], n_labels: int) -> keras.Model:
        if n_axes == 2:
            return self.create_model_2D(input_shape, n_labels)
        return self.create_model_3D(input_shape, n_labels)


def require_architecture(architecture: Any) -> Abstract_Architecture:
    """Return the architecture if it is an object, of any class, that creates models.

    Raises:
        ConfigurationError: If it is not, for instance because it is a class.
    """
    makes_models = any(hasattr(architecture, f"create_model_{axes}D") for axes in (2, 3))
    if isinstance(architecture, type) or not makes_models:
        hint = "; add parentheses to the class" if isinstance(architecture, type) else ""
        raise ConfigurationError(f"architecture must be an object with create_model_3D(), got {architecture!r}{hint}")
    found: Abstract_Architecture = architecture
    return found


def number_of_axes(input_shape: Sequence[int | None]) -> int:
    """Return the number of spatial axes (2 or 3) of an input shape ``(x, y[, z], channels)``.

    Raises:
        ConfigurationError: If it is neither 2 nor 3.
    """
    if len(input_shape) not in (3, 4):
        raise ConfigurationError(
            f"input_shape={tuple(input_shape)} must be (x, y, channels) for images or (x, y, z, channels) for volumes"
        )
    return len(input_shape) - 1


def _nearest(size: int, divisor: int) -> str:
    below = size // divisor * divisor
    return f"{below} or {below + divisor}" if below > 0 else str(divisor)


def _name(architecture: Abstract_Architecture) -> str:
    # The class of every U-Net is called Architecture; the module name distinguishes them.
    cls = type(architecture)
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
