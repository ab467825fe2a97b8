"""Deprecation of public names and arguments: they work for another minor version, and warn with their successor."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from miscnn_tf.errors import ConfigurationError

_Called = TypeVar("_Called", bound=Callable[..., Any])


def deprecated(instead: str, *, since: str, removed_in: str) -> Callable[[_Called], _Called]:
    """Make a function or method warn when it is called; on a class, decorate ``__init__``.

    Args:
        instead: What to use instead, a name or a short sentence.
        since: The first version that warns.
        removed_in: The version that no longer has it. A test fails when this version is reached.

    Example:
        >>> @deprecated("new_name", since="0.2", removed_in="0.3")
        ... def old_name():
        ...     return 1
    """

    def decorate(function: _Called) -> _Called:
        @functools.wraps(function)
        def warn_and_call(*args: Any, **kwargs: Any) -> Any:
            _warn(f"{function.__qualname__}()", instead, since, removed_in)
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


def _warn(what: str, instead: str, since: str, removed_in: str) -> None:
    # FutureWarning, unlike DeprecationWarning, is shown by default: these names are used in scripts of end users.
    warnings.warn(
        f"{what} is deprecated since miscnn_tf {since} and will be removed in {removed_in}: use {instead} instead",
        FutureWarning,
        stacklevel=3,
    )
