"""Registry of objects that are looked up by name.

Interfaces, subfunctions, architectures and losses have one each. Third-party packages add entries with an entry point
of the registry's group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, overload

from miscnn_tf._base.messages import unknown_name
from miscnn_tf.errors import ConfigurationError

T = TypeVar("T")
E = TypeVar("E")

logger = logging.getLogger(__name__)


class Registry(MutableMapping[str, T], Generic[T]):
    """Mapping from names to classes or functions, extensible by decorators, items and entry points.

    Args:
        kind: Kind of the entries, for messages ("architecture").
        group: Entry point group of other packages (``"miscnn_tf.architectures"``).

    Example:
        >>> architectures = Registry("architecture", "miscnn_tf.architectures")
        >>> @architectures.register("tiny")
        ... class Tiny: ...
        >>> architectures.get("tiny") is Tiny
        True
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, T] = {}
        self._searched = group is None

    @overload
    def register(self, name: str) -> Callable[[E], E]: ...
    @overload
    def register(self, name: str, entry: T) -> T: ...
    def register(self, name: str, entry: Any = None) -> Any:
        """Register `entry` under `name`, directly or as a decorator.

        Raises:
            ConfigurationError: If another object has this name.
        """
        if entry is None:
            return lambda decorated: self.register(name, decorated)
        self[name] = entry
        return entry

    def get(self, name: str, default: T | None = None) -> T:  # type: ignore[override]
        """Return the entry `name`, or `default` if given.

        Raises:
            ConfigurationError: If the name is unknown; the message lists the known names.
        """
        try:
            return self[name]
        except KeyError as missing:
            if default is not None:
                return default
            raise ConfigurationError(missing.args[0]) from None

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self)

    def name_of(self, entry: object) -> str | None:
        """Return the name of `entry`, or None."""
        return next((name for name, other in self.items() if other is entry), None)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._search_entry_points()
        if name not in self._entries:
            raise KeyError(unknown_name(self.kind, name, self))
        return self._entries[name]

    def __setitem__(self, name: str, entry: T) -> None:
        known = self._entries.get(name)
        # A notebook cell that is run again defines its class again; the new one replaces the old one.
        if known is not None and known is not entry and not _same_definition(known, entry):
            raise ConfigurationError(f"the {self.kind} name {name!r} is already used by {known!r}; choose another name")
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._search_entry_points()
        return iter(dict(self._entries))

    def __len__(self) -> int:
        self._search_entry_points()
        return len(self._entries)

    def _search_entry_points(self) -> None:
        if self._searched or self.group is None:
            return
        self._searched = True
        for point in entry_points(group=self.group):
            if point.name in self._entries:
                continue
            try:
                self[point.name] = point.load()
            except Exception:
                # A broken add-on must not disable everything else.
                logger.warning(
                    "the %s %r of the entry point %s cannot be imported; repair or uninstall its package",
                    self.kind,
                    point.name,
                    point.value,
                    exc_info=True,
                )


def _same_definition(first: object, second: object) -> bool:
    def place(entry: object) -> tuple[object, object]:
        return getattr(entry, "__module__", None), getattr(entry, "__qualname__", None)

    # All lambdas of a module have the same name.
    return place(first) == place(second) and not str(place(first)[1] or "<lambda>").endswith("<lambda>")
