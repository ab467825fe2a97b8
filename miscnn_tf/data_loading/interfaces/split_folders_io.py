"""Interface for data sets that are split into folders, such as ``train`` and ``val``."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from miscnn_tf._base.configuration import get_config
from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading._discovery.split_folders import ROLES, Part, possible_parts
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.listed_files import (
    PARTS,
    FoundFiles,
    ListedFiles_interface,
    common_ending,
)
from miscnn_tf.data_loading.interfaces.registered import miscnn_data_interfaces, recognising
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.data_loading.label_scan import ANY_CLASSES, FoundLabels
from miscnn_tf.errors import ConfigurationError, MissingDataError

_NAME = "SPLIT"


class _Split(NamedTuple):
    """Parts of a data set, and the layout of each."""

    parts: list[Part]
    layout: str


class SplitFolders_interface(ListedFiles_interface):
    """Interface for data sets in ``train/`` and ``val/``, ``training/`` and ``test/``, and so on.

    ::

        data/                            data/                       data/
          train/                           images/train/x.png          train/x.png
            images/x.png                   images/val/y.png            train_masks/x.png
            masks/x.png                    masks/train/x.png           val/y.png
          val/                             masks/val/y.png             val_masks/y.png
            …

    Each part has a layout of files that `find_interface` detects (`DICOM_interface` reads DICOM studies in such folders
    itself). Training samples are those of ``train/``
    and ``val/``; the latter are listed in the attribute ``validation_samples``, and ``miscnn-tf init`` writes them as
    the split. Those of ``test/`` belong to ``part="test"``. BraTS' folders ``HGG/`` and ``LGG/`` and LiTS' ``Training
    Batch 1/`` and ``Training Batch 2/`` are read together.

    A sample has the name that it has in its part; if two parts have samples of one name, all get the name of their part
    in front: ``"train_001"``.

    Args:
        channels: Number of channels; None: detected.
        classes: Number of classes, background included; None: detected.
        three_dim: Whether the images are volumes; None: like the majority of the images.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        part_layout: Layout of the parts, a key of `miscnn_data_interfaces`; None: detected.
        part_settings: Further arguments of the interface that reads the parts, ``{"mask_folder": "1st_manual"}``.
        part: "training" (samples of training and validation folders with a label map), "test" or "all".
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept. Predictions are
            written in the same values.
        class_names: A name per class, background first.
        file_ending: Ending of the files if no data are available; `initialize` detects it.

    Example:
        >>> interface = SplitFolders_interface(classes=2)
        >>> interface.initialize("data")  # doctest: +SKIP
        ['x', 'y']
        >>> interface.validation_samples  # doctest: +SKIP
        ['y']
    """

    layout_description: ClassVar[str] = """\
folders of training, validation and test data, each in another layout
  train/…                         or training/; images/train/ and masks/train/; train/ and train_masks/
  val/…                           or validation/; test/"""
    recognition_order: ClassVar[int] = 35

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        part_layout: str | None = None,
        part_settings: Mapping[str, Any] | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(channels, classes, three_dim, pattern, part, label_map, class_names, file_ending)
        if part_layout == _NAME:
            raise ConfigurationError(f"part_layout={part_layout!r}: give the layout of the parts themselves")
        self.part_layout = part_layout
        self.part_settings = None if part_settings is None else dict(part_settings)
        self._first_reader: Abstract_IO | None = None

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: folders of parts in a layout that is known."""
        split = _split_of(folder, settings.get("part_layout"), settings.get("part_settings") or {})
        if split is None:
            return None
        return f"the parts {', '.join(part.name for part in split.parts)} have the layout {split.layout}"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make the interface; arguments that it does not have are those of the parts' layout."""
        own = {name: value for name, value in settings.items() if name in inspect.signature(cls).parameters}
        others = {name: value for name, value in settings.items() if name not in own}
        if others:
            own["part_settings"] = {**(own.get("part_settings") or {}), **others}
        return super().from_settings(own)

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True if the layout of the parts defines the classes."""
        split = _split_of(folder, None, {})
        if split is None:
            return False
        return all(miscnn_data_interfaces[split.layout].defines_classes(part.folder) for part in split.parts[:1])

    def find_files(self, root: Path) -> FoundFiles:
        """Find the samples of all parts.

        Raises:
            MissingDataError: If such folders, or samples of the wanted part, are missing.
            DataError: If the parts have different classes, or a layout whose files cannot be listed.
        """
        split = _split_of(root, self.part_layout, self.part_settings or {})
        if split is None:
            raise MissingDataError(
                f"{root} holds no folders of training and validation or test data in a known layout, such as train/ "
                "and val/ with images/ and masks/ each"
            )
        readers = self._readers(split)
        files = {part.name: _files_of(reader, part) for part, reader in readers}
        often = Counter(name for listed in files.values() for name in listed)
        twice = any(number > 1 for number in often.values())
        samples: dict[str, SampleFiles] = {}
        roles: dict[str, str] = {}
        for part, _ in readers:
            for name, listed in files[part.name].items():
                sample = f"{part.name}_{name}" if twice else name
                samples[sample], roles[sample] = listed, part.role
        wanted = self._wanted(root, samples, roles)
        self._first_reader = readers[0][1]
        self.sample_groups = self._first_reader.sample_groups
        return FoundFiles(
            wanted,
            common_ending(wanted.values(), root),
            class_names=self._first_reader.class_names,
            found_in=self._found_in(split, Counter(roles[name] for name in wanted)),
            validation=frozenset(name for name in wanted if roles[name] == "validation"),
        )

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return what the layout of the parts does, or else the only layout that knows the folder."""
        layouts = [self.part_layout] if self.part_layout else [name for name in miscnn_data_interfaces if name != _NAME]
        given = {"channels": self.channels, "classes": self.classes, "three_dim": self.three_dim}
        settings = {**given, **(self.part_settings or {})}
        found = []
        for cls in (miscnn_data_interfaces[name] for name in layouts):
            # Layouts of listed files have these arguments.
            if cls.lists_files() and {"part", *settings} <= inspect.signature(cls).parameters.keys():
                found.append(cls.from_settings(settings).images_of_folder(folder))
        known = [images for images in found if images]
        return known[0] if len(known) == 1 else {}

    def interpret_values(
        self, found: FoundLabels, folder: Path, label_map: Mapping[int, int] | None
    ) -> tuple[int, Mapping[int, int] | None, Sequence[str] | None]:
        """Interpret the values as the layout of the parts does."""
        reader = self if self._first_reader is None else self._first_reader
        return reader.interpret_values(found, folder, label_map)

    def _readers(self, split: _Split) -> list[tuple[Part, Abstract_IO]]:
        """Return the interface of each part; all have what was detected in the first, such as its channels."""
        cls = miscnn_data_interfaces[split.layout]
        first = split.parts[0]
        of_all = {"part": "all"} if "part" in inspect.signature(cls).parameters else {}
        classes = {} if cls.defines_classes(first.folder) else {"classes": ANY_CLASSES}
        found = cls.from_folder(first.folder, {**classes, **of_all, **(self.part_settings or {}), **first.settings})
        arguments = get_config(found)
        return [(part, cls(**{**arguments, **part.settings})) for part in split.parts]

    def _found_in(self, split: _Split, numbers: Mapping[str, int]) -> str:
        """Describe the folders: "PAIRED in train (3 training samples), val (2 validation samples)"."""
        folders: dict[str, list[str]] = {}
        for part in split.parts:
            if numbers.get(part.role):
                folders.setdefault(part.role, []).append(part.settings.get("image_folder", part.name))
        held = ", ".join(
            f"{' and '.join(names)} ({plural(numbers[role], f'{role} sample')})" for role, names in folders.items()
        )
        chosen = None if self._first_reader is None else self._first_reader.found_in
        return f"{split.layout} in {held}" + (f"; {chosen}" if chosen else "")

    def _wanted(
        self, root: Path, samples: Mapping[str, SampleFiles], roles: Mapping[str, str]
    ) -> Mapping[str, SampleFiles]:
        if self.part == "all":
            return samples
        if self.part == PARTS[0]:
            training = {name: files for name, files in samples.items() if roles[name] != "test"}
            return self.choose_part(root, training, "named as in the layout of the parts")
        test = {name: files for name, files in samples.items() if roles[name] == "test"}
        if not test:
            raise MissingDataError(f"{root} holds no folder of test data; part='all' takes all samples")
        return test


def _files_of(reader: Abstract_IO, part: Part) -> dict[str, SampleFiles]:
    files = {str(name): reader.sample_files(name) for name in reader.initialize(str(part.folder))}
    return {name: listed for name, listed in files.items() if listed is not None}


def _split_of(root: Path, layout: str | None, settings: Mapping[str, Any]) -> _Split | None:
    """Return the parts of a data set and their layout, training first; None if they have no common layout."""
    for parts in possible_parts(root):
        ordered = sorted(parts, key=lambda part: ROLES.index(part.role))
        name = layout or ("PAIRED" if ordered[0].settings else _layout_of(ordered[0], settings))
        if name is None:
            continue
        cls = miscnn_data_interfaces.get(name)
        kept = []
        for part in ordered:
            given = {**settings, **part.settings}
            if part.role != "test" and cls.recognises(part.folder, given) is not None:
                kept.append(part)
            # Challenges keep the label maps of their validation data.
            elif cls.recognises(part.folder, {**given, "part": "all"}) is not None:
                kept.append(replace(part, role="test"))
        if len(kept) > 1 and kept[0].role == PARTS[0]:
            return _Split(kept, name)
    return None


def _layout_of(part: Part, settings: Mapping[str, Any]) -> str | None:
    known = {name: cls for name, cls in miscnn_data_interfaces.items() if name != _NAME and cls.lists_files()}
    found = recognising(known, part.folder, settings)
    return found[0].name if len(found) == 1 else None
