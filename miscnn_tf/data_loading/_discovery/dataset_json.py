"""Parser of the ``dataset.json`` of the Medical Segmentation Decathlon and of nnU-Net."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from miscnn_tf._base.messages import some_of
from miscnn_tf._base.plain_files import read_json
from miscnn_tf.data_loading.file_names import find_file
from miscnn_tf.errors import DataError, RepeatedWarning

#: Name of the file.
DATASET_JSON = "dataset.json"

_WHOLE = re.compile(r"\d{1,9}(?:\.0*)?", re.ASCII)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_LONGEST = 4096


class _Regions(NamedTuple):
    """Values by the name of a region, the value that is written in each, and that of voxels without annotation."""

    labels: dict[str, tuple[int, ...]]
    class_order: tuple[int, ...]
    ignored: int | None


@dataclass(frozen=True)
class DatasetDescription:
    """Content of a ``dataset.json``.

    Attributes:
        path: The file.
        channel_names: ``("T2", "ADC")``; None if missing.
        labels: Name of each value in the segmentations; None if missing or unusable.
        ignored: The value of voxels without annotation; None if there is none.
        regions: Values by the name of a region; None if the labels are classes.
        regions_class_order: The value that predictions hold in each region; None if the labels are classes.
        trouble: Reason why `labels` cannot be used, for an error message; None if they can.
        file_ending: ``".nii.gz"``; None if missing.
        training: The cases that it lists, as name of the image file and of the label file (None: no label), relative to
            the folder; None if it lists none.
        validation: The cases that it lists for validation, likewise, as AMOS does.
        test: The image files of the test cases that it lists; None if it lists none.
        cases_expected: Number of training cases that it declares.
    """

    path: Path
    channel_names: tuple[str, ...] | None
    labels: dict[int, str] | None
    ignored: int | None
    regions: dict[str, tuple[int, ...]] | None
    regions_class_order: tuple[int, ...] | None
    trouble: str | None
    file_ending: str | None
    training: list[tuple[str, str | None]] | None
    validation: list[tuple[str, str | None]] | None
    test: list[str] | None
    cases_expected: int | None

    def class_names(self, label_map: Mapping[int, int] | None = None) -> tuple[str, ...]:
        """Return a name per class, background first.

        Args:
            label_map: Labels for values in the files, ``{4: 3}``.

        Raises:
            DataError: If the labels are not 0, 1, 2, … (after `label_map`), or cannot be used.
        """
        if self.labels is None:
            raise DataError(f"{self.path}: {self.trouble}")
        names: dict[int, str] = {}
        for value, name in sorted(self.labels.items()):
            names.setdefault((label_map or {}).get(value, value), name)
        names.setdefault(0, "background")
        if sorted(names) != list(range(len(names))):
            values = [0, *sorted(value for value in self.labels if value != 0)]
            proposal = {value: place for place, value in enumerate(values) if value != place}
            raise DataError(
                f"{self.path}: the labels are {some_of(sorted(self.labels), 10)}, but classes are numbered 0, 1, 2, … "
                f"without gaps; map the values with label_map={proposal}"
            )
        return tuple(names[value] for value in sorted(names))


def find_dataset_json(folder: Path) -> Path | None:
    """Find the ``dataset.json`` of a folder, case-insensitively; None if missing."""
    return find_file(folder, "dataset", (".json",), any_case=True)


def read_description(folder: Path) -> DatasetDescription | None:
    """Read the ``dataset.json`` of a folder; None if there is none.

    Raises:
        DataError: If it is not valid JSON, or an entry cannot be used; the message names file and entry.
    """
    path = find_dataset_json(folder)
    if path is None:
        return None
    content = read_json(path, "it comes with the data set", "correct it, or take it from the data set's archive again")
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object {{…}} with labels, not a {type(content).__name__}; correct it")
    labels, trouble = _labels(content.get("labels"))
    ignored, regions = None, None
    if labels is None and trouble is None:
        found = _regions(content)
        if isinstance(found, str):
            trouble = found
        else:
            regions, labels, ignored = found, _labels_of(found.labels), found.ignored
    elif labels is not None:
        ignored = next((number for number, name in labels.items() if _is_ignored(name)), None)
        labels = {number: name for number, name in labels.items() if number != ignored}
    return DatasetDescription(
        path=path,
        channel_names=_channel_names(content, path),
        labels=labels,
        ignored=ignored,
        regions=None if regions is None else regions.labels,
        regions_class_order=None if regions is None else regions.class_order,
        trouble=trouble,
        file_ending=_file_ending(content, path),
        training=_cases(content, path, "training"),
        validation=_cases(content, path, "validation"),
        test=_test(content, path),
        cases_expected=_whole(content.get("numTraining")),
    )


def _file_ending(content: Mapping[str, Any], path: Path) -> str | None:
    ending = content.get("file_ending")
    if ending is None:
        return None
    if not isinstance(ending, str) or not ending.strip(". ") or "/" in ending or "\\" in ending:
        raise DataError(f'{path}: "file_ending" is {ending!r}, but an ending such as ".nii.gz" is needed; correct it')
    return f".{ending.strip().lower().removeprefix('.')}"


def _channel_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
    both = {key: _names_under(key, content[key], path) for key in ("channel_names", "modality") if content.get(key)}
    if len({len(names) for names in both.values()}) > 1:
        counts = " and ".join(f'"{key}" names {len(names)} channels' for key, names in both.items())
        raise DataError(f"{path}: {counts}; correct one of them, or take it out")
    return next(iter(both.values()), None)


def _names_under(key: str, names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, str):
        return (names,)
    if isinstance(names, list):
        return tuple(str(name) for name in names)
    numbers = {_whole(number): str(name) for number, name in names.items()} if isinstance(names, dict) else {}
    if not numbers or set(numbers) != set(range(len(names))):
        raise DataError(
            f'{path}: "{key}" is {names!r}, but one name per channel is needed, {{"0": "T2", "1": "ADC"}}; correct it'
        )
    return tuple(numbers[number] for number in range(len(numbers)))


def _labels(entry: Any) -> tuple[dict[int, str] | None, str | None]:
    """Return the labels by value, or the reason why they cannot be used; neither for regions."""
    if not isinstance(entry, dict) or not entry:
        return (
            None,
            f'"labels" is {entry!r}, but {{"0": "background", "1": "liver"}} is needed; correct it, or give classes',
        )
    if any(_is_region(value) for value in entry.values()):
        return None, None
    # The Decathlon and nnU-Net 1 have {"1": "liver"}, nnU-Net 2 has {"liver": 1}.
    by_key = {key: number for key in entry if (number := _whole(key)) is not None}
    by_value = {key: number for key, value in entry.items() if (number := _label_value(value)) is not None}
    either = [key for key in by_key if key in by_value and by_key[key] != by_value[key]]
    if either and len(by_key) == len(by_value) == len(entry):
        return None, (
            f'"labels" has the entry {either[0]!r}: {entry[either[0]]!r}, where either may be the value; write '
            'names with a letter in them ({"class 1": 2}), or give classes'
        )
    labels: dict[int, str] = {}
    for key, value in entry.items():
        valued = key in by_value and (key not in by_key or len(by_value) == len(entry))
        number, name = (by_value.get(key), key) if valued else (by_key.get(key), value)
        if number is None or number < 0 or isinstance(name, bool) or not isinstance(name, str | int | float):
            return None, (
                f'"labels" has the entry {key!r}: {value!r}, but {{"1": "liver"}} or {{"liver": 1}} is needed; correct '
                "it, or give classes"
            )
        if number in labels:
            return None, (
                f'"labels" has two names for {number}, {labels[number]!r} and {name!r}; correct it, or give classes'
            )
        labels[number] = str(name)
    return labels, None


def _is_ignored(name: str) -> bool:
    return name.strip().lower() == "ignore"


def _regions(content: Mapping[str, Any]) -> _Regions | str:
    """Return the regions of nnU-Net's form, or the reason why they cannot be used."""
    regions: dict[str, tuple[int, ...]] = {}
    ignored = None
    for name, value in content["labels"].items():
        numbers = _all_whole(value if isinstance(value, list) else [value])
        if not numbers:
            return (
                f'"labels" has the entry {name!r}: {value!r}, but with regions a value or a list of values is '
                'needed, {"tumour": [1, 2]}; correct it, or give classes and regions'
            )
        if _is_ignored(name):
            ignored = numbers[0]
        elif numbers != (0,):
            regions[name] = numbers
    order = content.get("regions_class_order")
    written = _all_whole(order) if isinstance(order, list) else None
    if written is None or len(written) != len(regions):
        return (
            f'"regions_class_order" is {order!r}, but it needs a value for each of the {len(regions)} regions '
            f"({some_of(regions)}): the one that predictions hold in the region, in the order in which they are "
            "written; correct it, or give classes and regions"
        )
    return _Regions(regions, written, ignored)


def _all_whole(values: list[Any]) -> tuple[int, ...] | None:
    """Return whole numbers that are not negative; None if there are others."""
    numbers = tuple(number for value in values if (number := _whole(value)) is not None and number >= 0)
    return numbers if len(numbers) == len(values) else None


def _labels_of(regions: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Return a name for each value in regions: that of the region of this value alone, or its number."""
    alone = {values[0]: name for name, values in regions.items() if len(values) == 1}
    values = sorted({value for values in regions.values() for value in values})
    return {0: "background", **{value: alone.get(value, f"label {value}") for value in values if value}}


def _is_region(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(_whole(one) is not None for one in value)


def _label_value(value: Any) -> int | None:
    """Parse a label in nnU-Net's form; a list of one value is that value."""
    return _whole(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _whole(value: Any) -> int | None:
    """Parse a whole number in any notation: 1, 1.0, "1", "1.0"."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _cases(content: Mapping[str, Any], path: Path, key: str) -> list[tuple[str, str | None]] | None:
    _refuse_file_lists(content, path)
    entries = content.get(key)
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list):
        raise DataError(
            f'{path}: "{key}" is a {type(entries).__name__}, but a list of {{"image": …, "label": …}} is needed; '
            "correct it, or take it out: the folders are read then"
        )
    found = []
    for entry in entries:
        pair = entry if isinstance(entry, dict) else {"image": entry}
        image, label = pair.get("image"), pair.get("label")
        found.append((_relative(image, path), None if label is None else _relative(label, path)))
    return [pair for pair in found if not _hidden(pair[0])] or None


def _refuse_file_lists(content: Mapping[str, Any], path: Path) -> None:
    """Refuse nnU-Net 2's list of files anywhere on the disk; nothing outside the folder is read here."""
    listed = content.get("dataset")
    if isinstance(listed, dict) and any(isinstance(case, dict) and "images" in case for case in listed.values()):
        raise DataError(
            f'{path} lists the files of its {len(listed)} cases under "dataset", which is not supported. Link the '
            'files into imagesTr and labelsTr, and take "dataset" out'
        )


def _test(content: Mapping[str, Any], path: Path) -> list[str] | None:
    entries = content.get("test")
    if not isinstance(entries, list):
        return None
    found = [_relative(entry.get("image") if isinstance(entry, dict) else entry, path) for entry in entries]
    return [name for name in found if not _hidden(name)] or None


def _hidden(name: str) -> bool:
    return Path(name).name.startswith(".")


def _relative(entry: Any, path: Path) -> str:
    """Return a file's path relative to the folder of ``dataset.json``; paths outside the folder are refused."""
    if not isinstance(entry, str):
        raise DataError(f"{path}: {entry!r} is not the path of a file; correct it")
    try:
        name, moved = relative_to_folder(entry, path.parent)
    except ListedPathError as reason:
        raise DataError(f"{path}: the file {entry!r} {reason}") from None
    if moved:
        warnings.warn(
            RepeatedWarning(
                f"{path} lists files in another folder, such as {entry!r}; {path.parent / name} is read instead",
                key=f"moved: {path}",
            ),
            stacklevel=2,
        )
    return name


class ListedPathError(ValueError):
    """Error for a listed path; the message continues a sentence that begins with the path."""


def relative_to_folder(entry: str, folder: Path) -> tuple[str, bool]:
    r"""Return the path of a listed file relative to the folder of the list; paths outside the folder are refused.

    Args:
        entry: The listed path: relative to the folder or absolute, with slashes or backslashes.
        folder: The folder of the list.

    Returns:
        The relative path with slashes; and whether the entry is the path of a missing file elsewhere, which is replaced
        by the file of the same folder and name below `folder`.

    Raises:
        ListedPathError: If it is empty, or outside the folder.

    Example:
        >>> relative_to_folder(".\\imagesTr\\a.nii.gz", Path("data"))
        ('imagesTr/a.nii.gz', False)
    """
    if not entry.strip() or not _is_path(entry):
        raise ListedPathError("is not a path; correct it")
    text = re.sub("^/{2,}", "/", entry.replace("\\", "/"))
    of_windows = os.name != "nt" and _WINDOWS.match(entry) is not None
    if not of_windows:
        below = _below(text, folder)
        if below == ".":
            raise ListedPathError("is the folder itself; correct it")
        if below is not None:
            return below, False
    if of_windows or (os.path.isabs(text) and not os.path.lexists(text)):
        parts = [part for part in text.split("/") if part]
        # The parent folder (imagesTr) must match, too, so that a file of another folder is not used by mistake.
        tails = ("/".join(parts[start:]) for start in range(len(parts) - 1) if ".." not in parts[start:])
        moved = next((tail for tail in tails if os.path.isfile(folder / tail)), None)
        if moved is not None:
            return moved, True
    raise ListedPathError(
        f"is outside {folder}, and only files inside are read. Copy or link it there, and list it like "
        '"./imagesTr/case_00.nii.gz"'
    )


def _is_path(entry: str) -> bool:
    try:
        return "\0" not in entry and len(os.fsencode(entry)) <= _LONGEST
    except UnicodeEncodeError:
        return False


def _below(entry: str, folder: Path) -> str | None:
    """Return the path relative to the folder, also if one of them contains a link; None if it is outside."""
    path = os.path.normpath(os.path.join(os.path.abspath(folder), entry))
    for real in (False, True):  # links are resolved only if needed, since that accesses the disk
        root = os.path.realpath(folder) if real else os.path.abspath(folder)
        whole = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) if real else path
        if Path(whole).is_relative_to(root):
            return Path(whole).relative_to(root).as_posix()
    return None
