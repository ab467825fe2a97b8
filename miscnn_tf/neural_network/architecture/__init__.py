"""Network architectures: the registry, the base class and the U-Net family.

An architecture is found by name in the registry, or imported from its module. A package of someone else's adds its own
with an entry point in the group ``miscnn_tf.architectures``; a script with :func:`register`.

Example:
    >>> from miscnn_tf.neural_network import architecture
    >>> architecture.get("unet_standard")(n_filters=16, depth=3).divisor
    8
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet import UNet_standard
from miscnn_tf.registry import Registry

__all__ = ["Abstract_Architecture", "architectures", "get", "names", "register"]

ArchitectureClass = TypeVar("ArchitectureClass", bound=type)

architectures: Registry[type] = Registry("architecture", "miscnn_tf.architectures")
architectures.register("unet_standard", UNet_standard)


def get(name: str) -> type:
    """The architecture class registered under `name`.

    Raises:
        ConfigurationError: If there is none; the message lists the names there are.
    """
    return architectures.get(name)


def register(name: str) -> Callable[[ArchitectureClass], ArchitectureClass]:
    """Class decorator that makes an architecture known by `name`, so that model files can name it.

    Raises:
        ConfigurationError: If another class already has that name.

    Example:
        >>> @register("my_net")
        ... class MyNet(Abstract_Architecture): ...
    """

    def decorate(decorated: ArchitectureClass) -> ArchitectureClass:
        architectures.register(name, decorated)
        return decorated

    return decorate


def names() -> list[str]:
    """The names of all known architectures, sorted."""
    return architectures.names()
