"""Registry of all interfaces, and the question which of them recognise a folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.registry import Registry

#: All interfaces by name; other packages add theirs through the entry point group ``miscnn_tf.interfaces``.
miscnn_data_interfaces: Registry[type[Abstract_IO]] = Registry("data interface", "miscnn_tf.interfaces")

# Arguments that do not show a layout, since most have them or `find_interface` handles them.
_OF_ALL = {"pattern", "part", "class_names", "ignore_label", "regions", "regions_class_order"}


class Recognised(NamedTuple):
    """A layout that recognises a folder.

    Attributes:
        name: Its key in the registry.
        evidence: The return value of `Abstract_IO.recognises`.
        rank: Layouts with a lower rank have priority.
    """

    name: str
    evidence: str
    rank: tuple[bool, int]


def recognising(known: Mapping[str, type[Abstract_IO]], folder: Path, settings: Mapping[str, Any]) -> list[Recognised]:
    """Return the layouts that have priority among those that recognise a folder; several if they are of equal rank.

    Interfaces that take all given arguments have priority, then those with the lowest `recognition_order`.

    Args:
        known: Interfaces by name.
        folder: An existing folder.
        settings: Arguments that the user gave.
    """
    own = {name for name, value in settings.items() if value is not None} - _OF_ALL
    ranks = {name: (_lacks(cls, own), cls.recognition_order) for name, cls in known.items()}
    found: list[Recognised] = []
    for name in sorted(ranks, key=ranks.__getitem__):
        if found and ranks[name] > found[0].rank:
            break
        evidence = known[name].recognises(folder, settings)
        # Equal evidence means the same files, which either reads.
        if evidence is not None and evidence not in {other.evidence for other in found}:
            found.append(Recognised(name, evidence, ranks[name]))
    return found


def _lacks(cls: type[Abstract_IO], arguments: set[str]) -> bool:
    parameters = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return not takes_any and not arguments <= parameters.keys()
