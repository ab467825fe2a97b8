"""Interface for data sets of the Medical Segmentation Decathlon and of nnU-Net."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote

from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading._discovery.dataset_json import (
    DATASET_JSON,
    DatasetDescription,
    find_dataset_json,
    read_description,
)
from miscnn_tf.data_loading.file_names import (
    composed,
    distinct,
    ending_of,
    folder_entries,
    list_files,
    visible_files,
    warn_of_others,
    without_ending,
)
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.formats.volumes import VOLUME_ENDINGS, format_of, prediction_ending
from miscnn_tf.data_loading.interfaces.listed_files import FoundFiles, ListedFiles_interface
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import IGNORE, LabelMap, is_ignored
from miscnn_tf.errors import DataError, MissingDataError

logger = logging.getLogger(__name__)

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_IMAGES = tuple(f".{ending}" for ending in LOSSLESS)


class DatasetJSON_interface(ListedFiles_interface):
    """Interface for unmodified data sets of the Medical Segmentation Decathlon and of nnU-Net, versions 1 and 2.

    ::

        Task04_Hippocampus/               Dataset004_Hippocampus/
          dataset.json                      dataset.json
          imagesTr/                         imagesTr/
            hippocampus_001.nii.gz            hippocampus_001_0000.nii.gz    a file per channel
          labelsTr/                         labelsTr/
            hippocampus_001.nii.gz            hippocampus_001.nii.gz
          imagesTs/                         imagesTs/                        test cases
            hippocampus_002.nii.gz            hippocampus_002_0000.nii.gz

    A sample is named like its files, without the channel: ``"hippocampus_001"``. The samples are those that
    ``dataset.json`` lists (the Decathlon, nnU-Net 1), or else those in the folders (nnU-Net 2). Hidden files, such as
    those that macOS adds to archives, are left out. Files are volumes, NIfTI or ``.nrrd``, ``.mha``, ``.mgz``, …;
    two-dimensional ones may be PNG, TIFF or BMP.

    Validation cases in ``imagesVa`` and ``labelsVa``, as in AMOS, are training samples, too. The attribute
    ``validation_samples`` lists them, and ``miscnn-tf init`` keeps them for validation.

    Predictions are ``<output_path>/<case>.nii.gz`` in the image's geometry, or in the format of the images.

    Channels, classes and their names come from ``dataset.json`` when `initialize` reads it, unless they are given. They
    are stored in model files, which therefore work without ``dataset.json``. So do the label ``"ignore"`` of voxels
    without annotation, and regions, several values under one name, ``"whole tumour": [1, 2, 3]``, with
    ``regions_class_order``; ``interface.regions = {}`` trains on the classes instead.

    Args:
        channels: Number of channels; None: the number of ``modality`` or ``channel_names`` entries in ``dataset.json``.
        classes: Number of classes, background included; None: the labels of ``dataset.json``.
        three_dim: Whether the images are volumes; None: like the majority of the images.
        pattern: Regular expression that a case's whole name must match; None takes all.
        part: "training" (imagesTr), "test" (imagesTs, whose label maps are those in labelsTs, if any) or "all".
        label_map: Labels for values in the segmentation files, ``{4: 3}``; other values are kept. Predictions are
            written in the same values.
        class_names: A name per class, background first; None: those of ``dataset.json``.
        file_ending: Ending of the files to use when no data are available; `initialize` detects it.

    Example:
        >>> interface = DatasetJSON_interface()
        >>> interface.initialize("Task04_Hippocampus")[0]  # doctest: +SKIP
        'hippocampus_001'
        >>> interface.names_of_classes()  # doctest: +SKIP
        ('background', 'Anterior', 'Posterior')
    """

    layout_description: ClassVar[str] = """\
the Medical Segmentation Decathlon's and nnU-Net's layout
  dataset.json
  imagesTr/case_00.nii.gz         or case_00_0000.nii.gz, case_00_0001.nii.gz, …
  labelsTr/case_00.nii.gz"""
    recognition_order: ClassVar[int] = 10

    # The further arguments are keyword-only here.
    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(channels, classes, three_dim, pattern, part, label_map, class_names, file_ending)

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: ``dataset.json``, or the folder ``imagesTr``."""
        described = find_dataset_json(folder)
        if described is not None:
            return f"it holds {described.name}"
        return "it holds imagesTr/" if (folder / "imagesTr").is_dir() else None

    @classmethod
    def from_description(cls, folder: Path, three_dim: bool) -> Self:
        """Make the interface of a ``dataset.json`` without data, such as that beside a trained model of nnU-Net.

        Args:
            folder: Its folder.
            three_dim: Whether the images are volumes.

        Raises:
            MissingDataError: If there is no ``dataset.json``.
            DataError: If it cannot be used.
        """
        description = read_description(folder)
        if description is None:
            raise MissingDataError(f"{folder} has no {DATASET_JSON}; copy that of the data set")
        names, channels = description.class_names(), description.channel_names
        interface = cls(
            None if channels is None else len(channels),
            len(names),
            three_dim,
            label_map=None if description.ignored is None else {description.ignored: IGNORE},
            class_names=names,
            file_ending=description.file_ending,
        )
        interface.channel_names = channels
        if description.regions is not None:
            interface.regions, interface.regions_class_order = description.regions, description.regions_class_order
        return interface

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True if there is a ``dataset.json``."""
        return find_dataset_json(folder) is not None

    def find_files(self, root: Path) -> FoundFiles:
        """Find the samples of the wanted part, from ``dataset.json`` and the folders beside it.

        Raises:
            MissingDataError: If none exist, or a folder is missing.
            DataError: If ``dataset.json`` cannot be used, or the files are of another format.
        """
        description = read_description(root)
        disk = _Disk(root, self._endings(root, description))
        names = None if description is None else description.channel_names
        self.channel_names = names or None
        channels = self._asked["channels"] or (len(names) if names else None)
        samples: dict[str, SampleFiles] = {}
        validation: dict[str, SampleFiles] = {}
        if self.part in ("training", "all"):
            samples |= _training_cases(disk, description, channels)
            validation = _validation_cases(disk, description, channels)
            twice = sorted(samples.keys() & validation.keys())
            if twice:
                raise DataError(
                    f"{root}: {some_of(twice)} are names of both training and validation cases; rename the files"
                )
            samples |= validation
        if self.part in ("test", "all"):
            test = _test_cases(disk, description, channels, needed=self.part == "test")
            twice = sorted(samples.keys() & test.keys())
            if twice:
                raise DataError(
                    f"{root}: {some_of(twice)} are names of both training and test cases; rename the files, or use "
                    "part='training' or part='test'"
                )
            samples |= test
        first = next((files.images[0] for files in samples.values()), None)
        ending = disk.endings[0] if first is None else ending_of(first)
        written = ending if ending in _IMAGES else prediction_ending(ending)
        found_in = f"{plural(len(validation), 'case')} of them for validation (imagesVa)" if validation else None
        return FoundFiles(
            samples,
            written,
            channels,
            self._class_names(description),
            found_in=found_in,
            validation=validation.keys(),
            ignored=None if description is None else description.ignored,
            **self._regions(description),
        )

    def _regions(self, description: DatasetDescription | None) -> dict[str, Any]:
        if description is None or description.regions is None:
            return {}
        classes = {value: label for value, label in (self.label_map or {}).items() if not is_ignored(label)}
        return {
            "regions": {
                name: sorted({classes.get(value, value) for value in values})
                for name, values in description.regions.items()
            },
            "regions_class_order": [classes.get(value, value) for value in description.regions_class_order or ()],
        }

    def _class_names(self, description: DatasetDescription | None) -> tuple[str, ...] | None:
        if description is None:
            return None
        try:
            return description.class_names(self.label_map)
        except DataError:
            # With `classes` given, the file's labels are optional.
            if self._asked["classes"] is None and self._asked["class_names"] is None:
                raise
            return None

    def _endings(self, root: Path, description: DatasetDescription | None) -> tuple[str, ...]:
        """Return the endings of image files: those of volumes, unless ``dataset.json`` names another one."""
        ending = None if description is None else description.file_ending
        if ending is None:
            return VOLUME_ENDINGS
        if ending in VOLUME_ENDINGS:
            return format_of(f"x{ending}").endings
        if ending in _IMAGES:
            return (ending,)
        assert description is not None
        raise DataError(
            f'{description.path}: files ending in "{ending}" are not supported. Convert them to .nii.gz, for instance '
            "with SimpleITK: WriteImage(ReadImage(old), new); and correct file_ending"
        )


class _Disk:
    """Data files of a data set; each folder is listed once.

    Args:
        root: The folder of the data set.
        endings: Endings of data files in lower case, the preferred one first.
    """

    def __init__(self, root: Path, endings: tuple[str, ...]) -> None:
        self.root = root
        self.endings = endings
        self._known: dict[Path, dict[str, Path]] = {}

    def by_stem(self, folder: Path) -> dict[str, Path]:
        """Return the visible files of a folder with one of the endings, by composed name without it."""
        if folder not in self._known:
            self._known[folder] = self._list(folder) if folder.is_dir() else {}
        return self._known[folder]

    def find(self, path: Path) -> Path:
        """Find a listed file under its spelling on disk; return the path itself if the file is missing.

        Any of the endings matches, since ``.nii.gz`` files may have been unpacked.
        """
        stem = without_ending(path.name, self.endings)
        there = self.by_stem(path.parent)
        for name in (stem, None if stem is None else unquote(stem)):
            if name is not None and composed(name) in there:
                return there[composed(name)]
        return path

    def stem(self, path: Path) -> str:
        """Return the composed name of a data file without its ending."""
        stem = without_ending(path.name, self.endings)
        if stem is None:
            raise _other_format(self.root, path.name, self.endings)
        return composed(stem)

    def _list(self, folder: Path) -> dict[str, Path]:
        found: dict[str, list[Path]] = {}
        for entry in folder_entries(folder):
            stem = without_ending(entry.name, self.endings)
            if not stem:
                continue
            if entry.is_dir():
                logger.warning(
                    "%s is a folder, not a file, and was skipped; move the file inside it to the parent folder",
                    folder / entry.name,
                )
                continue
            found.setdefault(composed(stem), []).append(folder / entry.name)
        for paths in found.values():
            if len(paths) > 1:
                paths.sort(key=lambda path: self.endings.index(ending_of(path)))
                if ending_of(paths[0]) == ending_of(paths[1]):
                    names = " and ".join(distinct([path.name for path in paths[:2]]))
                    raise DataError(f"{folder} holds several files of one sample, {names}; remove all but one")
                warn_of_others(paths[0], paths[1:])
        return {stem: paths[0] for stem, paths in found.items()}


def _training_cases(
    disk: _Disk, description: DatasetDescription | None, channels: int | None
) -> dict[str, SampleFiles]:
    root = disk.root
    listed = None if description is None else description.training
    if listed is not None:
        labels = {image: None if label is None else disk.find(root / label) for image, label in listed}
        images = _listed(disk, [image for image, _ in listed], channels)
        cases = {case: SampleFiles(files, labels[name]) for case, (name, files) in images.items()}
        taken = {path for case in cases.values() for path in case.images}
        unlisted = [path.name for path in disk.by_stem(root / "imagesTr").values() if path not in taken]
        if unlisted:
            logger.warning(
                "%s does not list these files in imagesTr, so they are left out: %s",
                *(
                    root / DATASET_JSON,
                    some_of(unlisted),
                ),
            )
    else:
        labelled = dict(disk.by_stem(root / "labelsTr"))
        found = _found(disk, "imagesTr", channels)
        # A missing label map gets its usual name, for the error message.
        cases = {
            name: SampleFiles(files, labelled.pop(name, root / "labelsTr" / f"{name}{disk.endings[0]}"))
            for name, files in found.items()
        }
        if labelled:
            logger.warning("%s: label maps without an image: %s", root, some_of(sorted(labelled)))
    if description is not None and description.cases_expected not in (None, len(cases)):
        logger.warning("%s declares %s cases, not %d", description.path, description.cases_expected, len(cases))
    return cases


def _validation_cases(
    disk: _Disk, description: DatasetDescription | None, channels: int | None
) -> dict[str, SampleFiles]:
    """Return the cases that AMOS keeps for validation, with label maps in ``labelsVa``; none in other data sets."""
    root = disk.root
    listed = None if description is None else description.validation
    if listed is not None:
        # They may be listed, but not unpacked.
        if not (root / listed[0][0]).parent.is_dir():
            return {}
        labels = {image: None if label is None else disk.find(root / label) for image, label in listed}
        images = _listed(disk, [image for image, _ in listed], channels)
        cases = {case: SampleFiles(files, labels[name]) for case, (name, files) in images.items()}
    elif (root / "imagesVa").is_dir():
        labelled = disk.by_stem(root / "labelsVa")
        found = _found(disk, "imagesVa", channels, needed=False)
        cases = {name: SampleFiles(files, labelled.get(name)) for name, files in found.items()}
    else:
        return {}
    without = [name for name, files in cases.items() if not files.labelled]
    if without:
        logger.warning("%s: validation cases without a label map, left out: %s", root, some_of(without))
    return {name: files for name, files in cases.items() if files.labelled}


def _test_cases(
    disk: _Disk, description: DatasetDescription | None, channels: int | None, needed: bool
) -> dict[str, SampleFiles]:
    root = disk.root
    listed = None if description is None else description.test
    # The Decathlon lists its test cases even if they were not unpacked.
    if listed is not None and (needed or (root / listed[0]).parent.is_dir()):
        images = {case: files for case, (_, files) in _listed(disk, listed, channels).items()}
    elif needed or (root / "imagesTs").is_dir():
        images = _found(disk, "imagesTs", channels, needed)
    else:
        images = {}
    labelled = disk.by_stem(root / "labelsTs")
    return {name: SampleFiles(files, labelled.get(name)) for name, files in images.items()}


def _listed(disk: _Disk, names: Iterable[str], channels: int | None) -> dict[str, tuple[str, tuple[Path, ...]]]:
    """Return the entry and the image files of each listed case; a missing file by its expected path."""
    cases: dict[str, tuple[str, tuple[Path, ...]]] = {}
    numbered = _numbers_are_channels(disk)
    for name in names:
        path = disk.find(disk.root / name)
        case = disk.stem(path)
        files: tuple[Path, ...] = (path,)
        number = _CHANNEL.fullmatch(case)
        if number and number[2] == "0000" and numbered:
            case = number[1]
            files = _channel_files(disk, path.parent, case, channels)
        elif case not in disk.by_stem(path.parent):
            # nnU-Net 1 lists cases without the channel number in their files' names.
            first = f"{case}_0000" in disk.by_stem(path.parent)
            files = _channel_files(disk, path.parent, case, channels) if first else files
        if case in cases:
            raise DataError(f"{disk.root / DATASET_JSON} lists the case {case!r} twice; correct it")
        cases[case] = (name, files)
    return cases


def _found(disk: _Disk, folder_name: str, channels: int | None, needed: bool = True) -> dict[str, tuple[Path, ...]]:
    """Return the image files of each case in a folder; missing channels by their expected name."""
    folder = disk.root / folder_name
    if not folder.is_dir():
        raise _missing_folder(disk.root, folder_name)
    stems = disk.by_stem(folder)
    if not stems:
        others = visible_files(folder)
        if others:
            raise _other_format(folder, others[0].name, disk.endings)
        if needed:
            raise MissingDataError(f"{folder} holds no images; add them, as <case>_0000{disk.endings[0]}")
    numbered = _numbers_are_channels(disk)
    parts: dict[str, dict[int | None, Path]] = {}
    for stem, path in stems.items():
        number = _CHANNEL.fullmatch(stem) if numbered else None
        parts.setdefault(number[1] if number else stem, {})[int(number[2]) if number else None] = path
    cases: dict[str, tuple[Path, ...]] = {}
    for case, files in parts.items():
        if None in files and len(files) > 1:
            raise DataError(
                f"{folder}: several files for the case {case!r}: {some_of(path.name for path in files.values())}; "
                "keep one"
            )
        known = {number: path for number, path in files.items() if number is not None}
        cases[case] = _without_gaps(disk, known, case, channels) if known else tuple(files.values())
    return cases


def _channel_files(disk: _Disk, folder: Path, case: str, channels: int | None) -> tuple[Path, ...]:
    """Return all channels of a case, up to the first missing one."""
    there = disk.by_stem(folder)
    known: dict[int, Path] = {}
    while f"{case}_{len(known):04d}" in there:
        known[len(known)] = there[f"{case}_{len(known):04d}"]
    return _without_gaps(disk, known or {0: folder / f"{case}_0000{disk.endings[0]}"}, case, channels)


def _without_gaps(disk: _Disk, there: Mapping[int, Path], case: str, channels: int | None) -> tuple[Path, ...]:
    """Return the files of all channels; missing ones by their expected name."""
    one = next(iter(there.values()))
    # Colours of a PNG are three channels in one file.
    least = 1 if one.name.lower().endswith(_IMAGES) else channels or 1
    numbers = range(max(max(there) + 1, least))
    return tuple(there.get(number, one.with_name(f"{case}_{number:04d}{ending_of(one)}")) for number in numbers)


def _numbers_are_channels(disk: _Disk) -> bool:
    """Return True if ``case_0000.nii.gz`` is channel 0 of a case, not a case whose label map has the same name."""
    images, labels = disk.by_stem(disk.root / "imagesTr"), disk.by_stem(disk.root / "labelsTr")
    return any(f"{label}_0000" in images for label in labels) or not images.keys() & labels.keys()


def _missing_folder(root: Path, folder: str) -> MissingDataError:
    """Make the error for a missing folder of the layout."""
    inner = next((entry.parent for entry in sorted(root.glob(f"*/{folder}")) if entry.is_dir()), None)
    hint = f"; give the folder of one data set, such as {inner}" if inner else ""
    return MissingDataError(f"{root} holds no folder {folder} (found: {list_files(root)}){hint}")


def _other_format(place: Path, name: str, endings: tuple[str, ...]) -> DataError:
    return DataError(
        f"{place}: {name} does not end in {' or '.join(endings)}. Convert other formats, for instance "
        "with SimpleITK: WriteImage(ReadImage(old), new); images of two dimensions may be PNG, TIFF or BMP if "
        "file_ending in dataset.json is set to it"
    )
