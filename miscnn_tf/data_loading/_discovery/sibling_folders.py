"""Detection of folders of images beside folders of their masks by names such as ``train`` and ``train_masks``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from miscnn_tf.data_loading._discovery.mask_folders import ANY_ENDING, masks_in
from miscnn_tf.data_loading.file_names import composed, folders_in, visible_files, without_ending
from miscnn_tf.errors import DataError

# Beside data, a root may hold one folder per patient; those are not listed one by one.
_MOST = 50
_MASK_WORD = re.compile(
    r"(?:^|[-_ .])(?:masks?|labels?|annot(?:ation)?s?|ground[-_ ]?truths?|gts?|seg(?:mentation)?s?)(?=$|[-_ .])",
    re.IGNORECASE,
)
_ROLES = {
    "training": re.compile(r"train(?:ing)?", re.IGNORECASE),
    "validation": re.compile(r"val(?:id(?:ation)?)?", re.IGNORECASE),
    "test": re.compile(r"test(?:ing)?", re.IGNORECASE),
}
_SEPARATOR = re.compile(r"[-_ .]")


class FolderPair(NamedTuple):
    """Folder of images and folder of their masks."""

    images: Path
    masks: Path


def role_in(name: str) -> str | None:
    """Return the part of a data set that a word in a folder's name means: "training", "validation" or "test".

    Example:
        >>> role_in("ISIC2018_Task1_Training_GroundTruth"), role_in("stage1_test"), role_in("images")
        ('training', 'test', None)
    """
    found = {role for word in _SEPARATOR.split(name) for role, words in _ROLES.items() if words.fullmatch(word)}
    return found.pop() if len(found) == 1 else None


def has_sibling_pairs(root: Path) -> bool:
    """Return True if the files of a folder, by its name one of masks, match those of a folder beside it."""
    return any(_candidates(root).values())


def sibling_pairs(root: Path) -> list[FolderPair]:
    """Return the folders of images in a folder, each with the folder of its masks.

    A folder of masks belongs to the one whose files match by name; among several to that of the same name,
    ``train_masks`` to ``train``, or of the same part.

    Raises:
        DataError: If several folders match; the message lists them, and what to give.
    """
    pairs = [FolderPair(images, masks) for masks, candidates in _candidates(root).items() for images in candidates]
    ambiguous = len({pair.masks for pair in pairs}) < len(pairs) or len({pair.images for pair in pairs}) < len(pairs)
    if ambiguous:
        raise several_pairs(root, pairs)
    return pairs


def several_pairs(root: Path, pairs: list[FolderPair]) -> DataError:
    """Make the error for several folders of images and masks, of which one must be chosen."""
    choices = "\n".join(f"  image_folder={pair.images.name!r}, mask_folder={pair.masks.name!r}" for pair in pairs)
    return DataError(f"{root} holds several possible folders of images and masks:\n{choices}\nChoose one pair")


def _candidates(root: Path) -> dict[Path, list[Path]]:
    """Return the folders of images that may belong to each folder of masks."""
    folders = folders_in(root)
    with_word = [path for path in folders if _MASK_WORD.search(path.name)]
    mask_folders = [path for path in with_word if _without_word(path)]  # "masks" alone names no folder of images
    image_folders = [path for path in folders if path not in with_word]
    if not mask_folders or len(folders) > _MOST:
        return {}
    images = {path: _by_stem(path) for path in image_folders}
    return {masks: _likely(masks, images) for masks in mask_folders}


def _likely(masks: Path, images: Mapping[Path, Mapping[str, Path]]) -> list[Path]:
    matching = [folder for folder, files in images.items() if files and masks_in(masks, files, ANY_ENDING)]
    if len(matching) > 1:
        matching = [folder for folder in matching if folder.name.lower() == _without_word(masks)] or matching
    if len(matching) > 1:
        matching = [folder for folder in matching if role_in(folder.name) == role_in(masks.name)] or matching
    return matching


def _without_word(masks: Path) -> str:
    return _MASK_WORD.sub("", masks.name).strip("-_ .").lower()


def _by_stem(folder: Path) -> dict[str, Path]:
    stems = ((without_ending(path.name, ANY_ENDING), path) for path in visible_files(folder))
    return {composed(stem): path for stem, path in stems if stem}
