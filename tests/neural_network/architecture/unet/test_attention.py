"""Where the gates are, and what they do to the skips; the gate itself is checked in test_blocks."""

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.architecture.unet.attention import Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as Standard


def gates(model):
    return [layer.name for layer in model.layers if layer.name.endswith("_gate_gated")]


def test_all_skips_but_the_finest_are_gated():
    assert gates(Architecture(2, 3).create_model((8, 8, 1), 2)) == ["up2_gate_gated", "up1_gate_gated"]
    assert gates(Architecture(2, 1).create_model((8, 8, 1), 2)) == ["up0_gate_gated"]


@pytest.mark.parametrize("axes", [2, 3])
def test_a_gate_weights_the_encoders_features_by_numbers_from_0_to_1(axes, rng):
    model = Architecture(4, 2).create_model((*(8,) * axes, 1), 2)
    names = ("down1_conv1_norm", "up1_gate_alpha", "up1_skip")
    inner = keras.Model(model.input, [model.get_layer(name).output for name in names])
    x = rng.normal(size=(2, *(8,) * axes, 1)).astype("float32")
    features, alpha, joined = (np.asarray(y) for y in inner(x))
    assert alpha.shape == (2, *(4,) * axes, 1)
    assert alpha.min() > 0
    assert alpha.max() < 1
    assert alpha.std() > 0
    np.testing.assert_allclose(joined[..., :8], features * alpha, atol=1e-5)
    # The gating signal is the coarser level of the decoder.
    assert model.get_layer("up1_gate_phi").input is model.get_layer("bridge_conv1_norm").output


@pytest.mark.parametrize("axes", [2, 3])
def test_weights_beyond_the_standard_unets_are_those_of_the_gates(axes):
    shape = (*(None,) * axes, 1)
    more = Architecture().create_model(shape, 2).count_params() - Standard().create_model(shape, 2).count_params()
    # Of the levels 1 to 3: W_x without bias, W_g and ψ with.
    assert more == sum(2**axes * f * f + (2 * f + 1) * f + f + 1 for f in (64, 128, 256))
