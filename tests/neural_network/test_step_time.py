"""Measurement of a training step."""

from __future__ import annotations

import itertools

import pytest

from miscnn_tf.neural_network import step_time
from miscnn_tf.neural_network.architecture.nnunet import NnUNet_plain
from miscnn_tf.neural_network.step_time import seconds_per_step


def seconds(network):
    shape = (network.preprocessor.batch_size, *network.window_shape)
    return seconds_per_step(network.model, shape, network.channels, network.classes)


@pytest.mark.parametrize("three_dim", [False, True])
def test_it_is_the_median_without_the_step_that_compiles(make_tiny_network, monkeypatch, three_dim):
    network = make_tiny_network(data={"shape": (12, 12, 12)[: 2 + three_dim]})
    # Begin and end of each step: 0.5, 9, 1 s and then so long that three are enough.
    clock = iter(itertools.accumulate([0, 0.5, 1, 9, 1, 1, 1]))
    monkeypatch.setattr(step_time.time, "perf_counter", lambda: next(clock))
    steps = []
    make_step = network.model.train_on_batch
    monkeypatch.setattr(network.model, "train_on_batch", lambda *batch: steps.append(batch) or make_step(*batch))
    assert seconds(network) == 1
    assert len(steps) == 4
    images, labels = steps[0]
    assert images.shape == (2, *network.window_shape, network.channels)
    assert labels.shape == (2, *network.window_shape)


def test_a_network_with_several_outputs_is_measured(make_network):
    network = make_network(architecture=NnUNet_plain((2, 4, 8), deep_supervision=True))
    assert seconds(network) > 0
