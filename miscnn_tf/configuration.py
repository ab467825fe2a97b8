"""Objects as plain data: what something was made with, written as JSON and built again.

The convention is scikit-learn's: a class keeps each constructor argument in an attribute of the same name. Whoever
follows it (all of this package's subfunctions, interfaces and architectures do, and a user's own may) can be stored in
a model file, and is recognised again by the prepared-sample store.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from miscnn_tf.errors import ConfigurationError


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
            f"{type(instance).__name__} does not keep its constructor argument {missing[0]!r}: set self.{missing[0]} in "
            "__init__, or give the class a get_config() method"
        )
    return {name: plain(getattr(instance, name), f"{type(instance).__name__}.{name}") for name in names}


def plain(value: Any, where: str = "value") -> Any:
    """Turn `value` into JSON types (tuples and arrays become lists, numpy scalars Python ones).

    Raises:
        ConfigurationError: If it is something that JSON cannot hold, such as a function.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item, where) for item in items]
    raise ConfigurationError(
        f"{where} is a {type(value).__name__}, which cannot be stored as plain data; use numbers, strings, lists or dicts"
    )


def describe(instance: object, name: str | None = None) -> dict[str, Any]:
    """``{"class_name": …, "config": …}`` of `instance`, to be written as JSON."""
    return {"class_name": name or type(instance).__name__, "config": get_config(instance)}


def build(description: Mapping[str, Any], classes: Mapping[str, Any], kind: str = "class") -> Any:
    """Make the object that `describe` described.

    Args:
        description: What `describe` returned.
        classes: Where to look the class up by its name: a registry, or a dict. Nothing is ever imported by a name that a
            file gives.
        kind: What it is, for the message.

    Raises:
        ConfigurationError: If the class is not known.
    """
    name = description["class_name"]
    if name not in classes:
        raise ConfigurationError(
            f"the {kind} {name!r} is not known here: import the module that registers it, or pass "
            f"custom_objects={{{name!r}: {name}}}"
        )
    return classes[name](**description["config"])


def fingerprint(*parts: Any) -> str:
    """A short hexadecimal digest of plain data, the same in every process.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps([plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_fingerprint(cls: type) -> str:
    """A digest of the source code of `cls`, so that editing a class is noticed; of its name where there is no source."""
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        source = f"{cls.__module__}.{cls.__qualname__}"
    return fingerprint(source)
