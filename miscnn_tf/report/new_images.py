"""Pictures of the predictions of new images for the page of a run."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any, Final

from PIL import Image

from miscnn_tf.errors import DataError
from miscnn_tf.runs.new_images import read_new_images

# Total size of the embedded pictures, characters.
_MOST_BYTES: Final = 5_000_000
_QUALITY: Final = 85


def new_images(folder: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the new images that the network of a run segmented, and the reason if they cannot be listed.

    Args:
        folder: The run folder.

    Returns:
        For each image its name, the path of the written file, the sizes of its classes as text, and its picture as a
        ``data:`` URL, which is None after the first megabytes.
    """
    try:
        found = read_new_images(folder)
    except (DataError, OSError) as error:
        return [], f"The new images cannot be listed: {error}"
    shown, size = [], 0
    for one in found:
        picture = _inline(one.picture) if size < _MOST_BYTES else None
        size += len(picture or "")
        sizes = [(name, text) for name, text in one.sizes.items()]
        shown.append({"name": one.name, "file": os.path.abspath(one.file), "sizes": sizes, "picture": picture})
    return shown, None


def _inline(path: Path) -> str | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "WEBP", quality=_QUALITY)
    except (OSError, ValueError, SyntaxError):
        return None  # the picture is damaged; the file of the prediction is listed
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
