from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from miscnn_tf.datasets import CellPhantom, make_cell_phantom, write_cell_phantoms
from miscnn_tf.errors import ConfigurationError


@pytest.fixture(scope="module")
def phantoms() -> list[CellPhantom]:
    return [make_cell_phantom([1, number], frames=4) for number in range(5)]


def touching(instances: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of cells with neighbouring pixels."""
    pairs = set()
    for one, two in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
        border = (one != two) & (one > 0) & (two > 0)
        pairs |= {tuple(sorted(pair)) for pair in zip(one[border].tolist(), two[border].tolist(), strict=True)}
    return pairs


def test_types_and_shapes(phantoms):
    for images, instances in phantoms:
        assert images.shape == instances.shape == (4, 96, 128)
        assert images.dtype == instances.dtype == np.uint16
        # More than 8 bits are used.
        assert images.max() > 10_000
        assert len(np.unique(images)) > 2_000


def test_every_cell_is_one_piece_in_every_frame_and_moves_little(phantoms):
    for _, instances in phantoms:
        cells = np.unique(instances)[1:]
        for before, after in pairwise(instances):
            for cell in cells:
                assert ndimage.label(before == cell)[1] == 1
                moved = np.subtract(*(np.mean(np.argwhere(frame == cell), axis=0) for frame in (before, after)))
                assert 0 < np.linalg.norm(moved) < 9  # a radius
        assert 0.15 < np.mean(instances > 0) < 0.35


def test_cells_touch_so_that_the_foreground_alone_does_not_count_them(phantoms):
    for _, instances in phantoms:
        for frame in instances:
            assert len(touching(frame)) >= 3
            assert ndimage.label(frame > 0)[1] < len(np.unique(frame)) - 1


def test_light_is_uneven_and_noise_grows_with_it(phantoms):
    for images, instances in phantoms:
        background = np.where(ndimage.binary_dilation(instances[0] > 0, iterations=4), np.nan, images[0].astype(float))
        blocks = np.nanmean(background.reshape(4, 24, 4, 32).transpose(0, 2, 1, 3).reshape(16, -1), axis=1)
        offset = 600
        assert (np.nanmax(blocks) - offset) / (np.nanmin(blocks) - offset) > 1.4
        grain = images[0] - ndimage.gaussian_filter(images[0].astype(float), 1.5)
        inside = ndimage.binary_erosion(instances[0] > 0, iterations=2)
        assert grain[inside].std() > 1.3 * grain[np.isfinite(background)].std()


def test_no_threshold_that_finds_the_cells_tells_them_from_each_other(phantoms):
    for images, instances in phantoms:
        cells = instances[0] > 0
        smooth = ndimage.gaussian_filter(images[0].astype(float), 1)
        counts = []
        for level in np.linspace(1000, 20000, 40):
            found = smooth > level
            if 2 * np.sum(found & cells) / (np.sum(found) + np.sum(cells)) > 0.9:
                counts.append(ndimage.label(found)[1])
        assert counts  # it is a picture of these cells
        assert max(counts) < len(np.unique(instances[0])) - 1 - 3


def digests(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*.*")}


def test_layout_bytes_and_more_sequences_keep_the_first(tmp_path):
    small = {"frames": 2, "shape": (40, 48), "cells": 4, "seed": 3, "progress": False}
    assert write_cell_phantoms(tmp_path / "a", sequences=1, **small) == ["01"]
    assert write_cell_phantoms(tmp_path / "b", sequences=2, **small) == ["01", "02"]
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert {name: second[name] for name in first} == first
    assert sorted(first) == [
        "01/t000.png",
        "01/t001.png",
        "01_GT/SEG/man_seg000.png",
        "01_GT/SEG/man_seg001.png",
        "01_GT/TRA/man_track.txt",
    ]
    phantom = make_cell_phantom([3, 1], frames=2, shape=(40, 48), cells=4)
    for frame in range(2):
        image = np.array(Image.open(tmp_path / "b" / "02" / f"t00{frame}.png"))
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, phantom.images[frame])
        mask = np.array(Image.open(tmp_path / "b" / "02_GT" / "SEG" / f"man_seg00{frame}.png"))
        np.testing.assert_array_equal(mask, phantom.instances[frame])
    tracks = (tmp_path / "b" / "02_GT" / "TRA" / "man_track.txt").read_text()
    assert tracks == "".join(f"{cell} 0 1 0\n" for cell in range(1, 5))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shape": (64,)}, "shape"),
        ({"shape": (16, 64)}, "shape"),
        ({"frames": 0}, "frames"),
        ({"cells": 0}, "cells"),
        ({"cells": 500}, "cells"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        make_cell_phantom(0, **{"frames": 1, "shape": (64, 64), **arguments})


def test_names_count_to_what_fits_into_them(tmp_path):
    with pytest.raises(ConfigurationError, match="sequences"):
        write_cell_phantoms(tmp_path, sequences=100)
    with pytest.raises(ConfigurationError, match="frames"):
        write_cell_phantoms(tmp_path, frames=1001)


def test_a_generator_can_be_passed_in():
    one, two = (make_cell_phantom(np.random.default_rng(8), 1, (32, 32)) for _ in range(2))
    np.testing.assert_array_equal(one.images, two.images)
