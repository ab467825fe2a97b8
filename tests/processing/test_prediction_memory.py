"""What is estimated, beside what tracemalloc, which sees numpy's arrays, finds."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from toy import ToyInterface

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing import assembling, interpolation
from miscnn_tf.processing.assembling import assembling_bytes, most_sections, preparation_bytes
from miscnn_tf.processing.patching import blending
from miscnn_tf.processing.preparation import complete, run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions import (
    Clipping,
    Normalization,
    Padding,
    Resampling,
    Resize,
    TransformHU,
    abstract_subfunction,
    resampling,
)
from miscnn_tf.processing.subfunctions import normalization as normalization_module
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

SHAPE = (80, 66, 60)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    """Slabs that are as small beside these images as they are beside real ones."""
    size = 2**15
    monkeypatch.setattr(abstract_subfunction, "SLAB_BYTES", size)
    monkeypatch.setattr(normalization_module, "_SLAB_BYTES", size)
    monkeypatch.setattr(assembling, "PIECE_BYTES", size)
    monkeypatch.setattr(blending, "PIECE_BYTES", size)
    for name in ("resize_probabilities_to_labels", "resize_image", "resized_slabs", "resizing_bytes"):
        function = getattr(interpolation, name)
        defaults = tuple(size if value == interpolation.SLAB_BYTES else value for value in function.__defaults__)
        monkeypatch.setattr(function, "__defaults__", defaults)
    monkeypatch.setattr(interpolation, "SLAB_BYTES", size)
    assert resampling.resize_image is interpolation.resize_image


def peak_of(function):
    function()  # what is imported and cached at first use
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def scan(dtype=np.int16, classes=3, shape=SHAPE):
    image = np.random.default_rng(0).normal(0, 300, shape).astype(dtype)
    return Sample("a", image, 1, classes, {"spacing": (0.8, 0.8, 1.0)}, three_dim=True)


@pytest.mark.parametrize("shape", [SHAPE, (6, 150, 132)])  # also of few, large planes
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Clipping(min=-100, max=300), Normalization()],
        [Clipping(min=-100.5, max=300)],
        [Resampling((1.2, 1.2, 1.2)), Normalization(mode="minmax")],
        [Resampling((0.6, 0.6, 0.6)), Padding((120, 30, 30))],
        [TransformHU(), Resize((40, 90, 40))],
        [Padding((100, 80, 60)), Normalization()],
        [Padding((100, 80, 60), pad_value_img=0.5)],
        [Padding((100, 80, 60), pad_mode="median"), Clipping(min=0, max=1)],
        [Padding((100, 80, 60), pad_mode="linear_ramp")],
        [Resize((40, 160, 90), order_img=5)],
    ],
)
def test_preparing_takes_no_more_than_was_estimated(steps, dtype, shape):
    sample = scan(dtype, shape=shape)
    estimate = preparation_bytes(sample, steps, kept=True)

    def prepare():
        one = Sample("a", sample.img_data, 1, 3, sample.extended, three_dim=True)
        run_subfunctions(one, steps, training=False)
        complete(one)

    peak = peak_of(prepare)
    read = sample.img_data.nbytes
    assert peak <= estimate + 2**15  # and Python's own objects
    if shape == SHAPE:
        assert estimate + read < 1.9 * (peak + read)
    assert preparation_bytes(sample, steps, kept=False) <= estimate


class Own(Abstract_Subfunction):
    """A step of a user's that makes new arrays of predictions, probabilities included."""

    acts_on_activation = True

    def preprocessing(self, sample, training=True):
        pass

    def postprocessing(self, sample, prediction, activation_output=False):
        return np.negative(prediction)


class OwnOfLabels(Own):
    acts_on_activation = False


@pytest.mark.parametrize("sections", [1, 4])
@pytest.mark.parametrize("activation_output", [False, True])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Resize((54, 44, 40))],
        [Resize((54, 44, 40)), Padding((60, 60, 40))],
        [Padding((86, 86, 66))],
        [Own()],
        [Resize((54, 44, 40)), Own(), Padding((60, 60, 40))],
        [Resize((54, 44, 40)), OwnOfLabels()],  # which has labels resampled
        [Resize((84, 70, 64)), Resize((40, 36, 30))],
        [Resize(SHAPE), Padding((86, 86, 66))],  # the same grid
    ],
)
def test_assembling_takes_no_more_than_was_estimated(steps, activation_output, sections):
    sample = scan(np.float32, classes=12)
    interface = ToyInterface(shape=SHAPE, classes=12)
    preprocessor = Preprocessor(SimpleNamespace(interface=interface), 1, steps, data_aug=None, patch_shape=(24, 24, 24))
    preprocessor.patchwise_overlap = (12, 12, 12)
    run_subfunctions(sample, steps, training=False)

    def assemble():
        def patches(numbers):
            return (np.ones((24, 24, 24, 12), np.float32) for _ in numbers)

        preprocessor.assemble(sample, patches, activation_output, sections=sections)

    parts = assembling_bytes(preprocessor.plan(), steps, sample, activation_output, held=1, sections=sections)
    peak = peak_of(assemble)
    being_made = 24**3 * 12 * 4  # which the network takes
    assert peak <= sum(parts) + being_made
    assert sum(parts) < 1.9 * peak


class Double(Abstract_Subfunction):
    """A user's step that doubles the grid, axis by axis."""

    def preprocessing(self, sample, training=True):
        image = sample.img_data.astype(np.float32)
        for axis in range(sample.ndim):
            image = image.repeat(2, axis)
        sample.img_data = image


class DeclaredDouble(Double):
    def output_spec(self, image):
        return image.replace(shape=tuple(2 * size for size in image.shape), dtype=np.dtype(np.float32))

    def working_bytes(self, image):
        return self.output_spec(image).nbytes // 2  # the result before its last axis is doubled


def test_a_users_step_that_doubles_the_grid_gets_a_true_estimate(monkeypatch):
    """Defect: 99.9 MB were estimated where 196.6 MB were taken, and a step could not declare its result."""
    monkeypatch.undo()  # slabs as large as they are
    image = np.zeros((160, 160, 160), np.int16)

    def prepare():
        run_subfunctions(Sample("a", image, 1, 2, three_dim=True), [Double()], training=False)

    peak = peak_of(prepare)
    assert peak == pytest.approx(196.6e6, rel=0.01)
    sample = Sample("a", image, 1, 2, three_dim=True)
    assert preparation_bytes(sample, [Double()], kept=True) == pytest.approx(99.9e6, rel=0.01)
    estimate = preparation_bytes(sample, [DeclaredDouble()], kept=True)
    assert peak <= estimate + 2**15
    assert estimate < 1.05 * peak


class DoubleAndBack(Double):
    """The same, undone on class probabilities."""

    acts_on_activation = True

    def postprocessing(self, sample, prediction, activation_output=False):
        return prediction[::2, ::2, ::2].copy()


@pytest.mark.parametrize("activation_output", [False, True])
def test_a_users_step_that_doubles_the_grid_is_undone_within_the_estimate(activation_output):
    """Defect: the grid before such a step was unknown, and the largest of all was assumed."""
    sample, steps = scan(np.float32, classes=6, shape=(40, 32, 30)), [DoubleAndBack()]
    interface = ToyInterface(shape=(40, 32, 30), classes=6)
    preprocessor = Preprocessor(SimpleNamespace(interface=interface), 1, steps, data_aug=None, patch_shape=(24, 24, 24))
    run_subfunctions(sample, steps, training=False)
    parts = assembling_bytes(preprocessor.plan(), steps, sample, activation_output, held=1, sections=1)

    def assemble():
        patches = iter(np.ones((24, 24, 24, 6), np.float32) for _ in range(4 * 3 * 3))
        preprocessor.assemble(sample, patches, activation_output)

    being_made = 24**3 * 6 * 4
    peak = peak_of(assemble)
    assert peak <= sum(parts) + being_made
    assert sum(parts) < 1.9 * peak


def test_whole_images_are_not_cut():
    interface = ToyInterface(shape=SHAPE)
    for settings, most in (({"analysis": "fullimage"}, 1), ({"patch_shape": (24, 24, 24)}, 16)):
        preprocessor = Preprocessor(SimpleNamespace(interface=interface), 1, data_aug=None, **settings)
        assert most_sections(preprocessor.plan(), scan()) == most
