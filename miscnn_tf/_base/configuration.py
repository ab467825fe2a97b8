"""Conversion of objects to plain data for JSON files, and back.

The convention is scikit-learn's: a class stores each constructor argument in an attribute of the same name. Objects of
classes that follow it, such as all subfunctions, interfaces and architectures of this package, can be saved in a model
file, and their prepared samples can be reused.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from miscnn_tf._base.plain_limits import shown
from miscnn_tf._base.typed_data import require_types
from miscnn_tf.errors import ConfigurationError, MiscnnError, UnknownClassError

_LARGEST_ARRAY = 100_000

#: Members of every class that do not affect its behaviour, or differ between processes.
_NOT_CODE = frozenset(
    ("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__")
    + ("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__")
    + ("_abc_impl", "__slotnames__")  # the last is set by pickle
)

#: The parts of a function, and of the objects that functions are wrapped in.
_FUNCTION_PARTS = ("__name__", "__code__", "__defaults__", "__kwdefaults__", "__closure__", "__wrapped__")
_WRAPPER_PARTS = (
    *("__name__", "__code__", "cell_contents", "__func__", "__wrapped__", "fget", "fset", "fdel", "func"),
    *("args", "keywords", "start", "stop", "step"),
)

#: The parts of a code object that decide its effect.
_CODE_PARTS = (
    *("co_code", "co_exceptiontable", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars"),
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags"),
)


#: Types that are compared by their content if it is small enough for a setting.
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, set, frozenset, dict, np.ndarray, np.generic)

#: Globals that the functions of a class use: ``{(module, name): value}``.
_Used = dict[tuple[str, str], Any]


def get_config(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of `instance` as plain JSON types.

    Args:
        instance: An object whose class stores each constructor argument in an attribute of the same name, or has a
            method ``get_config()``.

    Returns:
        A dict that ``json.dumps`` accepts; ``type(instance)(**config)`` creates an equal object.

    Raises:
        ConfigurationError: If an argument is not stored, or is not plain data.

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
            f"{type(instance).__name__} does not store its constructor argument {missing[0]!r}: set "
            f"self.{missing[0]} in __init__, or give the class a get_config() method"
        )
    return {name: plain(getattr(instance, name), f"{type(instance).__name__}.{name}") for name in names}


def plain(value: Any, where: str = "value") -> Any:
    """Convert `value` to JSON types.

    Tuples and arrays become lists, sets sorted lists, numpy scalars Python scalars, and paths and the keys of a dict
    strings.

    Raises:
        ConfigurationError: If JSON cannot represent it (a function), if it is an array of more than 100,000 numbers
            (volumes are not settings), or if two keys of a dict become the same string.

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
                f"{where} is a dict with keys that are equal as text, such as 1 and '1', but JSON has text keys only; "
                "rename one of them"
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
    """Sort any mixture of plain values in an order that is the same in every process."""

    def order(item: Any) -> tuple[bool, Any, str]:
        number = isinstance(item, int | float)
        return not number, item if number else 0, json.dumps(item, sort_keys=True)

    return sorted(items, key=order)


def describe(instance: object, name: str | None = None) -> dict[str, Any]:
    """Return ``{"class_name": …, "config": …}`` of `instance`, for JSON."""
    return {"class_name": name or type(instance).__name__, "config": get_config(instance)}


def comparable(thing: Any) -> Any:
    """Return the name and settings of an object, function or partial as plain data, for comparisons.

    Objects that cannot be described are represented by their name.

    Example:
        >>> comparable(functools.partial(round, ndigits=2))
        {'partial': 'round', 'arguments': {'ndigits': 2}}
    """
    if thing is None or isinstance(thing, str | bool | int | float):
        return thing
    if inspect.isroutine(thing) or isinstance(thing, type):
        return thing.__name__
    if isinstance(thing, functools.partial):
        # Settings of losses may be set in this way.
        arguments = {str(number): value for number, value in enumerate(thing.args)} | thing.keywords
        return {
            "partial": comparable(thing.func),
            "arguments": {name: _plain_or_comparable(value) for name, value in arguments.items()},
        }
    # With the module, because the class of every U-Net is called Architecture.
    name = f"{type(thing).__module__}.{type(thing).__qualname__}"
    try:
        return describe(thing, name)
    except (ConfigurationError, NotImplementedError, TypeError, ValueError):
        return name


def _plain_or_comparable(value: Any) -> Any:
    try:
        return plain(value)
    except ConfigurationError:
        return comparable(value)


def build(description: Mapping[str, Any], classes: Mapping[str, Any], kind: str = "class") -> Any:
    """Create the object that `describe` described.

    Args:
        description: What `describe` returned.
        classes: Known classes by name, a registry or a dict. Names from a file are never imported.
        kind: Kind of the object, for the message.

    Raises:
        UnknownClassError: If the class is unknown.
        ConfigurationError: If the description is invalid, or the class does not take these arguments. Arguments of this
            package's classes must have the types of their annotations.

    Example:
        >>> from fractions import Fraction
        >>> build({"class_name": "Fraction", "config": {"numerator": 3, "denominator": 4}}, {"Fraction": Fraction})
        Fraction(3, 4)
    """
    name = description.get("class_name") if isinstance(description, Mapping) else None
    config = description.get("config") if isinstance(description, Mapping) else None
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ConfigurationError(
            f"the description of a {kind} must be {{'class_name': …, 'config': {{…}}}}, got {description!r}. The file "
            "is damaged, or was not written by this package; write it again"
        )
    if name not in classes:
        raise UnknownClassError(
            f"the {kind} {name!r} is unknown: import the module that registers it, or pass "
            f"custom_objects={{{name!r}: {name}}}"
        )
    require_types(classes[name], config, f"the {kind} {name!r}")
    return make(classes[name], config, f"the {kind} {name!r}")


def make(cls: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call a class with arguments from a file.

    Args:
        cls: The class, or a function.
        arguments: Its arguments by name.
        what: Description of the object, for the message.

    Raises:
        ConfigurationError: If the call raises any error.

    Example:
        >>> make(round, {"number": 2.5}, "the function 'round'")
        2
    """
    try:
        return cls(**arguments)
    except MiscnnError:
        raise
    except Exception as error:  # a class that expects a number may raise any error for a list
        raise ConfigurationError(
            f"{what} cannot be created from {shown(dict(arguments))}: {type(error).__name__}: {error}. Correct the "
            "arguments; the class may have changed since they were written"
        ) from error


def digest(*parts: Any) -> str:
    """Return a short hexadecimal digest of plain data, the same in every process.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return _json_digest([plain(part) for part in parts])


def _json_digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def class_digest(cls: type) -> str:
    """Return a digest of the code of `cls` and its base classes, which changes when a class is edited.

    It depends on the compiled code, because source files may have been edited since their import, and notebooks have
    none: bytecode, constants, defaults and closures of the methods, class attributes that are plain data, and the
    functions, classes and plain data of the module that the methods use, directly or indirectly. Functions of other
    modules are not included. The digest depends on the version of Python.

    Example:
        >>> from fractions import Fraction
        >>> class_digest(Fraction) == class_digest(Fraction)
        True
    """
    used: _Used = {}
    classes = [one for one in cls.__mro__ if one.__module__ not in {"builtins", "abc", "typing"}]
    own = [_compiled_class(one, used) for one in classes]
    compiled: dict[tuple[str, str], Any] = {}
    while waiting := used.keys() - compiled.keys():
        for place in waiting:
            value = used[place]
            compiled[place] = (
                _compiled_class(value, used) if isinstance(value, type) else _compiled(value, (cls,), used)
            )
    return _json_digest([own, [[name, compiled[module, name]] for module, name in sorted(compiled)]])


def _compiled_class(cls: type, used: _Used) -> list[Any]:
    members = sorted((name, value) for name, value in vars(cls).items() if name not in _NOT_CODE)
    compiled = [
        [name, _compiled(value, (cls,), used) if not isinstance(value, _PLAIN) or _is_setting(value) else "data"]
        for name, value in members
    ]
    return [cls.__qualname__, compiled]


def _compiled(value: Any, inside: tuple[Any, ...], used: _Used) -> Any:
    """Convert a member of a class to JSON types, the same in every process; `inside` are the enclosing objects.

    Unknown objects are represented by their type, because their ``repr`` may have an address. Globals that functions
    use are added to `used`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, complex | bytes | type(...)):
        return [kind, repr(value)]
    if any(value is outer for outer in inside):
        return [kind]
    inside = (*inside, value)
    if isinstance(value, tuple | list):
        return [kind, [_compiled(item, inside, used) for item in value]]
    if isinstance(value, set | frozenset):
        return [kind, _sorted(_compiled(item, inside, used) for item in value)]
    if isinstance(value, Mapping):
        return [
            kind,
            _sorted([_compiled(key, inside, used), _compiled(item, inside, used)] for key, item in value.items()),
        ]
    if isinstance(value, np.generic | np.ndarray):
        content = value.tolist() if value.dtype.hasobject else hashlib.blake2b(value.tobytes()).hexdigest()
        return [kind, value.dtype.str, list(value.shape), _compiled(content, inside, used)]
    if isinstance(value, CodeType):
        return [kind, _code_digest(value)]
    if isinstance(value, type):
        own = value.__qualname__.startswith(f"{inside[0].__qualname__}.")
        return [kind, *(_compiled_class(value, used) if own else [value.__module__, value.__qualname__])]
    if isinstance(value, ModuleType):
        return [kind, value.__name__]
    names: tuple[str, ...] = ("__wrapped__",)
    if isinstance(value, FunctionType):
        _note_names(value, used)
        names = _FUNCTION_PARTS
    elif type(value).__module__ in {"builtins", "functools"}:
        names = _WRAPPER_PARTS
    parts = []
    for name in names:
        with suppress(AttributeError, ValueError):  # a cell may be empty
            parts.append([name, _compiled(getattr(value, name), inside, used)])
    return [kind, parts]


@functools.lru_cache(maxsize=4096)  # computing it anew for each prepared sample took 20 ms
def _code_digest(code: CodeType) -> str:
    """Return a digest of a code object, which is immutable."""
    return _json_digest([_compiled(getattr(code, name), (code,), {}) for name in _CODE_PARTS])


def _note_names(function: FunctionType, used: _Used) -> None:
    """Add the globals that a function uses of its own module."""
    module = function.__globals__.get("__name__", "")
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        own = callable(value) and getattr(value, "__module__", None) == module
        # ``__file__`` and similar names are the location of the code.
        if own or (_is_setting(value) and not name.startswith("__")):
            used[module, name] = value


def _is_setting(value: Any) -> bool:
    """Return True for plain data small enough for a setting, unlike images in a notebook or a cache."""
    if not isinstance(value, _PLAIN):
        return False
    numbers, waiting = 0, [value]
    while waiting and numbers <= _LARGEST_ARRAY:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, tuple | list | set | frozenset):
            waiting += one
        numbers += one.size if isinstance(one, np.ndarray) else 1
    return numbers <= _LARGEST_ARRAY


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in the code of a function and its inner functions."""
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def is_lambda(function: Any) -> bool:
    """Return True for a lambda, which has no name to be stored."""
    return getattr(function, "__name__", None) == "<lambda>"
