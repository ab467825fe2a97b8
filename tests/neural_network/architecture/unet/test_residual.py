"""Around each block of the residual U-Net, its input is added."""

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.architecture.unet.residual import Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as Standard


@pytest.mark.parametrize("axes", [2, 3])
def test_the_output_of_a_block_is_the_standard_blocks_plus_the_projected_input(axes, rng):
    model = Architecture(3, 1).create_model((*(4,) * axes, 2), 2)
    x = rng.normal(size=(1, *(4,) * axes, 2)).astype("float32")
    inner = keras.Model(model.input, [model.get_layer("down0_conv1_norm").output, model.get_layer("down0_add").output])
    convolved, added = (np.asarray(y) for y in inner(x))
    kernel, bias = model.get_layer("down0_shortcut").get_weights()
    np.testing.assert_allclose(added, convolved + x @ kernel.reshape(2, 3) + bias, atol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_weights_beyond_the_standard_unets_are_those_of_the_shortcuts(axes):
    shape = (*(None,) * axes, 1)
    more = Architecture().create_model(shape, 2).count_params() - Standard().create_model(shape, 2).count_params()
    widths = [32, 64, 128, 256, 512]
    into = [1, 32, 64, 128, 256]
    shortcuts = [(before + 1) * after for before, after in zip(into, widths, strict=True)]
    shortcuts += [(2 * width + 1) * width for width in widths[:-1]]
    assert more == sum(shortcuts)
