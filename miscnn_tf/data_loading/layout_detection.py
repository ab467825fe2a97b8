"""Detection of the layout of a data folder, and of the arguments of its interface."""

from __future__ import annotations

import inspect
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import islice
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.file_names import distinct, folder_entries, folders_in
from miscnn_tf.data_loading.interfaces import Abstract_IO, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.listed_files import PARTS
from miscnn_tf.data_loading.interfaces.registered import recognising
from miscnn_tf.data_loading.label_keys import LabelMap, class_of
from miscnn_tf.data_loading.label_scan import ANY_CLASSES, MaskValuesError, count_values
from miscnn_tf.data_loading.labels import normalised_label_map, with_ignored
from miscnn_tf.errors import DataError, MissingDataError

logger = logging.getLogger(__name__)

_LOOKED_AT = 50
_DEEPEST = 2
_SHOWN = 10


class _Descriptions(Mapping[str, str]):
    """Description of each registered layout, by the name of its interface."""

    def __getitem__(self, name: str) -> str:
        return miscnn_data_interfaces[name].layout_description

    def __iter__(self) -> Iterator[str]:
        return (name for name, cls in miscnn_data_interfaces.items() if cls.layout_description)

    def __len__(self) -> int:
        return len(list(iter(self)))


#: Description of each layout, for messages and help.
LAYOUTS: Mapping[str, str] = _Descriptions()


def find_interface(
    path: str | Path,
    name: str | None = None,
    *,
    channels: int | None = None,
    classes: int | None = None,
    three_dim: bool | None = None,
    pattern: str | None = None,
    label_map: LabelMap | None = None,
    **settings: Any,
) -> Abstract_IO:
    """Detect the layout of a folder of data, and make the interface that reads it.

    Every registered interface is asked whether it recognises the folder, including those that other packages add
    through the entry point group ``miscnn_tf.interfaces``.

    Arguments that are not given are detected: channels and dimension from the headers of the majority of the images,
    with a warning that lists the others; classes and their names from ``dataset.json``, or else the classes from the
    values in the segmentations, each of which is read once. Masks of 0 and 255 get ``label_map={255: 1}``.

    Args:
        path: The folder of the data set; or one that holds it alone, one or two levels deeper, as archives often do.
        name: Layout, a key of `miscnn_data_interfaces`: "NIFTI", "NIFTI_S", "IMG", "DICOM",
            "DATASET_JSON", "PAIRED"; None: detected from the folder.
        channels: Number of channels.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept. Keys may also be a
            threshold, ``{"128+": 1}``, ``{"nonzero": 1}``, or colours, ``{"#ff0000": 1}``.
        **settings: Further arguments of the interface, such as ``part="test"`` or ``structure_dict``; and
            for any of them ``class_names``, a name per class; ``ignore_label``, the value of voxels without annotation;
            ``regions`` and ``regions_class_order``, overlapping regions to predict instead of classes (see
            `Abstract_IO`).

    Returns:
        The interface, to be passed to `Data_IO` with the same path.

    Raises:
        MissingDataError: If the folder does not exist, or its layout is unknown; the message lists what was found, and
            the layouts.
        DataError: If the files cannot be read, or the values in the segmentations are not 0, 1, 2, …; the message shows
            the label map to pass.
        ConfigurationError: If the interface lacks an argument.

    Example:
        >>> interface = find_interface("Task04_Hippocampus")  # doctest: +SKIP
        >>> interface.channels, interface.names_of_classes()  # doctest: +SKIP
        (1, ('background', 'Anterior', 'Posterior'))
        >>> data_io = miscnn_tf.Data_IO(interface, "Task04_Hippocampus")  # doctest: +SKIP
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise MissingDataError(f"the data folder {root} {what}; give the folder of the data set")
    part = settings.get("part", PARTS[0])
    inner = locate_data(root, name, {**settings, "part": part, "pattern": pattern})
    if inner != root:
        logger.info("%s holds the data in %s, which is used", root, inner)
        root = inner
    if name is None:
        name = recognise(root, pattern, labelled=part == PARTS[0], settings=settings)
    cls = miscnn_data_interfaces.get(name)
    ignored = settings.pop("ignore_label", None)
    if ignored is not None:
        label_map = with_ignored(label_map, ignored)
    regions = {key: settings.pop(key, None) for key in ("regions", "regions_class_order")}
    class_names = settings.pop("class_names", None)
    if class_names is not None:
        class_names = tuple(str(one) for one in class_names)
        classes = len(class_names) if classes is None else classes
    arguments = {"channels": channels, "classes": classes, "three_dim": three_dim, "pattern": pattern}
    known = inspect.signature(cls).parameters
    if "class_names" in known:
        settings["class_names"] = class_names
    if "part" not in known and part != "test":
        settings.pop("part", None)  # layouts with a folder per sample always list all samples
    given: dict[str, Any] = {**arguments, "label_map": label_map, **settings}
    interface = cls.from_folder(root, {key: value for key, value in given.items() if value is not None})
    if class_names is not None:
        interface.class_names = class_names
        interface.names_of_classes()
    if any(value is not None for value in regions.values()):
        interface.regions, interface.regions_class_order = regions["regions"], regions["regions_class_order"]
    interface.label_scheme()  # raises an error if the regions do not fit the classes
    return interface


def recognise(
    root: Path, pattern: str | None = None, labelled: bool = True, *, settings: Mapping[str, Any] | None = None
) -> str:
    """Detect the layout of a folder, a key of `miscnn_data_interfaces`.

    Args:
        root: An existing folder.
        pattern: Regular expression that the names of sample folders must match; None takes all.
        labelled: Whether segmentations are needed; if False, images alone are a layout, too ("PAIRED").
        settings: Further arguments of the interface. Interfaces that have all of them are asked first.

    Raises:
        MissingDataError: If the layout is unknown; the message lists what was found.
    """
    given = {**(settings or {}), "pattern": pattern, "part": PARTS[0] if labelled else "all"}
    found = _layout_of(root, given)
    if found is None:
        raise MissingDataError(_unknown(root, pattern))
    logger.info("%s is read as %r: %s", root, *found)
    return found[0]


def locate_data(path: str | Path, name: str | None = None, settings: Mapping[str, Any] | None = None) -> Path:
    """Find the data folder in a folder that holds it one or two levels deeper, as archives often do.

    Args:
        path: The folder that the user gave.
        name: Layout; None: any.
        settings: Arguments that the user gave.

    Returns:
        The folder itself if it has a known layout, or none of the folders in it does; otherwise the only folder that
        does.

    Raises:
        DataError: If several folders on one level have a known layout; the message lists them.

    Example:
        >>> locate_data("Downloads/BraTS2020")  # doctest: +SKIP
        PosixPath('Downloads/BraTS2020/MICCAI_BraTS2020_TrainingData')
    """
    root, given = Path(path), dict(settings or {})
    if not root.is_dir() or _has_layout(root, name, given):
        return root
    if _is_sample(root):
        return root  # reading it reports that the folder above is needed
    level = [root]
    for _ in range(_DEEPEST):
        level = [inner for folder in level for inner in folders_in(folder)][:_LOOKED_AT]
        found = [folder for folder in level if _has_layout(folder, name, given)]
        if len(found) > 1:
            choices = "\n".join(f"  {folder}" for folder in found[:_SHOWN])
            more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise DataError(
                f"{root} does not have a known layout, but {len(found)} folders in it do; give one of them:\n{choices}"
                f"{more}"
            )
        if found:
            return found[0]
    return root


def _has_layout(folder: Path, name: str | None, settings: Mapping[str, Any]) -> bool:
    if not os.access(folder, os.R_OK | os.X_OK):
        return False
    try:
        if name is not None:
            return miscnn_data_interfaces.get(name).recognises(folder, settings) is not None
        return bool(recognising(miscnn_data_interfaces, folder, settings))
    except DataError as error:  # such as two folders of training data; reading it reports the same
        logger.debug("%s: %s", folder, error)
        return True


def layout_help() -> str:
    """Return a description of the known layouts, with a file tree of each."""
    return "\n".join(f"{name}: {picture}" for name, picture in LAYOUTS.items())


def _layout_of(root: Path, settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the name of the interface that recognises a folder, and its evidence.

    Raises:
        DataError: If several layouts of equal priority recognise it.
    """
    found = recognising(miscnn_data_interfaces, root, settings)
    if len(found) > 1:
        choices = "\n".join(f"  {one.name}: {one.evidence}" for one in found)
        raise DataError(
            f"{root} has several layouts:\n{choices}\nChoose one, for instance with --layout {found[0].name} on the "
            f"command line or find_interface(path, {found[0].name!r}); or move the other files to another folder"
        )
    return (found[0].name, found[0].evidence) if found else None


def _unknown(root: Path, pattern: str | None) -> str:
    """Return the message for an unknown layout: the content of the folder, advice, and the known layouts."""
    entries = _visible(root)
    folders = [path for path in entries if path.is_dir()]
    if _is_sample(root) and not any(map(_is_sample, folders[:_LOOKED_AT])):
        return f"{root} is itself one sample; give the folder above it, {root.parent}"
    text = f"{root} does not have a known layout. It holds {_shown(entries)}."
    inner = list(islice((str(path) for path in folders[:_LOOKED_AT] if _has_layout(path, None, {})), 3))
    if inner:
        text += f" Did you mean {' or '.join(inner)}?"
    elif folders:
        text += f" {folders[0].name}/ holds {_shown(_visible(folders[0]))}."
    if pattern is not None:
        text += f" The whole name of a sample folder must match pattern={pattern!r}."
    return (
        f"{text} Rename, move or link the files to one of these layouts, or write an interface of your own, a subclass "
        f"of Abstract_IO:\n{layout_help()}"
    )


def _is_sample(folder: Path) -> bool:
    """Return True if a folder is a sample of any registered layout."""
    for cls in miscnn_data_interfaces.values():
        try:
            if cls.find_image(folder) is not None:
                return True
        except (DataError, OSError) as error:
            logger.debug("%s: %s", folder, error)
    return False


def _visible(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in folder_entries(folder)]


def _shown(paths: list[Path]) -> str:
    return some_of(distinct([f"{path.name}/" if path.is_dir() else path.name for path in paths]), 8)


def find_interface_despite_errors(
    path: str | Path,
    name: str | None = None,
    *,
    labels: bool = True,
    channels: int | None = None,
    classes: int | None = None,
    pattern: str | None = None,
    label_map: LabelMap | None = None,
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
    if settings.get("ignore_label") is not None:
        label_map = with_ignored(label_map, settings.pop("ignore_label"))
    given: dict[str, Any] = {"channels": channels, "pattern": pattern, "part": "training" if labels else "all"}
    given |= settings
    if root.is_dir():
        name = name or recognise(root, pattern, labelled=labels, settings=settings)
        if not labels and classes is None and not miscnn_data_interfaces.get(name).defines_classes(root):
            classes = 2  # not used
    try:
        return find_interface(root, name, classes=classes, label_map=label_map, **given)
    except MaskValuesError:
        raise
    except DataError as error:
        if classes is not None or name is None or miscnn_data_interfaces.get(name).has_named_structures():
            raise
        given_labels = {**given, "regions": None, "regions_class_order": None}
        interface = find_interface(root, name, classes=ANY_CLASSES, label_map=label_map, **given_labels)
        usual = usual_classes(_values(interface, root), normalised_label_map(label_map, ANY_CLASSES))
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
    labels = {class_of(value, label_map) for value in often}
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
