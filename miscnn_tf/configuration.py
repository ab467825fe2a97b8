"""Objects as plain data: what something was made with, written as JSON and built again.

The convention is scikit-learn's: a class keeps each constructor argument in an attribute of the same name. Whoever
follows it (all of this package's subfunctions, interfaces and architectures do, and a user's own may) can be stored in
a model file, and is recognised again by the prepared-sample store.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from miscnn_tf.errors import ConfigurationError

_LARGEST_ARRAY = 100_000


def get_config(instance: object) -> dict[str, Any]:
    """The constructor arguments of `instance`, as plain JSON types.

    Args:
        instance: Any object whose class keeps each constructor argument in an attribute of the same name, or that has a
            method ``get_config()`` of its own.

    Returns:
        A dict that ``json.dumps`` accepts; ``type(instance)(**config)`` makes an equal object.

    Raises:
        ConfigurationError: If an argument was not kept, or is not plain data.

    Example:
        >>> from miscnn_tf.processing.subfunctions.clipping import Clipping
        >>> get_config(Clipping(min=-79, max=304))
        {'min': -79, 'max': 304}
    """
    own = getattr(instance, "get_config", None)
    if callable(own):
        config: dict[str, Any] = plain(own(), type(instance).__name__)
        return config
    names = [
        name
        for name, parameter in inspect.signature(type(instance)).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    missing = [name for name in names if not hasattr(instance, name)]
    if missing:
        raise ConfigurationError(
            f"{type(instance).__name__} does not keep its constructor argument {missing[0]!r}: set "
            f"self.{missing[0]} in __init__, or give the class a get_config() method"
        )
    return {name: plain(getattr(instance, name), f"{type(instance).__name__}.{name}") for name in names}


def plain(value: Any, where: str = "value") -> Any:
    """Turn `value` into JSON types.

    Tuples and arrays become lists, sets sorted lists, numpy scalars Python ones, paths strings, and the keys of a dict
    strings, because that is what JSON has.

    Raises:
        ConfigurationError: If it is something that JSON cannot hold (a function), if it is an array of more than
            100,000 numbers (a volume is data, not a setting), or if two keys of a dict become the same string.

    Example:
        >>> plain({"range": (0, np.float32(0.5))})
        {'range': [0, 0.5]}
    """
    if isinstance(value, np.generic | np.ndarray) and value.size <= _LARGEST_ARRAY and _has_python_type(value.dtype):
        return value.tolist()
    if isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.size <= _LARGEST_ARRAY:
        return plain(value.tolist(), where)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        items = {str(key): plain(item, where) for key, item in value.items()}
        if len(items) < len(value):
            raise ConfigurationError(
                f"{where} is a dict with keys that are the same as text, such as 1 and '1', and JSON has only text "
                "keys; rename one of them"
            )
        return items
    if isinstance(value, set | frozenset):
        return _sorted(plain(item, where) for item in value)
    if isinstance(value, list | tuple | range):
        return [plain(item, where) for item in value]
    what = (
        f"{type(value).__name__} of {value.size} {value.dtype}"
        if isinstance(value, np.ndarray)
        else type(value).__name__
    )
    raise ConfigurationError(
        f"{where} is a {what}, which cannot be stored as plain data; use numbers, strings, lists or dicts"
    )


def _has_python_type(dtype: np.dtype) -> bool:
    return dtype.kind in "biuU" or (dtype.kind == "f" and dtype.itemsize <= 8)


def _sorted(items: Iterable[Any]) -> list[Any]:
    """Any mixture of plain values in an order that is the same in every process."""

    def order(item: Any) -> tuple[bool, Any, str]:
        number = isinstance(item, int | float)
        return not number, item if number else 0, json.dumps(item, sort_keys=True)

    return sorted(items, key=order)


def describe(instance: object, name: str | None = None) -> dict[str, Any]:
    """``{"class_name": …, "config": …}`` of `instance`, to be written as JSON."""
    return {"class_name": name or type(instance).__name__, "config": get_config(instance)}


def build(description: Mapping[str, Any], classes: Mapping[str, Any], kind: str = "class") -> Any:
    """Make the object that `describe` described.

    Args:
        description: What `describe` returned.
        classes: Where to look the class up by its name: a registry, or a dict. Nothing is ever imported by a name that
            a file gives.
        kind: What it is, for the message.

    Raises:
        ConfigurationError: If the description is not one, the class is not known, or it does not take these arguments.

    Example:
        >>> from fractions import Fraction
        >>> build({"class_name": "Fraction", "config": {"numerator": 3, "denominator": 4}}, {"Fraction": Fraction})
        Fraction(3, 4)
    """
    name = description.get("class_name") if isinstance(description, Mapping) else None
    config = description.get("config") if isinstance(description, Mapping) else None
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ConfigurationError(
            f"a {kind} is described by {{'class_name': …, 'config': {{…}}}}; got {description!r}. The file is damaged, "
            "or was not written by this package"
        )
    if name not in classes:
        raise ConfigurationError(
            f"the {kind} {name!r} is not known here: import the module that registers it, or pass "
            f"custom_objects={{{name!r}: {name}}}"
        )
    try:
        return classes[name](**config)
    except TypeError as error:
        raise ConfigurationError(
            f"the {kind} {name!r} could not be made with {dict(config)!r}: {error}. The class may have changed since "
            "the description was written"
        ) from error


def fingerprint(*parts: Any) -> str:
    """A short hexadecimal digest of plain data, the same in every process.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps([plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_fingerprint(cls: type) -> str:
    """A digest of the source code of `cls` and its base classes, so that editing a class is noticed.

    Where there is no source (a class typed into the interpreter) the name stands for it. Functions that the class calls
    are not looked at.
    """
    return fingerprint(*(_source(one) for one in cls.__mro__ if one.__module__ not in {"builtins", "abc", "typing"}))


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"
