"""Detection of folders that hold the parts of a data set: ``train`` and ``val``, or ``images/train``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from miscnn_tf.data_loading._discovery.mask_folders import IMAGE_FOLDERS, MASK_FOLDERS
from miscnn_tf.data_loading._discovery.sibling_folders import role_in, sibling_pairs
from miscnn_tf.data_loading.file_names import folders_in
from miscnn_tf.errors import DataError

#: Roles of parts.
ROLES = _TRAINING, _VALIDATION, _TEST = ("training", "validation", "test")
# Only names of parts count, since a folder such as train_masks has another purpose.
_PART = re.compile(
    r"(?:stage1_)?(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?:[-_ ]?(?:set|data))?", re.IGNORECASE
)
# Parts of one training set: BraTS' grades, and the archives of LiTS.
_SHARE = re.compile(r"HGG|LGG|(?:training[-_ ]?)?batch[-_ ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Folder with a part of a data set.

    Attributes:
        role: "training", "validation" or "test".
        name: Name of the part, for messages and names of samples.
        folder: Its data folder.
        settings: Arguments of the interface that reads it.
    """

    role: str
    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict, hash=False)


def possible_parts(root: Path) -> Iterator[list[Part]]:
    """Return lists of folders that may be the parts of a data set, each with a training part and another one.

    Raises:
        DataError: If folders of images and masks cannot be matched, or two folders are the same part.
    """
    for found in (part_folders(root), _pairs_below(root), _siblings(root)):
        parts = list(found)
        roles = [part.role for part in parts]
        if _TRAINING in roles and len(parts) > 1:
            yield parts


def part_folders(root: Path) -> list[Part]:
    """Return the folders in a folder that have the names of parts, ``train`` and ``val``, or of shares of a part.

    Raises:
        DataError: If two folders are the same part.
    """
    return list(_folders(root))


def _folders(root: Path) -> Iterator[Part]:
    whole: dict[str, Path] = {}
    for folder in folders_in(root):
        if _PART.fullmatch(folder.name):
            other = whole.setdefault(_role_of(folder.name), folder)
            if other != folder:
                raise DataError(
                    f"{root} holds {other.name} and {folder.name}, which may both be the {_role_of(folder.name)} part; "
                    "rename one of them, or give the folder of one part"
                )
            yield Part(_role_of(folder.name), folder.name, folder)
        elif _SHARE.fullmatch(folder.name):
            yield Part(_TRAINING, folder.name, folder)


def _pairs_below(root: Path) -> Iterator[Part]:
    """Return ``images/train`` and ``masks/train``, ``images/val`` and ``masks/val``, …."""
    folders = folders_in(root)
    images = [path for path in folders if path.name.lower() in IMAGE_FOLDERS]
    masks = [path for path in folders if path.name.lower() in MASK_FOLDERS]
    if len(images) != 1 or len(masks) != 1:
        return
    for folder in folders_in(images[0]):
        if _PART.fullmatch(folder.name) and (masks[0] / folder.name).is_dir():
            yield _pair(root, _role_of(folder.name), folder, masks[0] / folder.name)


def _siblings(root: Path) -> Iterator[Part]:
    """Return ``train`` and ``train_masks``, ``val`` and ``val_masks``, …."""
    named = any(path.name.lower() in IMAGE_FOLDERS for path in folders_in(root))
    for pair in () if named else sibling_pairs(root):
        role = role_in(pair.images.name)
        if role is not None:
            yield _pair(root, role, pair.images, pair.masks)


def _pair(root: Path, role: str, images: Path, masks: Path) -> Part:
    settings = {
        "image_folder": images.relative_to(root).as_posix(),
        "mask_folder": masks.relative_to(root).as_posix(),
    }
    return Part(role, images.name, root, settings)


def _role_of(name: str) -> str:
    lower = name.lower()
    return _VALIDATION if "val" in lower else _TEST if "test" in lower else _TRAINING
