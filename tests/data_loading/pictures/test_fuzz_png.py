from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzzing import fuzz, how_many, mutated, mutations
from picture_files import PNG_SIGNATURE, exif, png, png_chunk
from PIL import Image, ImageOps

from miscnn_tf.data_loading.formats.image_file import read_mask


def sources() -> list[bytes]:
    rng = np.random.default_rng(1)
    palette = (b"PLTE", rng.integers(0, 256, 48).astype(np.uint8).tobytes())
    extra = [(b"tEXt", b"Software\0nobody"), (b"eXIf", exif(6))]
    return [
        png(rng.integers(0, 16, (11, 14)), 3, 4, [palette], extra),
        png(rng.integers(0, 16, (11, 14)), 3, 8, [palette], interlaced=True),
        png(rng.integers(0, 2**16, (11, 14)), 0, 16, extra),
        png(rng.integers(0, 2, (11, 14)), 0, 1),
    ]


@how_many
def test_damaged_png_is_refused_or_as_it_was(tmp_path, number):
    for source in sources():
        (tmp_path / "whole.png").write_bytes(source)
        whole = read_mask(tmp_path / "whole.png")

        fuzzed = fuzz(
            *(read_mask, mutations(source, number // 4, seed=len(source)), tmp_path, "x.png"),
            judge=lambda path, result, whole=whole: None if np.array_equal(result, whole) else "other values",
        )

        assert not fuzzed.failures
        assert fuzzed.refused


@how_many
def test_png_with_damaged_content_and_valid_checksums(tmp_path, number):
    results = refused = 0
    for seed, source in enumerate(sources()):
        fuzzed = fuzz(read_mask, with_checksums(source, number // 4, seed), tmp_path, "x.png", judge=like_pillow)
        assert not fuzzed.failures
        results, refused = results + fuzzed.results, refused + fuzzed.refused
    assert results
    assert refused


def with_checksums(source: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Copies in which the content of one chunk is damaged before its checksum is made."""
    draw = random.Random(seed)
    chunks, place = [], len(PNG_SIGNATURE)
    while place < len(source):
        (length,) = struct.unpack(">I", source[place : place + 4])
        chunks.append((source[place + 4 : place + 8], source[place + 8 : place + 8 + length]))
        place += length + 12
    for _ in range(number):
        changed = list(chunks)
        one = draw.randrange(len(chunks))
        changed[one] = (chunks[one][0], mutated(chunks[one][1], draw))
        yield PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in changed)


def like_pillow(path: Path, result: np.ndarray) -> str | None:
    try:
        with Image.open(path) as image:
            bits = path.read_bytes()[24]
            if image.mode not in ("1", "P", "I;16") and not (image.mode == "L" and bits == 8):
                return None  # Pillow scales or cuts these
            expected = np.array(ImageOps.exif_transpose(image))
    except Exception:  # Pillow refuses it, for instance a damaged chunk of another kind
        return None
    return None if np.array_equal(result, expected) else f"Pillow reads {expected.shape}, other values"


@pytest.mark.parametrize("source", range(4))
def test_what_is_damaged_is_read_right_while_it_is_whole(tmp_path, source):
    path = tmp_path / "x.png"
    path.write_bytes(sources()[source])
    assert like_pillow(path, read_mask(path)) is None
    assert like_pillow(path, read_mask(path) + 1) is not None
