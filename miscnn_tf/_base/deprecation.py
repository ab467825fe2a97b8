"""Deprecation of public names and arguments: they work for another minor version, and warn with their successor."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from miscnn_tf.errors import ConfigurationError

_Called = TypeVar("_Called", bound=Callable[..., Any])


def deprecated(
    instead: str, *, since: str, removed_in: str, defined_by: Callable[..., Any] | None = None
) -> Callable[[_Called], _Called]:
    """Make a function or method warn when it is called; on a class, decorate ``__init__``.

    Args:
        instead: What to use instead, a name or a short sentence.
        since: The first version that warns.
        removed_in: The version that no longer has it. A test fails when this version is reached.
        defined_by: A user's function whose definition must be changed, and to which the warning points; None for the
            call.

    Example:
        >>> @deprecated("new_name", since="0.2", removed_in="0.3")
        ... def old_name():
        ...     return 1
    """

    def decorate(function: _Called) -> _Called:
        @functools.wraps(function)
        def warn_and_call(*args: Any, **kwargs: Any) -> Any:
            _warn(f"{function.__qualname__}()", instead, since, removed_in, defined_by)
            return function(*args, **kwargs)

        return warn_and_call  # type: ignore[return-value]

    return decorate


def renamed_argument(old: str, new: str, *, since: str, removed_in: str) -> Callable[[_Called], _Called]:
    """Make a function accept a keyword argument under its previous name, with a warning.

    Args:
        old: The previous name.
        new: The name in the signature.
        since: The first version that warns.
        removed_in: The version that no longer accepts the previous name. A test fails when this version is reached.

    Raises:
        ConfigurationError: When called with both names.
    """

    def decorate(function: _Called) -> _Called:
        @functools.wraps(function)
        def rename_and_call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise ConfigurationError(
                        f"{function.__qualname__}() got {old!r} and {new!r}, two names of one argument: "
                        f"pass {new!r} only"
                    )
                _warn(f"the argument {old!r} of {function.__qualname__}()", repr(new), since, removed_in)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return rename_and_call  # type: ignore[return-value]

    return decorate


def _warn(what: str, instead: str, since: str, removed_in: str, defined_by: Callable[..., Any] | None = None) -> None:
    text = f"{what} is deprecated since miscnn_tf {since} and will be removed in {removed_in}: use {instead} instead"
    # FutureWarning, unlike DeprecationWarning, is shown by default: these names are used in scripts of end users.
    function = inspect.unwrap(defined_by) if defined_by is not None else None
    function = function.__func__ if inspect.ismethod(function) else function
    if not inspect.isfunction(function):
        warnings.warn(text, FutureWarning, stacklevel=3)
        return
    # With the registry of its module, a warning is shown once, not for each sample.
    registry = function.__globals__.setdefault("__warningregistry__", {})
    code = function.__code__
    warnings.warn_explicit(text, FutureWarning, code.co_filename, code.co_firstlineno, function.__module__, registry)
