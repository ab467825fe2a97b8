"""Objects as plain data: what something was made with, written as JSON and built again.

The convention is scikit-learn's: a class keeps each constructor argument in an attribute of the same name. Whoever
follows it (all of this package's subfunctions, interfaces and architectures do, and a user's own may) can be stored in
a model file, and is recognised again by the prepared-sample store.
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

from miscnn_tf.errors import ConfigurationError, MiscnnError, UnknownClassError
from miscnn_tf.plain_limits import shown
from miscnn_tf.typed_data import require_types

_LARGEST_ARRAY = 100_000

#: Members of each class that say nothing about what it does, or not the same in every process.
_NOT_CODE = frozenset(
    ("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__")
    + ("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__")
    + ("_abc_impl", "__slotnames__")  # the last is a note of pickle's
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


#: What is looked at by what it holds, where that is no more than a setting is.
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, set, frozenset, dict, np.ndarray, np.generic)

#: What the functions of a class name of their modules: ``{(module, name): value}``.
_Used = dict[tuple[str, str], Any]


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


def comparable(thing: Any) -> Any:
    """What something is and was made with, as plain data to compare: of functions and partials, too.

    Of what cannot be described it is the name alone.

    Example:
        >>> comparable(functools.partial(round, ndigits=2))
        {'partial': 'round', 'arguments': {'ndigits': 2}}
    """
    if thing is None or isinstance(thing, str | bool | int | float):
        return thing
    if inspect.isroutine(thing) or isinstance(thing, type):
        return thing.__name__
    if isinstance(thing, functools.partial):
        # Losses are given other settings in this way.
        arguments = {str(number): value for number, value in enumerate(thing.args)} | thing.keywords
        return {
            "partial": comparable(thing.func),
            "arguments": {name: _plain_or_comparable(value) for name, value in arguments.items()},
        }
    # With its module: every architecture of MIScnn's is called Architecture.
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
    """Make the object that `describe` described.

    Args:
        description: What `describe` returned.
        classes: Where to look the class up by its name: a registry, or a dict. Nothing is ever imported by a name that
            a file gives.
        kind: What it is, for the message.

    Raises:
        UnknownClassError: If the class is not known.
        ConfigurationError: If the description is not one, or the class does not take these arguments; of this package's
            classes, each argument has the type of its annotation.

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
        raise UnknownClassError(
            f"the {kind} {name!r} is not known here: import the module that registers it, or pass "
            f"custom_objects={{{name!r}: {name}}}"
        )
    require_types(classes[name], config, f"the {kind} {name!r}")
    return make(classes[name], config, f"the {kind} {name!r}")


def make(cls: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call a class with arguments that come from a file.

    Args:
        cls: The class, or a function.
        arguments: Its arguments by name.
        what: What it is, for the message.

    Raises:
        ConfigurationError: If it does not take them, whatever it raises then.

    Example:
        >>> make(round, {"number": 2.5}, "the function 'round'")
        2
    """
    try:
        return cls(**arguments)
    except MiscnnError:
        raise
    except Exception as error:  # a class that expects a number may raise anything when it gets a list
        raise ConfigurationError(
            f"{what} could not be made with {shown(dict(arguments))}: {type(error).__name__}: {error}. Correct the "
            "arguments; the class may have changed since they were written"
        ) from error


def fingerprint(*parts: Any) -> str:
    """A short hexadecimal digest of plain data, the same in every process.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return _json_digest([plain(part) for part in parts])


def _json_digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_fingerprint(cls: type) -> str:
    """A digest of the code of `cls` and its base classes, so that editing a class is noticed.

    Looked at is what Python compiled, which is what runs: a source file may have been edited since it was imported, and
    a notebook's cell has none. That is the bytecode, constants, defaults and closures of the methods, class attributes
    that are plain data, and of the module that the class is in the functions, classes and plain data that the methods
    name, and those that these name in turn. Functions of other modules are not looked at. Another version of Python
    compiles otherwise, so that the digest is another one there.

    Example:
        >>> from fractions import Fraction
        >>> code_fingerprint(Fraction) == code_fingerprint(Fraction)
        True
    """
    used: _Used = {}
    classes = [one for one in cls.__mro__ if one.__module__ not in {"builtins", "abc", "typing"}]
    own = [_compiled_class(one, used) for one in classes]
    told: dict[tuple[str, str], Any] = {}
    while waiting := used.keys() - told.keys():
        for place in waiting:
            value = used[place]
            told[place] = _compiled_class(value, used) if isinstance(value, type) else _compiled(value, (cls,), used)
    return _json_digest([own, [[name, told[module, name]] for module, name in sorted(told)]])


def _compiled_class(cls: type, used: _Used) -> list[Any]:
    members = sorted((name, value) for name, value in vars(cls).items() if name not in _NOT_CODE)
    told = [
        [name, _compiled(value, (cls,), used) if not isinstance(value, _PLAIN) or _is_setting(value) else "data"]
        for name, value in members
    ]
    return [cls.__qualname__, told]


def _compiled(value: Any, inside: tuple[Any, ...], used: _Used) -> Any:
    """What a class holds, as JSON types that are the same in every process; `inside` is what is being looked at.

    Never ``repr`` of an unknown object: it may hold an address. Of such an object the type is told. What functions name
    of their modules is added to `used`.
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
    """Add what a function names of its own module."""
    module = function.__globals__.get("__name__", "")
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        own = callable(value) and getattr(value, "__module__", None) == module
        # ``__file__`` and its like say where the code lies, not what it does.
        if own or (_is_setting(value) and not name.startswith("__")):
            used[module, name] = value


def _is_setting(value: Any) -> bool:
    """Whether something is plain data of a setting's size; the images that a notebook or a cache holds are none."""
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
    """The names of globals, and of attributes, in a function's code and in that of the functions within it."""
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)
