"""Recognition of folders called ``mask`` that hold the field of view of a camera, as in DRIVE and HRF."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

FOLDER = "mask"
_COMPARED = 3
# The fields of DRIVE cover about 69 % of their images, which are nearly black outside of them. Fields of one camera
# differ by a few pixels.
_COVERED = 0.4
_DARK = 0.2
_ALIKE = 0.9


def are_fields_of_view(masks: Mapping[str, Path], images: Mapping[str, Path], *, alone: bool) -> bool:
    """Return True if masks show where their images are not black, and are nearly the same for all images.

    Args:
        masks: The masks by the names of their images.
        images: The images.
        alone: True if these are the only masks; then at least two are compared, because an object on a black
            background may look the same.
    """
    names = [name for name in masks if name in images][:_COMPARED]
    if len(names) < (2 if alone else 1):
        return False
    try:
        fields = [image_file.read_any_mask(masks[name]) != 0 for name in names]
        if not all(_COVERED < field.mean() < 1 for field in fields) or not all(map(_alike, fields, fields[1:])):
            return False
        return all(_dark_outside(images[name], field) for name, field in zip(names, fields, strict=True))
    except DataError as error:  # reported when the file is read as an image or mask
        logger.debug("%s", error)
        return False


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape:
        return False
    return bool((first & second).sum() >= _ALIKE * (first | second).sum())


def _dark_outside(path: Path, field: np.ndarray) -> bool:
    image = image_file.read_colours(path, "grayscale")
    if image.shape != field.shape or not field.any() or field.all():
        return False
    return float(image[~field].mean()) < _DARK * float(image[field].mean())
