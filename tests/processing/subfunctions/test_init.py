"""What all six subfunctions promise alike."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from miscnn_tf._base.configuration import build, describe
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.subfunctions import (
    Abstract_Subfunction,
    Clipping,
    Normalization,
    Padding,
    Resampling,
    Resize,
    TransformHU,
    subfunctions,
)

STEPS = [
    Clipping(-79, 304),
    Normalization("minmax", smooth=1e-3),
    Padding([12, 12], "edge", -1, 1, [4, 4]),
    Padding((12, 12), shape_must_be_divisible_by=16),
    Resampling([0.5, 0.5], 1, 0),
    Resize([5, 5], 1, 0),
    TransformHU(False, 2, -1000, -3000, [-500, 500]),
]


def named(step):
    return type(step).__name__


def make(ndim, channels=2, **extended):
    rng = np.random.default_rng(5)
    shape = (9, 8, 7)[:ndim]
    sample = Sample(
        "case", rng.integers(-100, 100, (*shape, channels)).astype(np.int16), channels, 3, extended, ndim == 3
    )
    sample.add_segmentation(rng.integers(0, 3, shape).astype(np.uint8))
    return sample


def equal_sizes(step):
    """The step with sizes that fit any number of axes (its defaults where those do)."""
    return Padding((12,)) if isinstance(step, Padding) else step


def test_all_six_are_registered_under_their_class_names():
    assert set(subfunctions) >= {"Clipping", "Normalization", "Padding", "Resampling", "Resize", "TransformHU"}
    assert subfunctions.get("Resampling") is Resampling
    assert {named(step) for step in STEPS} <= set(subfunctions.names())


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_a_step_is_plain_data_and_comes_back(step):
    copy = build(json.loads(json.dumps(describe(step))), subfunctions, "subfunction")
    assert type(copy) is type(step)
    assert describe(copy) == describe(step)
    assert vars(copy) == vars(step)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("step", STEPS, ids=named)
def test_read_only_memory_maps_are_neither_written_nor_needed_in_ram(step, ndim, tmp_path, capsys):
    step = equal_sizes(step)
    sample, mapped = make(ndim, spacing=(1.0,) * ndim), make(ndim, spacing=(1.0,) * ndim)
    for name in ("img_data", "seg_data"):
        path = tmp_path / f"{name}.npy"
        np.save(path, getattr(sample, name))
        setattr(mapped, name, np.load(path, mmap_mode="r"))
    image, labels = sample.img_data.copy(), sample.seg_data.copy()
    original = sample.img_data, sample.seg_data
    step.preprocessing(sample)
    step.preprocessing(mapped)
    assert np.array_equal(sample.img_data, mapped.img_data)
    assert np.array_equal(sample.seg_data, mapped.seg_data)
    assert np.array_equal(original[0], image)
    assert np.array_equal(original[1], labels)
    assert np.array_equal(np.load(tmp_path / "img_data.npy"), image)
    assert sample.img_data.dtype in (np.float32, np.int16)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("step", STEPS, ids=named)
def test_nothing_about_a_sample_stays_in_the_step(step, ndim):
    step = equal_sizes(step)
    before = dict(vars(step))
    first, second = make(ndim, spacing=(1.0,) * ndim), make(ndim, spacing=(2.0,) * ndim)
    second.img_data, second.seg_data = second.img_data[:6], second.seg_data[:6]
    step.preprocessing(first)
    step.preprocessing(second)
    assert vars(step) == before
    # The history travels as JSON with a prepared sample.
    first.history, second.history = json.loads(json.dumps([first.history, second.history]))
    for sample, size in ((first, 9), (second, 6)):
        shape = sample.img_data.shape[:-1]
        assert step.postprocessing(sample, np.zeros(shape, np.uint8)).shape == (size, 8, 7)[:ndim]
        activation = np.full((*shape, 3), 1 / 3, np.float32)
        assert step.postprocessing(sample, activation, activation_output=True).shape == (*(size, 8, 7)[:ndim], 3)
        assert step.postprocess_to_labels(sample, activation).shape == (size, 8, 7)[:ndim]


def test_a_chain_is_undone_in_reverse():
    chain = [Clipping(-80, 80), Resampling((0.5,)), Normalization(), Padding((30,), shape_must_be_divisible_by=4)]
    sample = make(3, spacing=(1.0, 1.0, 2.0))
    labels = sample.seg_data[..., 0]
    for step in chain:
        step.preprocessing(sample)
    assert sample.img_data.shape == (32, 32, 32, 2)
    assert math.isclose(sample.spacing[2], 0.5)
    prediction = sample.seg_data[..., 0]
    for step in reversed(chain):
        prediction = step.postprocessing(sample, prediction)
    assert prediction.shape == labels.shape
    assert (prediction == labels).mean() > 0.9


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_what_may_be_done_with_class_probabilities(step):
    assert step.acts_on_activation
    assert step.interpolates == isinstance(step, Resampling | Resize)
    assert isinstance(step, Abstract_Subfunction)
