from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from fuzzing import fuzz, how_many, mutations
from picture_files import with_exif
from PIL import Image, ImageOps

from miscnn_tf.data_loading.formats.image_file import read_colours


def source(progressive: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()[100:140, 150:190]).save(buffer, "JPEG", progressive=progressive)
    return with_exif(buffer.getvalue(), 6)


def read(path: Path) -> np.ndarray:
    return read_colours(path, "rgb")


def like_pillow(path: Path, result: np.ndarray) -> str | None:
    try:
        with Image.open(path) as image:
            if image.mode == "CMYK":
                return None  # Pillow takes all for Adobe's
            expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:
        return f"Pillow refuses it: {error}"
    return None if np.array_equal(result, expected) else f"Pillow reads {expected.shape}, other values"


@how_many
@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_jpeg_is_refused_or_as_pillow_reads_it(tmp_path, number, progressive):
    fuzzed = fuzz(
        *(read, mutations(source(progressive), number, seed=11), tmp_path, "x.jpg"),
        judge=like_pillow,
    )

    assert not fuzzed.failures
    assert fuzzed.results
    assert fuzzed.refused
