"""Pairing of images and masks by file name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from miscnn_tf.errors import DataError

# The last ones are used in DRIVE (21_training, 21_manual1), CHASE (Image_01L_1stHO) and STARE (im0001.ah).
_IMAGE_WORDS = "images?|imgs?|im|scan|slice|photo|raw|training|test"
_MASK_WORDS = "masks?|segmentations?|segs?|labels?|lbl|annotations?|ground_?truth|gts?|manual[1-9]?|(?:1st|2nd)HO"
_IMAGE_AFFIX = re.compile(rf"(?:{_IMAGE_WORDS})[-_. ](.+)|(.+)[-_. ](?:{_IMAGE_WORDS})", re.IGNORECASE)
_MASK_AFFIX = re.compile(rf"(?:{_MASK_WORDS})[-_. ](.+)|(.+)[-_. ](?:{_MASK_WORDS})|(.+)\.(?:ah|vk)", re.IGNORECASE)


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

    Recognised words are image, img, im, scan, slice, photo, raw, training, test; and mask, segmentation, seg, label,
    lbl, annotation, groundtruth, gt, manual, manual1, 1stHO; before or after the rest of the name, separated by ``_``,
    ``-``, a dot or a blank.

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
            bare[_bare_image(image)].append(image)
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


def _bare_image(name: str) -> str:
    match = _IMAGE_AFFIX.fullmatch(name)
    return next(part for part in match.groups() if part) if match else name


def _only(candidates: list[str], what: str, where: str) -> str:
    if len(candidates) > 1:
        raise DataError(
            f"{where}: {what} {', '.join(map(repr, candidates[:5]))}; rename or remove the others "
            "(merge one mask per object into one label map)"
        )
    return candidates[0]


def _require_one_owner(found: Mapping[str, str], where: str) -> None:
    owners: dict[str, str] = {}
    for image, mask in found.items():
        other = owners.setdefault(mask, image)
        if other != image:
            raise DataError(f"{where}: the mask {mask!r} could belong to {other!r} and {image!r}; rename one of them")
