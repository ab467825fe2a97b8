from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from fuzzing import fuzz, how_many, mutations

from miscnn_tf.data_loading.formats.image_file import read_mask


def source(**options) -> bytes:
    rng = np.random.default_rng(5)
    buffer = io.BytesIO()
    kind = options.pop("kind", np.uint8)
    tifffile.imwrite(buffer, rng.integers(0, 9, (20, 33)).astype(kind), metadata=None, **options)
    return buffer.getvalue()


SOURCES = {
    "strips": {"rowsperstrip": 7, "extratags": [(274, 3, 1, 3, True)]},
    "tiles": {"tile": (16, 16), "compression": "deflate", "predictor": True, "kind": np.uint16},
    "lzw": {"compression": "lzw", "byteorder": ">", "kind": np.uint16},
    "bits": {"bitspersample": 4, "photometric": "miniswhite"},
    "float": {"bigtiff": True, "kind": np.float32},
}


def like_libtiff(path: Path, result: np.ndarray) -> str | None:
    try:
        expected = imagecodecs.tiff_decode(path.read_bytes())
        with tifffile.TiffFile(path) as opened:
            orientation = int(opened.pages[0].tags.valueof(274, 1) or 1)
    except Exception:  # libtiff refuses damaged tags that do not matter to the samples, too
        return None
    upright = np.array(TURNS[orientation](expected))
    if upright.ndim == 3 and upright.shape == (*result.shape, 1):
        upright = upright[..., 0]
    return (
        None
        if np.array_equal(result, upright, equal_nan=result.dtype.kind == "f")
        else (f"libtiff reads {upright.shape} {upright.dtype}, not {result.shape} {result.dtype}, or other values")
    )


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@how_many
@pytest.mark.parametrize("kind", SOURCES)
def test_damaged_tiff_is_refused_or_as_libtiff_reads_it(tmp_path, number, kind):
    fuzzed = fuzz(
        *(read_mask, mutations(source(**SOURCES[kind]), number // 2, seed=len(kind)), tmp_path, "x.tif"),
        judge=like_libtiff,
    )

    assert not fuzzed.failures
    assert fuzzed.results
    assert fuzzed.refused
