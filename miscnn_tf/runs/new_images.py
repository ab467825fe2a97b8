"""Predictions of new images by the network of a run, ``new_images.json``: the report shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from miscnn_tf._base.files import make_folder
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.data_loading.file_names import stem_of
from miscnn_tf.runs.names import NEW_IMAGES_FILE, OVERLAYS_FOLDER
from miscnn_tf.runs.prediction_files import read_prediction_record

_ADVICE = "delete it; the next prediction of new images writes a new one"


class _Output(Document):
    output: str
    fingerprint: str


class _NewImages(Document):
    outputs: list[_Output]


class _Sizes(Document):
    sizes: dict[str, str]


@dataclass(frozen=True)
class NewImage:
    """Prediction of a new image.

    Attributes:
        name: Its name.
        file: The written file.
        picture: PNG of the outlines over the image.
        sizes: Size of each class with its unit, by name; empty if unknown.
    """

    name: str
    file: Path
    picture: Path
    sizes: dict[str, str]


def record_new_images(folder: Path, output: Path, fingerprint: str) -> None:
    """Record where the network of a run predicts new images. Pictures are looked up when they are shown.

    Args:
        folder: The run folder.
        output: File or folder of the predictions.
        fingerprint: The digest of the model, as in the record of the predictions.

    Raises:
        DataError: If the earlier record is damaged.
        StorageError: If it cannot be written.
    """
    # A run folder may be moved together with the folder of predictions beside it.
    try:
        place = Path(os.path.relpath(output, folder)).as_posix()
    except ValueError:  # on another drive
        place = str(output.absolute())
    known = [one.model_dump() for one in _read(folder) if one.output != place]
    make_folder(folder)
    write_json(folder / NEW_IMAGES_FILE, {"outputs": [*known, {"output": place, "fingerprint": fingerprint}]})


def read_new_images(folder: Path) -> list[NewImage]:
    """Return the predictions of new images with a picture, without those that another network has replaced.

    Args:
        folder: The run folder.

    Raises:
        DataError: If the record is damaged.
    """
    found: dict[Path, NewImage] = {}
    for one in _read(folder):
        output = Path(os.path.normpath(folder / one.output))
        if output.is_dir():
            record = read_prediction_record(output)
            if record is None or record["fingerprint"] != one.fingerprint:
                continue
            files = sorted(path for path in output.iterdir() if path.is_file())
        else:
            files = [output] if output.is_file() else []
        found |= {image.file: image for image in _with_pictures(files)}
    return list(found.values())


def size_note(sizes: dict[str, str]) -> str:
    """Return the sizes of classes as text for a picture's description, which `read_new_images` reads."""
    return json.dumps({"sizes": sizes}, ensure_ascii=True)


def _read(folder: Path) -> list[_Output]:
    path = folder / NEW_IMAGES_FILE
    if not path.is_file():
        return []
    content = read_json(path, "a prediction of new images writes it", _ADVICE)
    require(_NewImages, content, path, _ADVICE)
    return _NewImages.model_validate(content).outputs


def _with_pictures(files: list[Path]) -> Iterator[NewImage]:
    for file in files:
        picture = file.parent / OVERLAYS_FOLDER / f"{stem_of(file)}.png"
        if picture.is_file():
            yield NewImage(stem_of(file), file, picture, _sizes(picture))


def _sizes(picture: Path) -> dict[str, str]:
    """Return the sizes in the description of a picture; none for pictures of earlier versions."""
    try:
        with Image.open(picture, formats=["PNG"]) as image:
            text = image.info.get("Description")
        return _Sizes.model_validate_json(text).sizes if isinstance(text, str) else {}
    except (OSError, ValueError, SyntaxError):
        return {}
