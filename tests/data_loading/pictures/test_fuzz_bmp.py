from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from fuzzing import fuzz, how_many, mutations
from picture_files import bmp, packed
from PIL import Image

from miscnn_tf.data_loading.formats.image_file import read_colours


def sources() -> list[bytes]:
    rng = np.random.default_rng(3)
    palette = rng.integers(0, 256, (16, 3))
    runs = b"".join(bytes([7, 3, 0, 3, 1, 2, 3, 0, 2, 9, 0, 0]) for _ in range(6)) + bytes([0, 1])
    return [
        bmp([packed(row, 4) for row in rng.integers(0, 16, (9, 14))], (9, 14), 4, palette=palette),
        bmp([packed(row, 8) for row in rng.integers(0, 256, (9, 15))], (9, 5), 24),
        bmp(
            [row.astype("<u2").tobytes() for row in rng.integers(0, 2**16, (9, 7))],
            (9, 7),
            16,
            3,
            None,
            (63488, 2016, 31),
        ),
        bmp(runs, (6, 12), 8, 1, palette),
    ]


def read(path: Path) -> np.ndarray:
    return read_colours(path, "rgb")


def like_others(path: Path, result: np.ndarray) -> str | None:
    answers = []
    for reader in (
        lambda: np.array(Image.open(path).convert("RGB")),
        lambda: imagecodecs.bmp_decode(path.read_bytes()),
    ):
        try:
            answer = reader()
        except Exception:  # each of the two cannot read some kinds
            continue
        answer = answer if answer.ndim == 3 else answer[..., np.newaxis].repeat(3, -1)
        answers.append(answer[..., :3])
    # 5 and 6 bits become 8 by one or the other rounding.
    if not answers or any(
        answer.shape == result.shape and np.abs(answer.astype(int) - result).max() <= 4 for answer in answers
    ):
        return None
    return f"others read {[answer.shape for answer in answers]}, not {result.shape}, or other values"


@how_many
@pytest.mark.parametrize("kind", range(4))
def test_damaged_bmp_is_refused_or_as_others_read_it(tmp_path, number, kind):
    fuzzed = fuzz(
        *(read, mutations(sources()[kind], number // 2, seed=kind), tmp_path, "x.bmp"),
        judge=like_others,
    )

    assert not fuzzed.failures
    assert fuzzed.results
    assert fuzzed.refused
