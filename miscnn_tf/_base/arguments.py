"""Checks and conversions of arguments, shared by constructors and functions."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, TypeVar

from miscnn_tf._base.plain_limits import shown
from miscnn_tf.errors import ConfigurationError

T = TypeVar("T")

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b", re.IGNORECASE)


def number(value: Any, argument: str) -> int | float:
    """Return `value` as a Python number. Infinity is valid, NaN and text are not.

    Raises:
        ConfigurationError: If it is not a number. The message has the name `argument`, as in all functions of this
            module.
    """
    try:
        as_float = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(f"{argument} must be a number, got {shown(value)}") from None
    result = value if isinstance(value, int) and not isinstance(value, bool) else as_float
    if isinstance(value, str | bool) or math.isnan(result):
        raise ConfigurationError(f"{argument} must be a number, got {value!r}")
    return result


def positive(value: Any, argument: str) -> float:
    """Return `value` as a finite float above 0."""
    result = float(number(value, argument))
    if not 0 < result < math.inf:
        raise ConfigurationError(f"{argument} must be a positive number, got {value!r}")
    return result


def whole_number(value: Any, argument: str, least: int = 0, most: float = math.inf) -> int:
    """Return `value` as an int between `least` and `most`."""
    try:
        result = operator.index(value)
    except TypeError:
        result = least - 1
    if isinstance(value, bool) or not least <= result <= most:
        limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ConfigurationError(f"{argument} must be a whole number {limits}, got {shown(value)}")
    return result


def flag(value: Any, argument: str) -> bool:
    """Return `value` as a bool. 0 and 1 are valid, text is not: ``bool("false")`` is True.

    Example:
        >>> flag(1, "three_dim")
        True
    """
    # By name, because the command line does not import numpy; numpy's integers are Integral.
    if type(value).__name__ == "bool" or (isinstance(value, Integral) and value in (0, 1)):
        return bool(value)
    raise ConfigurationError(f"{argument} must be True or False, got {shown(value)}")


def byte_count(value: Any, argument: str, least: int = 1) -> int:
    """Return a number of bytes, from `least` to below 2^63, given as a number or as text such as ``"4GB"``.

    GB are 10^9 bytes, GiB are 2^30.

    Example:
        >>> byte_count("1.5 GB", "memory_budget"), byte_count("2GiB", "memory_budget")
        (1500000000, 2147483648)
    """
    found = _BYTES.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        kilo = 1024 if found[3] else 1000
        exact = float(found[1]) * kilo ** " kmgt".index((found[2] or " ").lower())
        count: Any = round(exact) if math.isfinite(exact) else value
    else:
        count = int(value) if isinstance(value, float) and value.is_integer() else value  # 4e9
    try:
        return whole_number(None if isinstance(count, int) and count >= 2**63 else count, argument, least)
    except ConfigurationError:
        raise ConfigurationError(
            f'{argument} must be a number of bytes, or a text such as "4GB", of at least {least} B; got {shown(value)}'
        ) from None


def sizes(values: Any, argument: str) -> tuple[int, ...]:
    """Return whole numbers of at least 1, one per axis."""
    return tuple(whole_number(value, argument, 1) for value in sequence(values, argument))


def spacings(values: Any, argument: str) -> tuple[float, ...]:
    """Return positive, finite lengths in mm, one per axis."""
    result = tuple(number(value, argument) for value in sequence(values, argument))
    if not all(0 < value < math.inf for value in result):
        raise ConfigurationError(f"{argument} must be positive lengths in mm, got {values!r}")
    return result


def per_axis(values: Sequence[T], ndim: int, argument: str) -> tuple[T, ...]:
    """Return one value for each of `ndim` axes. Equal values, as the defaults are, fit any number of axes.

    Raises:
        ConfigurationError: If the number of values is not that of the axes, and they differ.
    """
    if len(values) == ndim:
        return tuple(values)
    if len(set(values)) == 1:
        return (values[0],) * ndim
    raise ConfigurationError(
        f"{argument}={tuple(values)} has {len(values)} values, but the image has {ndim} spatial axes; give {ndim}"
    )


def sequence(values: Any, argument: str) -> tuple[Any, ...]:
    """Return the entries of a list, tuple or array."""
    result = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not result:
        raise ConfigurationError(f"{argument} must be a tuple of numbers, got {values!r}")
    return result


def callback_list(callbacks: Any) -> list[Any]:
    """Return a new list of the Keras callbacks that a user passes.

    Raises:
        ConfigurationError: If they are not a list of Keras callbacks.
    """
    listed = list(callbacks) if isinstance(callbacks, Iterable) and not isinstance(callbacks, str) else None
    if listed == []:
        return []
    # Imported here, since it imports TensorFlow; whoever has made a callback has imported it.
    from keras.callbacks import Callback

    wrong = [one for one in listed or () if not isinstance(one, Callback)]
    if listed is None or wrong:
        found = callbacks if listed is None else wrong[0]
        hint = "; add parentheses to the class" if isinstance(found, type) else ""
        raise ConfigurationError(f"callbacks must be a list of Keras callbacks, got {found!r}{hint}")
    return listed
