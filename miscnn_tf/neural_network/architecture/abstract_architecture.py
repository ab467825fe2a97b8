"""What a network architecture, ours or a user's, has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from miscnn_tf.errors import ConfigurationError


class Abstract_Architecture:
    """Base class of all architectures; subclass it to build a network of your own.

    Implement **either** `create_model`, which gets the number of spatial axes from the input shape and so serves 2D and
    3D at once, **or** `create_model_2D` and `create_model_3D` (one of them is enough where you only have such data).
    Each method that you leave out is answered by the other kind.

    Keep each constructor argument in an attribute of the same name: that is how the architecture gets into a model
    file.

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
        """The number that every spatial axis of the input must be divisible by; 1 where any size works."""
        return 1

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """What each of `n_axes` spatial axes must be divisible by; override it where axes are pooled differently."""
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
            ConfigurationError: If the shape or number of axes cannot work.
        """
        return self._by_rank(number_of_axes(input_shape), input_shape, n_labels)

    def create_model_2D(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for images ``(x, y, channels)``; see `create_model`."""
        return self._in_general(2, input_shape, n_labels)

    def create_model_3D(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for volumes ``(x, y, z, channels)``; see `create_model`."""
        return self._in_general(3, input_shape, n_labels)

    def check_shape(self, shape: Sequence[int | None], argument: str = "patch_shape") -> None:
        """Refuse a shape that the network cannot halve as often as it is deep.

        Args:
            shape: Spatial axes ``(x, y[, z])``, without channels; None where an axis may have any size.
            argument: Where the shape comes from, for the message.

        Raises:
            ConfigurationError: Names the axes that do not fit, and for each the nearest sizes that do.

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
                f"because the network halves it level by level. Sizes that fit: {'; '.join(misfits)}"
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
                f"method, or create_model(input_shape, n_labels) for 2D and 3D at once"
            )
        return self.create_model(input_shape, n_labels)

    def _by_rank(self, n_axes: int, input_shape: Sequence[int | None], n_labels: int) -> keras.Model:
        if n_axes == 2:
            return self.create_model_2D(input_shape, n_labels)
        return self.create_model_3D(input_shape, n_labels)


def require_architecture(architecture: Any) -> Abstract_Architecture:
    """The architecture, if it is one: an object that makes models, of whatever class.

    Raises:
        ConfigurationError: If it is something else, such as a class instead of an object of it.
    """
    makes_models = any(hasattr(architecture, f"create_model_{axes}D") for axes in (2, 3))
    if isinstance(architecture, type) or not makes_models:
        hint = "; add parentheses to the class" if isinstance(architecture, type) else ""
        raise ConfigurationError(f"architecture must be an object with create_model_3D(), got {architecture!r}{hint}")
    found: Abstract_Architecture = architecture
    return found


def number_of_axes(input_shape: Sequence[int | None]) -> int:
    """The number of spatial axes (2 or 3) of an input shape ``(x, y[, z], channels)``.

    Raises:
        ConfigurationError: If it is another number.
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
    # All U-Nets call their class Architecture; the module says which one it is.
    cls = type(architecture)
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
