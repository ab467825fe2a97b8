"""Files and folders of samples by their names.

Names match regardless of case and Unicode form. Find sample folders and the files in them, and pair images with masks.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from miscnn_tf._base.files import inside
from miscnn_tf._base.messages import some_of
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError, RepeatedWarning

#: The endings of NIfTI files, the usual one first.
ENDINGS = (".nii.gz", ".nii")
_COMPRESSED = (".nii.gz", ".ppm.gz", ".pgm.gz")

# LiTS has volume-0 and segmentation-0. The last ones are used in DRIVE (21_training, 21_manual1), CHASE
# (Image_01L_1stHO) and STARE (im0001.ah).
_IMAGE_WORDS = "images?|imgs?|im|scan|volume|slice|photo|raw|training|test"
_MASK_WORDS = "masks?|segmentations?|segs?|labels?|lbl|annotations?|ground_?truth|gts?|manual[1-9]?|(?:1st|2nd)HO"
_IMAGE_AFFIX = re.compile(rf"(?:{_IMAGE_WORDS})[-_. ](.+)|(.+)[-_. ](?:{_IMAGE_WORDS})", re.IGNORECASE)
_MASK_AFFIX = re.compile(rf"(?:{_MASK_WORDS})[-_. ](.+)|(.+)[-_. ](?:{_MASK_WORDS})|(.+)\.(?:ah|vk)", re.IGNORECASE)


logger = logging.getLogger(__name__)
_LOOKED_AT = 50


def composed(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC); macOS returns decomposed names, keyboards type composed ones.

    Example:
        >>> composed("Mu\u0308ller") == "M\u00fcller"
        True
    """
    return unicodedata.normalize("NFC", name)


def without_ending(name: str, endings: Sequence[str]) -> str | None:
    """Strip the first matching ending from a file name, case-insensitively; None without a match.

    Example:
        >>> without_ending("scan.NII.GZ", (".nii.gz", ".nii"))
        'scan'
    """
    return next((name[: -len(ending)] for ending in endings if name[-len(ending) :].lower() == ending), None)


def folder_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """List the entries of a folder by name, without hidden files, such as the ``._<name>`` files of macOS.

    Raises:
        DataError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed ({error.strerror or error}); check the path and its permissions"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


def visible_files(folder: str | Path) -> list[Path]:
    """List the files directly in a folder, sorted, without hidden ones; broken links count as files.

    Raises:
        DataError: If the folder cannot be listed.
    """
    return [Path(folder) / entry.name for entry in folder_entries(folder) if not _is_folder(entry)]


def folders_in(folder: str | Path) -> list[Path]:
    """List the folders directly in a folder, sorted, without hidden ones.

    Raises:
        DataError: If the folder cannot be listed.
    """
    return [Path(folder) / entry.name for entry in folder_entries(folder) if _is_folder(entry)]


def first_folders(folder: str | Path, pattern: str | None = None) -> Iterator[Path]:
    """Return the first 50 readable folders in a folder whose whole names match; enough to recognise a layout."""
    expression = name_expression(pattern)
    named = (path for path in folders_in(folder) if matches(expression, path.name))
    return islice((path for path in named if os.access(path, os.R_OK | os.X_OK)), _LOOKED_AT)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself; opening it reports the error
        return False


def find_file(folder: Path, stem: str, endings: Sequence[str], *, any_case: bool = False) -> Path | None:
    """Find the file with a name and one of some endings, case-insensitively.

    The exact spelling is tried first, without listing the folder. A broken link counts as a file, and so does a folder
    of exactly that name if no file has it: opening it raises an error that names the fault.

    Args:
        folder: Where to look; it need not exist.
        stem: The name without the ending; its Unicode form does not matter.
        endings: Endings in small letters, the preferred one first.
        any_case: Whether the stem is also compared case-insensitively.

    Returns:
        The file with the first of the endings; None if there is none.

    Warns:
        RepeatedWarning: If there are several; it names the one that is used.
    """
    found = [path for ending in endings if _is_file(path := folder / f"{stem}{ending}")]
    if not found and folder.is_dir():
        found = _spelled_otherwise(folder, stem, endings, any_case)
    if not found:
        found = [path for ending in endings if os.path.isdir(path := folder / f"{stem}{ending}")][:1]
    if len(found) > 1:
        warn_of_others(found[0], found[1:])
    return found[0] if found else None


def warn_of_others(taken: Path, others: Iterable[Path]) -> None:
    """Warn that one of several matching files is read."""
    names = distinct([taken.name, *(path.name for path in others)])
    warnings.warn(
        RepeatedWarning(
            f"{taken.parent} holds {' and '.join(names)}; {names[0]} is read. Remove the other file",
            key="several files of one name",
        ),
        stacklevel=3,
    )


def distinct(names: Iterable[str]) -> list[str]:
    r"""Format names for a message; names that only look the same are escaped.

    Example:
        >>> distinct(["a", "b"])
        ['a', 'b']
        >>> distinct(["M\u00fcller", "Mu\u0308ller"]) == [r"'M\xfcller'", r"'Mu\u0308ller'"]
        True
    """
    listed = list(names)
    looks = {_look(name) for name in listed}
    # Names that cannot be encoded cannot be printed.
    odd = len(looks) < len(set(listed)) or any("\ud800" <= letter <= "\udfff" for name in listed for letter in name)
    return [ascii(name) for name in listed] if odd else listed


def _look(name: str) -> str:
    """Return the visible form of a name: compatible letters, without format characters and outer blanks."""
    seen = unicodedata.normalize("NFKC", name)
    return "".join(letter for letter in seen if unicodedata.category(letter) not in ("Cf", "Cc")).strip()


def _is_file(path: Path) -> bool:
    # These two do not raise for names that are too long, or that hold a zero byte.
    return os.path.lexists(path) and not os.path.isdir(path)


def _spelled_otherwise(folder: Path, stem: str, endings: Sequence[str], any_case: bool) -> list[Path]:
    wanted = composed(stem).lower() if any_case else composed(stem)
    found = []
    for path in visible_files(folder):
        bare = without_ending(path.name, endings)
        if bare is None:
            continue
        name = composed(bare).lower() if any_case else composed(bare)
        if name == wanted:
            found.append((endings.index(path.name[len(bare) :].lower()), path))
    return [path for _, path in sorted(found)]


def is_nifti(path: str | Path) -> bool:
    """Return True if the name has the ending of a NIfTI file."""
    return str(path).lower().endswith(ENDINGS)


def ending_of(path: Path) -> str:
    """Return the ending of an image's name, in small letters; ``".nii.gz"`` counts as one."""
    return next((ending for ending in _COMPRESSED if path.name.lower().endswith(ending)), path.suffix.lower())


def stem_of(path: Path) -> str:
    """Return the name without the ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def find_nifti(stem: Path, *, any_case: bool = False) -> Path | None:
    """Find ``<stem>.nii.gz`` or ``<stem>.nii``, with the ending in any case of letters; None if neither exists.

    If both exist, the compressed one is used, with a warning (`file_names.find_file`).

    Args:
        stem: The path without the ending.
        any_case: Whether the name before the ending is also compared case-insensitively.
    """
    return find_file(stem.parent, stem.name, ENDINGS, any_case=any_case)


def nifti_files(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by their composed names without the ending, sorted.

    Of ``x.nii.gz`` and ``x.nii`` the compressed one is used, with a warning.
    """
    found: dict[str, list[Path]] = {}
    for path in visible_files(folder):
        stem = without_ending(path.name, ENDINGS)
        if stem:
            found.setdefault(composed(stem), []).append(path)
    for paths in found.values():
        if len(paths) > 1:
            paths.sort(key=lambda path: ENDINGS.index(ending_of(path)))
            warn_of_others(paths[0], paths[1:])
    return {stem: found[stem][0] for stem in sorted(found)}


class Pairs(NamedTuple):
    """Images and masks that belong together.

    Attributes:
        masks: The mask of each image that has one.
        images_alone: Images without a mask, sorted.
        masks_alone: Masks without an image, sorted.
    """

    masks: dict[str, str]
    images_alone: list[str]
    masks_alone: list[str]


def pair(images: Iterable[str], masks: Iterable[str], where: str = "the folder") -> Pairs:
    """Pair names without endings: equal ones, then ``x`` with ``x_mask``, then ``img_1`` with ``mask_1``.

    Recognised words are image, img, im, scan, volume, slice, photo, raw, training, test; and mask, segmentation, seg,
    label, lbl, annotation, groundtruth, gt, manual, manual1, 1stHO; before or after the rest of the name, separated by
    ``_``, ``-``, a dot or a blank.

    Args:
        images: Names of images.
        masks: Names of masks.
        where: Their folder, for the message.

    Raises:
        DataError: If a mask could belong to two images, or an image have two masks; the message names them.

    Example:
        >>> pair(["a", "b", "img_7"], ["a", "b_mask", "mask_7", "c"]).masks
        {'a': 'a', 'b': 'b_mask', 'img_7': 'mask_7'}
    """
    left = sorted(set(images))
    masks = sorted(set(masks))
    claims: dict[str, list[str]] = defaultdict(list)
    for mask in masks:
        for name in dict.fromkeys((mask, bare_mask(mask))):
            claims[name].append(mask)
    found: dict[str, str] = {}
    for image in left:
        if claims.get(image):
            found[image] = _only(claims[image], f"the image {image!r} could have the masks", where)
    _require_one_owner(found, where)
    taken = set(found.values())
    bare: dict[str, list[str]] = defaultdict(list)
    for image in left:
        if image not in found:
            bare[bare_image(image)].append(image)
    for name, owners in bare.items():
        free = [mask for mask in claims.get(name, []) if mask not in taken]
        if free:
            mask = _only(free, f"the image {owners[0]!r} could have the masks", where)
            found[_only(owners, f"the mask {mask!r} could belong to", where)] = mask
    _require_one_owner(found, where)
    taken = set(found.values())
    return Pairs(found, [name for name in left if name not in found], [name for name in masks if name not in taken])


def bare_mask(name: str) -> str:
    """Return a mask's name without the word for mask: ``"x"`` for ``"x_mask"`` or ``"seg-x"``."""
    match = _MASK_AFFIX.fullmatch(name)
    return next(part for part in match.groups() if part) if match else name


def bare_image(name: str) -> str:
    """Return an image's name without the word for image: ``"1"`` for ``"img_1"``."""
    match = _IMAGE_AFFIX.fullmatch(name)
    return next(part for part in match.groups() if part) if match else name


def _only(candidates: list[str], what: str, where: str) -> str:
    if len(candidates) > 1:
        raise DataError(
            f"{where}: {what} {', '.join(map(repr, candidates[:5]))}; rename or remove the others, or choose the masks "
            "of one annotator with mask_pattern='.*_1stHO' (merge one mask per object into one label map)"
        )
    return candidates[0]


def _require_one_owner(found: Mapping[str, str], where: str) -> None:
    owners: dict[str, str] = {}
    for image, mask in found.items():
        other = owners.setdefault(mask, image)
        if other != image:
            raise DataError(f"{where}: the mask {mask!r} could belong to {other!r} and {image!r}; rename one of them")


def find_samples(
    input_path: str | Path, pattern: str | None, has_image: Callable[[Path], bool], image_name: str
) -> list[Hashable]:
    """Find the sample folders directly below `input_path`, and return their names, sorted.

    Files, hidden folders, folders whose name does not fully match `pattern` and folders without an image are left out.
    A folder that cannot be read counts as a sample, so that reading it reports the fault instead of leaving it out
    silently.

    Args:
        input_path: The folder of the data set.
        pattern: Regular expression that the whole folder name must match; None takes all.
        has_image: Returns whether a folder holds the image of a sample.
        image_name: Name of that file, for messages.

    Raises:
        ConfigurationError: If `pattern` is not a valid regular expression.
        MissingDataError: If the folder does not exist, or no sample in it; the message lists what was found.
    """
    root = Path(input_path)
    expression = name_expression(pattern)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise MissingDataError(f"the data folder {root} {what}; give the folder that holds one folder per sample")
    folders = [root / entry.name for entry in folder_entries(root) if _may_be_folder(entry)]
    matching = [path for path in folders if matches(expression, path.name)]
    samples = [path for path in matching if _may_have_image(path, has_image)]
    for path in matching:
        if path not in samples:
            logger.info("%s is not a sample: it holds no %s", path, image_name)
    if not samples:
        raise MissingDataError(_nothing(root, pattern, folders, matching, image_name, has_image(root)))
    # Sorted by name, independent of the file system's order.
    names: list[Hashable] = []
    names.extend(sorted(path.name for path in samples))
    return names


def first_image(root: Path, pattern: str | None, find_image: Callable[[Path], Path | None]) -> Path | None:
    """Return the image of the first of 50 folders in `root` that has one; folders that cannot be read are skipped.

    Args:
        root: The folder of the data set.
        pattern: Regular expression that the whole folder name must match; None takes all.
        find_image: Returns the image in a folder, or None.
    """
    for folder in first_folders(root, pattern):
        try:
            image = find_image(folder)
        except (DataError, OSError) as error:
            logger.debug("%s: %s", folder, error)
            continue
        if image is not None:
            return image
    return None


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return True


def _may_have_image(folder: Path, has_image: Callable[[Path], bool]) -> bool:
    try:
        os.stat(folder)
        return has_image(folder)
    except (DataError, OSError) as error:
        logger.info("%s cannot be read, and counts as a sample: %s", folder, error)
        return True


def name_expression(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `pattern`.

    Raises:
        ConfigurationError: If it is not a valid regular expression.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"pattern={pattern!r} is not a valid regular expression ({error})") from error


def matches(expression: re.Pattern[str] | None, name: str) -> bool:
    """Return True if an expression is None or matches a whole name, as on disk or in composed form."""
    return expression is None or any(expression.fullmatch(form) for form in (name, composed(name)))


def sample_folder(input_path: str | Path | None, index: Hashable, owner: object) -> Path:
    """Return the folder of a sample; the Unicode form of its name does not matter.

    Raises:
        ConfigurationError: If the interface is not initialised.
        DataError: If the index is a path outside the data folder.
        MissingDataError: If the sample does not exist.
    """
    if input_path is None:
        raise ConfigurationError(
            f"{type(owner).__name__} has not read a data folder yet: call initialize(input_path), or use Data_IO"
        )
    folder = folder_below(input_path, index)
    if not folder.is_dir():
        raise MissingDataError(f"sample {index!r} is not in {input_path}; Data_IO.get_indiceslist() lists all samples")
    return folder


def folder_below(root: str | Path, index: Hashable) -> Path:
    """Return the folder of a sample below `root`, in its spelling on disk; it need not exist.

    Raises:
        DataError: If the index is a path outside `root`.
    """
    folder = inside(root, index)
    if folder.is_dir() or not folder.parent.is_dir():
        return folder
    names = (entry.name for entry in folder_entries(folder.parent) if composed(entry.name) == composed(folder.name))
    return folder.with_name(next(names, folder.name))


def list_files(folder: Path) -> str:
    """List the files of a folder, for a message; folders that are named like files end in a slash."""
    if not folder.is_dir():
        return "nothing: the folder does not exist"
    slash = {True: "/", False: ""}
    entries = folder_entries(folder)
    return some_of(distinct([entry.name + slash["." in entry.name and entry.is_dir()] for entry in entries]))


def _nothing(
    root: Path, pattern: str | None, folders: list[Path], matching: list[Path], image_name: str, is_sample: bool
) -> str:
    if is_sample:
        return f"{root} is itself a sample (it holds the image); give the folder above it, {root.parent}"
    if not folders:
        return f"{root} holds no sample folders (found: {list_files(root)}); each sample is a folder with {image_name}"
    if not matching:
        return (
            f"pattern={pattern!r} matches none of the {len(folders)} folders in {root} "
            f"({some_of(path.name for path in folders)}); it must match the whole folder name"
        )
    return (
        f"none of the {len(matching)} folders in {root} holds {image_name}; {matching[0].name} holds "
        f"{list_files(matching[0])}. Rename the files, or choose the interface of their format"
    )
