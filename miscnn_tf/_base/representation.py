"""Representations of objects for consoles and notebooks, from one description."""

from __future__ import annotations

import html
import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from miscnn_tf._base.configuration import get_config, plain
from miscnn_tf.errors import MiscnnError


class Represented:
    """Base class of objects that show their settings: ``repr()`` as text, notebooks as a table."""

    def _description(self) -> Mapping[str, Any]:
        """Return the settings to show by name, in order."""
        return changed_arguments(self)

    def __repr__(self) -> str:
        """Return the name of the class and its settings, a line each."""
        lines = [f"  {name}: {value}" for name, value in self._description().items()]
        return "\n".join([f"<{type(self).__name__}", *lines]) + ">"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        cell = '<td style="text-align:left">'
        rows = "".join(
            f"<tr>{cell}{html.escape(name)}</td>{cell}{html.escape(str(value))}</td></tr>"
            for name, value in self._description().items()
        )
        return f"<table><caption><b>{html.escape(type(self).__name__)}</b></caption>{rows}</table>"


class Constructed(Represented):
    """Base class of objects that are described by their constructor: ``Clipping(min=-79, max=304)``."""

    def __repr__(self) -> str:
        """Return the call that makes an equal object, without arguments that have their default."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in changed_arguments(self).items())
        return f"{type(self).__name__}({arguments})"


def changed_arguments(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of an object that differ from their defaults, as plain data.

    An object that does not store its arguments gives an empty dict.

    Example:
        >>> from miscnn_tf.processing.subfunctions import Normalization
        >>> changed_arguments(Normalization("minmax"))
        {'mode': 'minmax'}
    """
    config: dict[str, Any] = {}
    parameters: Mapping[str, inspect.Parameter] = {}
    # A representation must not fail, also of an object whose constructor was interrupted.
    with suppress(MiscnnError, TypeError, AttributeError):
        config = get_config(instance)
        parameters = inspect.signature(type(instance)).parameters
    return {
        name: value for name, value in config.items() if name not in parameters or value != _default(parameters[name])
    }


def _default(parameter: inspect.Parameter) -> Any:
    try:
        return plain(parameter.default)
    except MiscnnError:
        return parameter.default
