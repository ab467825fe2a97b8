"""Pictures of the images that were segmented with the network of a run, for its page."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.runs.names import NEW_IMAGES_FILE, OVERLAYS_FOLDER

#: Pictures on a page; the folder of the predictions has those of all images.
MOST_PICTURES = 24
_LARGEST = 900
_ADVICE = "delete it; the next prediction writes it again"


class _NewImagesFile(Document):
    folder: str


@dataclass(frozen=True)
class NewImage:
    """Picture of an image with the outlines of its prediction.

    Attributes:
        name: Name of the image.
        picture: The picture, as a URL with its data.
    """

    name: str
    picture: str


@dataclass(frozen=True)
class NewImages:
    """Images that were segmented with the network of a run.

    Attributes:
        folder: Folder of the predictions.
        address: The same as a URL, relative to the page.
        number: Number of images with a picture in the folder.
        shown: The first ones.
    """

    folder: str
    address: str
    number: int
    shown: list[NewImage]


def record_new_images(run: Path, predictions: Path) -> None:
    """Note in the folder of a run where the predictions of new images are, for its page.

    Raises:
        StorageError: If it cannot be written.
    """
    # Relative, so that both folders can be moved together.
    write_json(run / NEW_IMAGES_FILE, {"folder": os.path.relpath(predictions.resolve(), run.resolve())})


def read_new_images(run: Path, page: Path) -> NewImages | None:
    """Return the pictures of new images, or None if there are none.

    Args:
        run: The folder of the run.
        page: The page, for addresses relative to it.

    Raises:
        DataError: If the record of the folder is damaged.
    """
    record = run / NEW_IMAGES_FILE
    if not record.is_file():
        return None
    content: Any = read_json(record, "'miscnn-tf run' writes it", _ADVICE)
    require(_NewImagesFile, content, record, _ADVICE)
    folder = Path(os.path.normpath(run.resolve() / content["folder"]))
    pictures = sorted((folder / OVERLAYS_FOLDER).glob("**/*.png"))
    if not pictures:
        return None
    shown = [
        NewImage(path.relative_to(folder / OVERLAYS_FOLDER).with_suffix("").as_posix(), _as_address(path))
        for path in pictures[:MOST_PICTURES]
    ]
    address = quote(os.path.relpath(folder, page.resolve().parent).replace(os.sep, "/")) + "/"
    return NewImages(str(folder), address, len(pictures), shown)


def _as_address(path: Path) -> str:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    # Without the white margin around the drawing.
    drawn = np.argwhere(np.any(np.asarray(picture) < 250, axis=-1))
    if drawn.size:
        (top, left), (bottom, right) = drawn.min(axis=0), drawn.max(axis=0) + 1
        picture = picture.crop((int(left), int(top), int(right), int(bottom)))
    picture.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    picture.save(file, "webp", quality=85)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
