"""Detection of the interface of a data folder with some unusable files, for their verification."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.interfaces import Abstract_IO, miscnn_data_interfaces
from miscnn_tf.data_loading.label_scan import ANY_CLASSES, count_values
from miscnn_tf.data_loading.layouts import find_interface, recognise
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)


def find_interface_despite_errors(
    path: str | Path,
    name: str | None = None,
    *,
    labels: bool = True,
    channels: int | None = None,
    classes: int | None = None,
    pattern: str | None = None,
    label_map: Mapping[int, int] | None = None,
    **settings: Any,
) -> Abstract_IO:
    """Detect the interface like `find_interface`, but take the classes from the majority of the label maps.

    Classes are numbered from 0 without a gap; a value beyond a gap in some of the label maps is a fault in these.

    Args:
        path: The folder of the data set.
        name: Its layout; None: detected.
        labels: Whether the samples have label maps.
        channels: Number of channels; None: detected, like all that follow.
        classes: Number of classes.
        pattern: Regular expression that a sample's whole name must match.
        label_map: Labels for values in the segmentation files.
        **settings: Further arguments of the interface.

    Raises:
        DataError: If no samples are found, or none of them is usable.

    Example:
        >>> find_interface_despite_errors("data").classes  # doctest: +SKIP
        3
    """
    root = Path(path)
    given: dict[str, Any] = {"channels": channels, "pattern": pattern, "part": "training" if labels else "all"}
    given |= settings
    if root.is_dir():
        name = name or recognise(root, pattern, labelled=labels, settings=settings)
        if not labels and classes is None and not miscnn_data_interfaces.get(name).defines_classes(root):
            classes = 2  # not used
    try:
        return find_interface(root, name, classes=classes, label_map=label_map, **given)
    except DataError as error:
        if classes is not None or name is None or miscnn_data_interfaces.get(name).has_named_structures():
            raise
        interface = find_interface(root, name, classes=ANY_CLASSES, label_map=label_map, **given)
        usual = usual_classes(_values(interface, root), label_map)
        if usual is None:
            raise
        classes, label_map = usual
        logger.info("the label maps are read with classes=%d, as in most of them (%s)", classes, error)
    return find_interface(root, name, classes=classes, label_map=label_map, **given)


def usual_classes(
    values: Iterable[Set[int]], label_map: Mapping[int, int] | None = None
) -> tuple[int, Mapping[int, int] | None] | None:
    """Determine the number of classes and the label map from the values of each label map; None if none are valid.

    Example:
        >>> usual_classes([{0, 1, 2}, {0, 1}, {0, 1, 200}])
        (3, None)
        >>> usual_classes([{0, 255}, {0, 255}, {0, 255, 254}])
        (2, {255: 1})
    """
    held = list(values)
    often = Counter(value for one in held for value in one)
    usual = {value for value, number in often.items() if 2 * number >= len(held)} - {0}
    if label_map is None and usual in ({255}, {2**16 - 1}):
        label_map = {usual.pop(): 1}
    labels = {(label_map or {}).get(value, value) for value in often}
    classes = 0
    while classes in labels:
        classes += 1
    return (classes, label_map) if classes > 1 else None


def _values(interface: Abstract_IO, root: Path) -> list[set[int]]:
    """Return the values of each label map that can be read."""
    held = []
    for index in interface.initialize(str(root)):
        try:
            held.append(set(count_values(interface.stored_labels(index))))
        except DataError as error:
            logger.debug("%s", error)
    return held
