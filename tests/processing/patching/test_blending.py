"""Blending against a slow reference in float64 that holds the weights of every patch explicitly."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import gaussian

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching import blending
from miscnn_tf.processing.patching.blending import Blender, window_weights
from miscnn_tf.processing.patching.grid import PatchGrid

MODES = st.sampled_from(["gaussian", "average"])


@st.composite
def grids(draw):
    chosen = []
    for _ in range(draw(st.integers(2, 3))):
        window = draw(st.integers(1, 6))
        chosen.append((draw(st.integers(window, 13)), window, draw(st.integers(0, window - 1))))
    return PatchGrid(*zip(*chosen, strict=True))


def random_patches(grid, channels, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((len(grid), *grid.patch_shape, channels), np.float32)


def reference(grid, patches, mode):
    """sum(weight * patch) / sum(weight), with the full weight of each patch (SciPy's Gaussian window)."""
    weight = np.ones(grid.patch_shape)
    if mode == "gaussian":
        for axis, window in enumerate(grid.patch_shape):
            shape = [-1 if other == axis else 1 for other in range(weight.ndim)]
            weight = weight * gaussian(window, window / 8).reshape(shape)
    total = np.zeros((*grid.image_shape, patches.shape[-1]))
    weights = np.zeros((*grid.image_shape, 1))
    for location, patch in zip(grid, patches, strict=True):
        total[location.to_slices()] += weight[..., None] * patch.astype(np.float64)
        weights[location.to_slices()] += weight[..., None]
    return total / weights


def blended(grid, patches, mode, dtype=np.float32):
    blender = Blender(grid, patches.shape[-1], mode, dtype)
    for number, patch in enumerate(patches):
        blender.add(number, patch)
    return blender.result()


@given(grids(), MODES)
@settings(max_examples=60, deadline=None)
def test_equals_the_reference_with_explicit_weights(grid, mode):
    patches = random_patches(grid, 2)
    expected = reference(grid, patches, mode)
    np.testing.assert_allclose(blended(grid, patches, mode), expected, atol=1e-6)
    np.testing.assert_allclose(blended(grid, patches, mode, np.float64), expected, rtol=1e-12)


@given(grids(), MODES)
@settings(max_examples=60, deadline=None)
def test_weights_sum_to_one_at_every_voxel_and_none_is_zero(grid, mode):
    per_axis = [
        window_weights(starts, window, mode).astype(np.float32)
        for starts, window in zip(grid.starts, grid.patch_shape, strict=True)
    ]
    total = np.zeros(grid.image_shape)
    for number, location in enumerate(grid):
        weight = np.ones((), np.float32)
        for weights, along in zip(per_axis, grid.position(number), strict=True):
            weight = np.multiply.outer(weight, weights[along])
        assert weight.min() > 0
        total[location.to_slices()] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 64, 512])
def test_gaussian_weight_is_not_zero_at_the_corner_of_a_large_patch(window):
    lonely = window_weights((0, max(1, window // 2)), window, "gaussian").min()
    assert np.float32(lonely) ** 3 > np.finfo(np.float32).tiny


@given(grids(), MODES, st.floats(-1e3, 1e3, width=32))
@settings(max_examples=60, deadline=None)
def test_blending_a_constant_returns_it(grid, mode, value):
    patches = np.full((len(grid), *grid.patch_shape, 1), value, np.float32)
    np.testing.assert_allclose(blended(grid, patches, mode), value, rtol=1e-6, atol=1e-6)


@given(grids(), MODES)
@settings(max_examples=60, deadline=None)
def test_slicing_then_blending_returns_the_image(grid, mode):
    image = np.random.default_rng(1).normal(size=(*grid.image_shape, 2)).astype(np.float32)
    patches = np.stack([image[location.to_slices()] for location in grid])
    covering = np.zeros((*grid.image_shape, 1))
    for location in grid:
        covering[location.to_slices()] += 1
    # The weights sum to 1, so that each patch of a voxel's sum adds one rounding of float32 at most; a few come with
    # the weights.
    bound = (covering + 4) * np.finfo(np.float32).eps * np.abs(image)
    assert (np.abs(blended(grid, patches, mode) - image) <= bound).all()


@pytest.mark.parametrize("mode", ["gaussian", "average"])
def test_patches_side_by_side_come_back_bit_for_bit(mode, rng):
    grid = PatchGrid((12, 9), (4, 3))
    image = rng.normal(size=(12, 9, 3)).astype(np.float32)
    patches = np.stack([image[location.to_slices()] for location in grid])
    np.testing.assert_array_equal(blended(grid, patches, mode), image)


def test_with_half_overlap_every_patch_counts_alike():
    """Defect "blending": pairwise averaging gives a patch in the middle a half or a quarter of its neighbour."""
    grid = PatchGrid((8, 8, 8), (4, 4, 4), 2)
    assert grid.counts == (3, 3, 3)
    share = {}
    for number in range(len(grid)):
        patches = np.zeros((len(grid), 4, 4, 4, 1))
        patches[number] = 1
        share[number] = blended(grid, patches, "average", np.float64)[..., 0]
    covering = np.sum([values > 0 for values in share.values()], axis=0)
    assert covering.max() == 8
    for values in share.values():
        np.testing.assert_allclose(values[values > 0], (1 / covering)[values > 0], rtol=1e-12)


def test_of_three_patches_on_one_voxel_each_counts_a_third():
    grid = PatchGrid((5, 1), (3, 1), (2, 0))
    patches = np.array([0.0, 3.0, 9.0]).reshape(3, 1, 1, 1) * np.ones((3, 3, 1, 1))
    np.testing.assert_allclose(blended(grid, patches, "average")[:, 0, 0], [0, 1.5, 4, 6, 9], rtol=1e-6)


def test_gaussian_prefers_the_middle_of_a_patch():
    grid = PatchGrid((12, 8), (8, 8), (4, 0))
    patches = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))])
    profile = blended(grid, patches, "gaussian")[:, 0, 0]
    assert np.all(np.diff(profile[3:9]) > 0)
    np.testing.assert_allclose(profile + profile[::-1], 1, atol=1e-6)
    assert profile[4] < 0.05


@given(grids(), MODES)
@settings(max_examples=60, deadline=None)
def test_slabs_come_as_early_as_they_can_and_make_up_the_whole(grid, mode):
    patches = random_patches(grid, 2)
    blender = Blender(grid, 2, mode)
    pieces = []
    for number, patch in enumerate(patches):
        blender.add(number, patch)
        pieces.extend(blender.slabs())
        # No row that a later patch touches was handed out, and every other row was.
        later = min((location.start[0] for location in grid[number + 1 :]), default=grid.image_shape[0])
        assert (pieces[-1].stop if pieces else 0) == later
    assert pieces[0].start == 0
    for before, after in pairwise(pieces):
        assert before.stop == after.start
    for piece in pieces:
        assert piece.array.shape == (piece.stop - piece.start, *grid.image_shape[1:], 2)
    np.testing.assert_array_equal(np.concatenate([piece.array for piece in pieces]), blended(grid, patches, mode))


def test_a_slab_is_the_callers_to_keep():
    grid = PatchGrid((8, 4), (4, 4), (2, 0))
    patches = random_patches(grid, 1)
    slabs = list(Blender(grid, 1).blend(patches))
    expected = blended(grid, patches, "gaussian")
    slabs[1].array[...] = -1
    np.testing.assert_array_equal(slabs[0].array, expected[:2])
    np.testing.assert_array_equal(slabs[2].array, expected[4:])


def test_blend_takes_patches_only_as_they_are_needed():
    grid = PatchGrid((8, 4), (4, 4), (2, 0))
    taken = []

    def predictions():
        for number in range(len(grid)):
            taken.append(number)
            yield np.ones((4, 4, 1))

    stream = Blender(grid, 1).blend(predictions())
    assert taken == []
    assert next(stream)[:2] == (0, 2)
    assert taken == [0]
    assert [slab[:2] for slab in stream] == [(2, 4), (4, 8)]


def test_memory_does_not_grow_with_the_first_axis():
    """users.md: sliding-window prediction runs out of memory."""
    peaks = []
    for rows in (64, 512):
        grid = PatchGrid((rows, 48, 48), (32, 32, 32), 16)
        patch = np.ones((32, 32, 32, 3), np.float32)
        tracemalloc.start()
        for slab in Blender(grid, 3).blend(patch for _ in grid):
            assert slab.array[0, 0, 0, 0] == pytest.approx(1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    window = 32 * 48 * 48 * 3 * 4
    assert peaks[0] < 2 * window + 100_000
    assert peaks[1] < peaks[0] + 50_000


def test_add_does_not_change_the_patch_and_needs_no_copy_of_it():
    grid = PatchGrid((64, 64, 64), (64, 64, 64))
    patch = np.random.default_rng(0).random((64, 64, 64, 4), np.float32)
    before = patch.copy()
    blender = Blender(grid, 4)
    tracemalloc.start()
    blender.add(0, patch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(patch, before)
    assert peak < patch.nbytes / 10


def test_patches_of_one_layer_may_come_in_any_order_and_by_location():
    grid = PatchGrid((6, 8), (4, 4), (2, 2))
    patches = random_patches(grid, 1)
    blender = Blender(grid, 1)
    for number in (2, 0, 1, 5, 3, 4):
        blender.add(grid[number], patches[number])
    np.testing.assert_allclose(blender.result(), blended(grid, patches, "gaussian"), atol=1e-6)


def test_out_of_order_and_repeated_patches_are_refused():
    grid = PatchGrid((6, 8), (4, 4), (2, 2))
    patch = np.zeros((4, 4, 1))
    blender = Blender(grid, 1)
    blender.add(1, patch)
    with pytest.raises(ConfigurationError, match="patch 1 was added already"):
        blender.add(1, patch)
    with pytest.raises(ConfigurationError, match=r"patch 3 .* before"):
        blender.add(3, patch)
    with pytest.raises(ConfigurationError, match="not added yet"):
        blender.result()


def test_result_after_slabs_is_refused():
    grid = PatchGrid((4, 4), (4, 4))
    blender = Blender(grid, 1)
    blender.add(0, np.zeros((4, 4, 1)))
    assert len(list(blender.slabs())) == 1
    assert list(blender.slabs()) == []
    with pytest.raises(ConfigurationError, match="fetched already"):
        blender.result()


@pytest.mark.parametrize(("number", "message"), [(2, "only 2 patches"), (4, "more patches than the 3")])
def test_wrong_number_of_patches_is_refused(number, message):
    grid = PatchGrid((8, 4), (4, 4), (2, 0))
    with pytest.raises(ConfigurationError, match=message):
        list(Blender(grid, 1).blend(np.zeros((number, 4, 4, 1))))


def test_wrong_arguments_are_named():
    grid = PatchGrid((4, 4), (4, 4))
    with pytest.raises(ConfigurationError, match=r"mode.*'gaussian'.*'median'"):
        Blender(grid, 1, mode="median")
    with pytest.raises(ConfigurationError, match=r"dtype.*int"):
        Blender(grid, 1, dtype=np.int32)
    with pytest.raises(ConfigurationError, match=r"shape \(4, 4, 2\)"):
        Blender(grid, 1).add(0, np.zeros((4, 4, 2)))


@given(grids(), MODES, st.data())
@settings(max_examples=60, deadline=None)
def test_some_columns_alone_are_the_very_same(grid, mode, data):
    """From the patches that reach them, with the weights of the whole grid."""
    first = data.draw(st.integers(0, grid.image_shape[1] - 1))
    columns = slice(first, data.draw(st.integers(first + 1, grid.image_shape[1])))
    patches = random_patches(grid, 2)
    blender = Blender(grid, 2, mode, columns=columns)
    slabs = list(blender.blend(patches[number] for number in blender.numbers))
    assert [slab.start for slab in slabs[1:]] == [slab.stop for slab in slabs[:-1]]
    np.testing.assert_array_equal(
        np.concatenate([slab.array for slab in slabs]), blended(grid, patches, mode)[:, columns]
    )


def test_columns_need_their_own_patches_and_their_own_memory_only():
    grid = PatchGrid((32, 400, 32), (32, 32, 32), 16)
    patch = np.ones((32, 32, 32, 4), np.float32)
    peaks = []
    for columns in (slice(0, 400), slice(100, 150)):
        tracemalloc.start()
        blender = Blender(grid, 4, columns=columns)
        for slab in blender.blend(patch for _ in blender.numbers):
            assert slab.array.shape[1] == columns.stop - columns.start
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del blender, slab
    assert len(Blender(grid, 4, columns=slice(100, 150)).numbers) == 5
    assert peaks[1] < 0.25 * peaks[0]


def test_finished_rows_are_handed_out_in_small_pieces(monkeypatch):
    monkeypatch.setattr(blending, "PIECE_BYTES", 2 * 8 * 4)
    grid = PatchGrid((16, 8), (8, 8), (2, 0))
    patches = random_patches(grid, 1)
    blender = Blender(grid, 1)
    pieces = [(slab.start, slab.stop) for slab in blender.blend(patches)]
    assert pieces == [(row, row + 2) for row in range(0, 16, 2)]


def test_rows_that_were_not_fetched_in_time_are_not_lost(monkeypatch):
    monkeypatch.setattr(blending, "PIECE_BYTES", 1)
    grid = PatchGrid((12, 4), (4, 4), (2, 0))
    patches = random_patches(grid, 1)
    blender = Blender(grid, 1)
    blender.add(0, patches[0])
    found = [next(blender.slabs())]  # the other finished row waits
    for number in range(1, len(grid)):
        blender.add(number, patches[number])
    found += blender.slabs()
    np.testing.assert_array_equal(np.concatenate([slab.array for slab in found]), blended(grid, patches, "gaussian"))
