"""The optimizer by the formula of PyTorch; ``benchmarks/parity.py`` compares it with PyTorch itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.nesterov_sgd import NesterovSGD
from miscnn_tf.neural_network.optimizer import OptimizerRecipe


def test_the_steps_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=7)
    variable, optimizer = keras.Variable(weight), NesterovSGD(0.1, momentum=0.9, weight_decay=0.01, global_clipnorm=2.0)
    momentum = np.zeros(7)
    for step in range(10):
        rate = 0.1 / (step + 1)  # a rate that falls takes effect at once
        gradient = rng.normal(size=7) * 3
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        gradient = gradient * min(1, 2 / np.linalg.norm(gradient)) + 0.01 * weight
        momentum = 0.9 * momentum + gradient
        weight = weight - rate * (gradient + 0.9 * momentum)
        np.testing.assert_allclose(variable, weight, rtol=1e-5)


def test_it_is_rebuilt_from_its_description():
    recipe = OptimizerRecipe.of(NesterovSGD(0.05, momentum=0.8, weight_decay=0.1, global_clipnorm=3.0))
    description = recipe.describe()
    assert description["class_name"] == "miscnn_tf>NesterovSGD"
    again = OptimizerRecipe.of_description(description, {}).make(0.2)
    assert (again.momentum, again.l2, again.global_clipnorm) == (0.8, 0.1, 3.0)
    assert again.weight_decay is None  # Keras would apply it a second time
    assert isinstance(OptimizerRecipe.of_name("nesterov_sgd").make(0.01), NesterovSGD)
    with pytest.raises(ConfigurationError, match="momentum"):
        NesterovSGD(momentum="much")


def test_a_network_trains_with_it_in_half_precision_too(make_network):
    network = make_network(
        optimizer=NesterovSGD(0.05, momentum=0.9, global_clipnorm=12.0), learning_rate=0.05, precision="mixed_bfloat16"
    )
    losses = network.train([f"case_{number}" for number in range(4)], epochs=4).history["loss"]
    assert losses[-1] < losses[0]
