"""Detection of the folder with the masks, by its name and by the names and sizes of its files."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from miscnn_tf.data_loading._discovery.annotators import first_folder
from miscnn_tf.data_loading._discovery.field_of_view import FOLDER, are_fields_of_view
from miscnn_tf.data_loading.file_names import (
    bare_mask,
    composed,
    distinct,
    folder_entries,
    pair,
    visible_files,
    without_ending,
)
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.image_file import LOSSY, MASKS
from miscnn_tf.data_loading.formats.volumes import VOLUME_ENDINGS, has_volume_ending, is_volume, read_info
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

#: Names of folders of images, case-insensitively; the last one is STARE's.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "stare-images")
#: Names of folders of masks, case-insensitively; the last ones are used in data sets of retinal vessels.
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "groundtruth", "ground_truth"),
    *("ground truth", "ground-truth", "gt"),
    *("segmentations", "segmentation", "segs", "seg"),
    *("manual", "manual1", "manual2", "1st_manual", "2nd_manual", "labels-ah", "labels-vk"),
)

# Folders beside the images whose files have the same names, but are not masks.
_NO_MASKS = re.compile(
    r"(?:.*[-_ .])?(?:fovs?|field[-_ .]?of[-_ .]?view|pred(?:iction)?s?|outputs?|results?|overlays?|previews?"
    r"|thumb(?:nail)?s?)(?:[-_ .].*)?|(?:images?|imgs?)[-_ .](?:orig(?:inals?)?|raw|old|resized|small|large)",
    re.IGNORECASE,
)
_LOSSLESS = (*VOLUME_ENDINGS, *(f".{ending}" for ending in MASKS))
#: Endings of images and masks.
ANY_ENDING = (*_LOSSLESS, *(f".{ending}" for ending in LOSSY))
_CHANNEL = re.compile(r"(.+)_\d{4}")
_COMPARED = 3


class MaskFolder(NamedTuple):
    """Folder of masks.

    Attributes:
        path: The folder.
        remark: What was decided by names or contents, for messages; empty if it is the only one.
    """

    path: Path
    remark: str = ""


def choose_mask_folder(root: Path, image_folders: Sequence[Path], images: Mapping[str, Path]) -> MaskFolder | None:
    """Return the folder in `root` that holds the masks of some images; None if no folder has such a name.

    A folder ``mask`` with fields of view is left out, and of several annotators' folders the first one is used.

    Args:
        root: The data folder.
        image_folders: The folders of the images.
        images: The images by their composed names without ending.

    Raises:
        DataError: If the file names in several folders match the images.
    """
    field = _field_of_view(root, image_folders, images)
    named = [path for path in _candidates(root, [*image_folders, *field]) if path.name.lower() in MASK_FOLDERS]
    if not named:
        return None
    fits = {path: _number_of_masks(path, images, ANY_ENDING) for path in named}
    # A folder called labels may hold text files with bounding boxes, beside another one with masks.
    chosen = [path for path in named if fits[path]] or named
    rivals = fitting_folders(root, [*image_folders, *field], images, at_least=max(fits.values()) // 2)
    possible = [*chosen, *(path for path in rivals if path not in chosen)] if any(fits.values()) else chosen
    remarks = [f"{path.name} holds fields of view" for path in field]
    if len(possible) > 1:
        first = first_folder(possible)
        if first is None:
            raise _several(root, possible)
        possible, remarks = [first[0]], [first[1], *remarks]
    return MaskFolder(possible[0], "; ".join(remarks))


def _several(root: Path, possible: Sequence[Path]) -> DataError:
    names = distinct([path.name for path in possible])
    return DataError(
        f"{root} holds several possible folders of masks, {', '.join(names)}; choose one: "
        f"{' or '.join(f'mask_folder={path.name!r}' for path in possible)}. Their file names match the images; one "
        "of them may hold the field of view, or another annotator's masks"
    )


def _field_of_view(root: Path, image_folders: Sequence[Path], images: Mapping[str, Path]) -> list[Path]:
    """Return the folder ``mask`` if it holds fields of view."""
    folders = _candidates(root, image_folders)
    others = [path for path in folders if path.name.lower() in MASK_FOLDERS and path.name.lower() != FOLDER]
    return [
        path
        for path in folders
        if path.name.lower() == FOLDER
        and are_fields_of_view(masks_in(path, images, _LOSSLESS), images, alone=not others)
    ]


def fitting_folders(
    root: Path, image_folders: Sequence[Path], images: Mapping[str, Path], *, at_least: int = 0
) -> list[Path]:
    """Return the folders beside the images whose files match the images by name and size.

    Args:
        root: The data folder.
        image_folders: The folders of the images.
        images: The images by their composed names without ending.
        at_least: Number of images that must have a file there.
    """
    return [
        path
        for path in _candidates(root, image_folders)
        if _number_of_masks(path, images, _LOSSLESS) >= max(at_least, 1) and _same_size(path, images)
    ]


def _candidates(root: Path, image_folders: Sequence[Path]) -> list[Path]:
    folders = [root / entry.name for entry in folder_entries(root) if entry.is_dir()]
    return [path for path in folders if path not in image_folders and not _NO_MASKS.fullmatch(path.name)]


def _number_of_masks(folder: Path, images: Mapping[str, Path], endings: tuple[str, ...]) -> int:
    return len(masks_in(folder, images, endings))


def masks_in(folder: Path, images: Mapping[str, Path], endings: tuple[str, ...]) -> dict[str, Path]:
    """Return a file for each image that may have its mask in a folder."""
    stems = ((without_ending(path.name, endings), path) for path in visible_files(folder))
    masks = {composed(stem): path for stem, path in stems if stem}
    # Several channel files share a mask.
    bare = {
        match[1]: path
        for name, path in images.items()
        if (match := _CHANNEL.fullmatch(name)) and has_volume_ending(path)
    }
    names = set(images) if set(images) & set(masks) else {*images, *bare}
    try:
        return {image: masks[mask] for image, mask in pair(names, masks).masks.items()}
    except DataError:  # an image may match two masks; either shows that the folder matches
        either = {form: path for stem, path in masks.items() for form in (stem, bare_mask(stem))}
        return {name: either[name] for name in names if name in either}


def _same_size(folder: Path, images: Mapping[str, Path]) -> bool:
    """Return True if the first masks have their images' size, or the headers cannot be read."""
    for name, mask in list(masks_in(folder, images, _LOSSLESS).items())[:_COMPARED]:
        image = images.get(name)
        try:
            if image is not None and _size(image) != _size(mask):
                return False
        except DataError as error:
            logger.debug("%s", error)
    return True


def _size(path: Path) -> tuple[int, ...]:
    return read_info(path).shape[:3] if is_volume(path) else image_file.image_size(path)
