"""Each training that starts anew draws the same dropout, whatever the network was trained on before."""

from __future__ import annotations

import numpy as np
import pytest
from small_network import SmallNetwork

from miscnn_tf import Neural_Network, Preprocessor
from miscnn_tf.neural_network.compiled_model import random_state


@pytest.fixture
def network(toy_io):
    preprocessor = Preprocessor(toy_io(shape=(8, 8), cases=2), 1, data_aug=None, patch_shape=(8, 8), seed=1)
    return Neural_Network(preprocessor, SmallNetwork(), precision="float32", seed=1)


def test_reset_restores_the_state_of_dropout(network):
    initial = random_state(network.model)
    assert len(initial) == 1
    network.train(["case_0"], epochs=1)
    assert not np.array_equal(random_state(network.model)[0], initial[0])
    assert np.array_equal(random_state(network.copy().model)[0], initial[0])
    network.reset()
    assert np.array_equal(random_state(network.model)[0], initial[0])


def test_the_second_training_equals_the_first_one_after_reset(network):
    losses = []
    for _ in range(2):
        losses.append(network.train(["case_0", "case_1"], epochs=3).history["loss"])
        network.reset()
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
