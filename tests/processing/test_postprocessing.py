from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest
from skimage.transform import resize

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.assembling import undo_subfunctions
from miscnn_tf.processing.patching.blending import Slab
from miscnn_tf.processing.preparation import run_subfunctions
from miscnn_tf.processing.subfunctions import resampling
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.resize import Resize


class RemoveClassTwo(Abstract_Subfunction):
    """A user's step that works on labels."""

    def preprocessing(self, sample, training=True):
        pass

    def postprocessing(self, sample, prediction, activation_output=False):
        if not activation_output:
            assert prediction.dtype.kind == "u", "labels were promised"
            prediction = np.where(prediction == 2, 0, prediction).astype(prediction.dtype)
        return prediction


def prepared(steps, shape=(12, 10, 8)):
    sample = Sample(
        "a", np.random.default_rng(0).normal(size=shape).astype(np.float32), 1, 3, three_dim=len(shape) == 3
    )
    run_subfunctions(sample, steps, training=False)
    return sample


def probabilities(shape, classes=3, seed=1):
    values = np.random.default_rng(seed).random((*shape, classes)).astype(np.float32)
    return values / values.sum(-1, keepdims=True)


def in_slabs(values, rows=3):
    def open_slabs(columns):
        part = values[:, columns]
        return (Slab(a, min(a + rows, len(part)), part[a : a + rows]) for a in range(0, len(part), rows))

    return open_slabs


def whole_slabs(slabs):
    """Slabs that are there already, cut to the columns that are asked for."""
    return lambda columns: (Slab(start, stop, array[:, columns]) for start, stop, array in slabs)


def test_without_resampling_the_label_is_the_most_probable_class():
    steps = [Clipping(min=-1, max=1), Padding((16, 16, 16))]
    sample = prepared(steps)
    values = probabilities(sample.img_data.shape[:-1])
    labels = undo_subfunctions(sample, steps, in_slabs(values), values.shape[:-1], 3)
    assert labels.shape == (12, 10, 8)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values.argmax(-1)[2:14, 3:13, 4:12])


def test_probabilities_are_resampled_before_the_label_is_decided():
    steps = [Resize((6, 5, 4)), Padding((8, 8, 8))]
    sample = prepared(steps)
    values = probabilities((8, 8, 8))
    labels = undo_subfunctions(sample, steps, in_slabs(values), (8, 8, 8), 3)
    inner = values[1:7, 1:6, 2:6]
    reference = np.stack(
        [resize(inner[..., c], (12, 10, 8), order=1, mode="edge", anti_aliasing=False) for c in range(3)], -1
    )
    assert (labels == reference.argmax(-1)).mean() > 0.999


@pytest.mark.parametrize("activation_output", [False, True])
@pytest.mark.parametrize("sections", [1, 3])
def test_what_was_padded_never_exists_as_a_whole_and_is_not_kept(activation_output, sections):
    steps = [Padding((20, 60, 60)), Clipping(min=-1, max=1), Padding((40, 60, 60))]
    sample = prepared(steps, (20, 20, 20))
    values = probabilities((40, 60, 60), classes=8)
    arguments = (sample, steps, in_slabs(values), (40, 60, 60), 8, activation_output, sections)
    undo_subfunctions(*arguments)  # what is imported and cached at first use
    tracemalloc.start()
    try:
        result = undo_subfunctions(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    inner = values[10:30, 20:40, 20:40]
    np.testing.assert_array_equal(result, inner if activation_output else inner.argmax(-1))
    assert result.base is None
    assert peak < 1.5 * inner.nbytes


def test_activation_output_is_on_the_original_grid_and_sums_to_one():
    steps = [Resize((6, 5, 4)), Padding((8, 8, 8))]
    sample = prepared(steps)
    values = probabilities((8, 8, 8))
    result = undo_subfunctions(sample, steps, in_slabs(values), (8, 8, 8), 3, activation_output=True)
    assert result.shape == (12, 10, 8, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_a_users_step_gets_labels_wherever_it_stands(order):
    steps = [RemoveClassTwo(), Resize((6, 5, 4))] if order else [Resize((6, 5, 4)), RemoveClassTwo()]
    sample = prepared(steps)
    labels = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    assert labels.shape == (12, 10, 8)
    assert set(np.unique(labels)) == {0, 1}


def test_the_same_step_twice_is_undone_with_each_ones_own_memory():
    steps = [Resize((9, 9, 9)), Resize((6, 5, 4))]
    sample = prepared(steps)
    labels = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    assert labels.shape == (12, 10, 8)
    again = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    np.testing.assert_array_equal(labels, again)


def test_more_than_256_classes_need_two_bytes():
    sample = prepared([], (4, 4))
    labels = undo_subfunctions(sample, [], in_slabs(probabilities((4, 4), classes=300)), (4, 4), 300)
    assert labels.dtype == np.uint16


class WholeArrays(Resize):
    """A user's step that resamples otherwise, and looks at the array as a whole."""

    def postprocess_to_labels(self, sample, activation):
        assert isinstance(activation, np.ndarray)
        return super().postprocess_to_labels(sample, activation)


def small_slabs(monkeypatch, slab_bytes):
    """Let the interpolation work on slabs of another size than 16 MB."""
    smaller = functools.partial(resampling.resize_probabilities_to_labels, slab_bytes=slab_bytes)
    monkeypatch.setattr(resampling, "resize_probabilities_to_labels", smaller)


def uneven_slabs(values, rng):
    start = 0
    while start < len(values):
        stop = min(len(values), start + int(rng.integers(1, 9)))
        yield Slab(start, stop, values[start:stop].copy())
        start = stop


@pytest.mark.parametrize("seed", range(60))
def test_streamed_probabilities_give_the_very_same_labels(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    ndim = 2 + seed % 2
    shape, grid = (tuple(rng.integers(1, 30, ndim).tolist()) for _ in range(2))
    if seed % 5 == 0:
        grid = (shape[0], *grid[1:])
    steps = [
        [Resize(grid)],
        [Clipping(min=-1, max=1), Resize(grid), Clipping(min=-1, max=0.5)],
        [Resize(grid), Padding((17,) * ndim)],
        [Padding((9,) * ndim), Resize(grid), Padding((12,) * ndim), Clipping(min=0, max=1), Padding((20,) * ndim)],
    ][seed % 4]
    sample = prepared(steps, shape)
    values = probabilities(sample.img_data.shape[:-1], classes=int(rng.integers(1, 5)), seed=seed)
    small_slabs(monkeypatch, int(rng.choice([1, 2000, 10**6])))
    whole, decided = values, False
    for position in reversed(range(len(steps))):
        view = prepared(steps, shape)
        view.history = [record for record in view.history if record["position"] == position]
        if isinstance(steps[position], Resize):
            whole, decided = steps[position].postprocess_to_labels(view, whole), True
        else:
            whole = steps[position].postprocessing(view, whole, activation_output=not decided)
    slabs = uneven_slabs(values, rng)
    labels = undo_subfunctions(sample, steps, whole_slabs(slabs), values.shape[:-1], values.shape[-1])
    assert labels.dtype == whole.dtype
    np.testing.assert_array_equal(labels, whole)
    assert next(slabs, None) is None

    def open_slabs(columns):
        return uneven_slabs(values[:, columns], rng)

    sections = int(rng.integers(2, 9))
    labels = undo_subfunctions(sample, steps, open_slabs, values.shape[:-1], values.shape[-1], sections=sections)
    np.testing.assert_array_equal(labels, whole)


@pytest.mark.parametrize("later", [[], [Padding((160, 36, 34))]])
@pytest.mark.parametrize("back", [(150, 32, 30), (100, 40, 20)])
def test_the_probabilities_of_a_resampled_volume_never_exist_as_a_whole(later, back, monkeypatch):
    """Defect: 12.6 GB for 20 classes on 512 x 512 x 600 voxels."""
    steps = [Resize((150, 32, 30)), *later]
    sample = prepared(steps, back)
    shape, classes, rows = sample.img_data.shape[:-1], 10, 10
    small_slabs(monkeypatch, 2**17)

    def slabs():
        for start in range(0, shape[0], rows):
            yield Slab(start, start + rows, np.full((rows, *shape[1:], classes), 1 / classes, np.float32))

    full = 4 * classes * int(np.prod(shape))
    undo_subfunctions(sample, steps, whole_slabs(slabs()), shape, classes)  # what is imported and cached at first use
    tracemalloc.start()
    try:
        labels = undo_subfunctions(sample, steps, whole_slabs(slabs()), shape, classes)
        peak = tracemalloc.get_traced_memory()[1] - labels.nbytes
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * full


def test_one_slab_at_a_time_is_alive_where_labels_are_decided_at_once():
    sample = prepared([], (60, 20, 20))
    slabs = (Slab(row, row + 20, np.ones((20, 20, 20, 8), np.float32)) for row in (0, 20, 40))
    slab_bytes = 20 * 20 * 20 * 8 * 4
    tracemalloc.start()
    try:
        undo_subfunctions(sample, [], lambda columns: slabs, (60, 20, 20), 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * slab_bytes


@pytest.mark.parametrize(
    "steps", [[WholeArrays((6, 5, 4))], [Resize((9, 9, 9)), Resize((6, 5, 4)), Padding((7, 7, 7))]]
)
def test_steps_that_need_the_whole_array_get_it(steps):
    sample = prepared(steps)
    values = probabilities(sample.img_data.shape[:-1])
    labels = undo_subfunctions(sample, steps, in_slabs(values), values.shape[:-1], 3)
    assert labels.shape == (12, 10, 8)


def test_slabs_are_taken_to_their_end_so_that_checks_there_are_made():
    def slabs():
        yield from in_slabs(probabilities((6, 5, 4)))(slice(0, 5))
        raise ConfigurationError("there was one patch too many")

    steps = [Resize((6, 5, 4))]
    with pytest.raises(ConfigurationError, match="one patch too many"):
        undo_subfunctions(prepared(steps), steps, whole_slabs(slabs()), (6, 5, 4), 3)
