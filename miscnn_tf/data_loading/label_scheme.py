"""Meaning of the labels of a data set: classes, voxels without annotation, and overlapping regions.

All other parts ask the `LabelScheme` of an interface: for the labels that a label map may hold, the training target,
the number of channels of a network, and the labels that its probabilities decide for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf._base.plain_limits import shown
from miscnn_tf.data_loading.labels import decide_labels, has_ignored, label_dtype
from miscnn_tf.errors import ConfigurationError

#: Probability above which a voxel is in a region.
REGION_THRESHOLD = 0.5


class Region(NamedTuple):
    """Union of several labels, such as the whole tumour.

    Attributes:
        name: Its name.
        labels: Its labels.
        written: The label that predictions hold in the region, unless a later region covers it.
    """

    name: str
    labels: tuple[int, ...]
    written: int


@dataclass(frozen=True)
class LabelScheme:
    """Meaning of the labels of a data set.

    Attributes:
        classes: Number of classes, background included; they are the labels ``0 … classes - 1``.
        has_ignored: The label `classes` marks voxels without annotation, which neither train nor count in scores.
        regions: Overlapping regions that the network predicts instead of the classes; empty for classes.

    Example:
        >>> scheme = LabelScheme(4, regions=(Region("tumour", (1, 2, 3), 1), Region("core", (2, 3), 2)))
        >>> scheme.outputs, scheme.encode(np.array([0, 1, 3])).tolist()
        (2, [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        >>> scheme.decide(np.array([[[0.9, 0.1], [0.9, 0.8], [0.2, 0.3]]]))
        array([[1, 2, 0]], dtype=uint8)
    """

    classes: int
    has_ignored: bool = False
    regions: tuple[Region, ...] = ()

    @property
    def labels(self) -> int:
        """Number of labels of label maps: the classes, and the one for voxels without annotation."""
        return self.classes + self.has_ignored

    @property
    def outputs(self) -> int:
        """Number of channels of the network's output and of class probabilities."""
        return len(self.regions) or self.classes

    @property
    def scored(self) -> int:
        """Number of rows of scores: a row per class; or the background and a row per region."""
        return len(self.regions) + 1 if self.regions else self.classes

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of label maps."""
        return label_dtype(self.labels)

    def decided_dtype(self, channels: int) -> type[np.uint8] | type[np.uint16]:
        """Return the type of labels that probabilities with so many channels decide for."""
        return label_dtype(self.classes if self.regions else channels)

    def table(self) -> np.ndarray:
        """Return the training target of each label, float32 ``(labels, outputs)``.

        It is one-hot for classes and 0 or 1 per region; that of voxels without annotation is 0 in all channels.
        """
        table = np.zeros((self.labels, self.outputs), np.float32)
        if not self.regions:
            np.fill_diagonal(table, 1)
        for channel, region in enumerate(self.regions):
            table[list(region.labels), channel] = 1
        return table

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return the training target of labels ``(…)``, float32 ``(…, outputs)``."""
        table: np.ndarray = self.table()[labels]
        return table

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the labels that probabilities ``(x, y[, z], outputs)`` decide for.

        It is the most probable class; or the label of the last region whose probability is above 0.5.
        """
        if not self.regions:
            return decide_labels(probabilities)
        if probabilities.shape[-1] != len(self.regions):
            raise ConfigurationError(
                f"probabilities of shape {probabilities.shape} cannot be decided: they need a channel for each of the "
                f"{len(self.regions)} regions"
            )
        labels = np.zeros(probabilities.shape[:-1], self.decided_dtype(probabilities.shape[-1]))
        for channel, region in enumerate(self.regions):
            labels[probabilities[..., channel] > REGION_THRESHOLD] = region.written
        return labels

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of means of logits, in place: the softmax, or of regions the sigmoid.

        Args:
            logits: float32 ``(x, y[, z], outputs)``. Those of regions are higher by 0.5, so that `decide` compares them
                as it compares probabilities.
        """
        for plane in logits:  # temporaries of one plane
            if self.regions:
                plane[...] = 1 / (1 + np.exp(REGION_THRESHOLD - plane))
            else:
                plane -= plane.max(axis=-1, keepdims=True)
                np.exp(plane, out=plane)
                plane /= plane.sum(axis=-1, keepdims=True)
        return logits

    def without_annotation(self, labels: np.ndarray) -> np.ndarray | None:
        """Return the mask of voxels without annotation; None if label maps cannot have any."""
        return labels == self.classes if self.has_ignored else None

    def output_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return a name per channel of the output: those of the regions, or of the classes."""
        return tuple(region.name for region in self.regions) or tuple(class_names)

    def scored_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return a name per row of scores: "background" and the regions, or the classes."""
        return ("background", *self.output_names(class_names)) if self.regions else tuple(class_names)

    def require_classes(self, what: str) -> None:
        """Require one class per voxel, instead of overlapping regions.

        Raises:
            ConfigurationError: If there are regions; the message begins with `what`.
        """
        if self.regions:
            raise ConfigurationError(
                f"{what} needs one class per voxel, but this data set has overlapping regions "
                f"({some_of(region.name for region in self.regions)}); leave it out, or train on classes"
            )

    def region_settings(self) -> dict[str, Any]:
        """Return the attributes of an interface that define the regions, as JSON types; empty for classes."""
        if not self.regions:
            return {}
        return {
            "regions": {region.name: list(region.labels) for region in self.regions},
            "regions_class_order": [region.written for region in self.regions],
        }

    def to_plain(self) -> dict[str, Any]:
        """Return ignored voxels and regions as JSON types; the inverse of `from_plain`."""
        return {
            "has_ignored": self.has_ignored,
            "regions": [{"name": name, "labels": list(labels), "written": one} for name, labels, one in self.regions],
        }

    @classmethod
    def from_plain(cls, classes: int, plain: Mapping[str, Any]) -> LabelScheme:
        """Return the scheme that `to_plain` described."""
        regions = [Region(str(one["name"]), tuple(one["labels"]), int(one["written"])) for one in plain["regions"]]
        return cls(classes, bool(plain["has_ignored"]), _checked(regions, classes))

    @classmethod
    def of(
        cls,
        classes: int,
        label_map: Mapping[int, int] | None = None,
        regions: Mapping[str, Sequence[int]] | None = None,
        class_order: Sequence[int] | None = None,
    ) -> LabelScheme:
        """Return the scheme of the attributes of an interface; see `Abstract_IO`.

        Raises:
            ConfigurationError: If a region has labels that are not classes, or `class_order` is not one class per
                region.
        """
        if not regions:
            if class_order:
                raise ConfigurationError(f"regions_class_order={shown(class_order)} is given without regions; add them")
            return cls(classes, has_ignored(label_map))
        if not isinstance(regions, Mapping):
            raise ConfigurationError(
                f"regions={shown(regions)} must be a dict of labels by name, such as {{'tumour': [1, 2]}}"
            )
        order = list(class_order or ())
        if len(order) != len(regions):
            raise ConfigurationError(
                f"regions_class_order={shown(class_order)} must have a class for each of the {len(regions)} regions "
                f"({some_of(regions)}): the label that predictions hold in the region. Regions are written in this "
                "order, so that later ones cover earlier ones"
            )
        found = [
            Region(str(name), _labels(name, labels), one)
            for (name, labels), one in zip(regions.items(), order, strict=True)
        ]
        return cls(classes, has_ignored(label_map), _checked(found, classes))


def region_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `LabelScheme.region_settings` in a model file or run record; empty for classes."""
    if not stored.get("regions"):
        return {}
    return {name: stored.get(name) for name in ("regions", "regions_class_order")}


def scheme_of(interface: Any, classes: int | None = None) -> LabelScheme:
    """Return the label scheme of an interface; that of `classes`, if it describes none."""
    # Interfaces that are not derived from Abstract_IO may lack the method.
    ask = getattr(interface, "label_scheme", None)
    if ask is None:
        return LabelScheme(interface.classes if classes is None else classes)
    scheme: LabelScheme = ask()
    return scheme


def has_meaning(interface: Any) -> bool:
    """Return True if an interface has regions, or values of voxels without annotation."""
    return scheme_of(interface) != LabelScheme(interface.classes)


def _labels(name: Any, labels: Any) -> tuple[int, ...]:
    listed = [labels] if isinstance(labels, int) else labels
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise ConfigurationError(f"regions: {name!r} is {shown(labels)}, but it must be a list of labels, [1, 2]")
    return tuple(listed)


def _checked(regions: Sequence[Region], classes: int) -> tuple[Region, ...]:
    for region in regions:
        for label in (*region.labels, region.written):
            if isinstance(label, bool) or not isinstance(label, int) or not 0 < label < classes:
                raise ConfigurationError(
                    f"the region {region.name!r} has the label {label!r}, which is not one of the classes 1 to "
                    f"{classes - 1}; correct regions or regions_class_order, or raise classes"
                )
        if not region.labels:
            raise ConfigurationError(f"the region {region.name!r} has no labels; name at least one")
    if len({region.name for region in regions}) < len(regions):
        raise ConfigurationError(f"two regions have the same name ({some_of(region.name for region in regions)})")
    return tuple(regions)
