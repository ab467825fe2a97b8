"""Each convolution of a dense block sees the block's input."""

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.architecture.unet.dense import Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as Standard


@pytest.mark.parametrize("axes", [2, 3])
def test_the_second_convolution_sees_the_input_beside_the_first_ones_output(axes, rng):
    model = Architecture(3, 1).create_model((*(4,) * axes, 2), 2)
    x = rng.normal(size=(1, *(4,) * axes, 2)).astype("float32")
    names = ("down0_first_conv0_norm", "down0_dense")
    first, seen = (np.asarray(y) for y in keras.Model(model.input, [model.get_layer(n).output for n in names])(x))
    np.testing.assert_array_equal(seen, np.concatenate([x, first], -1))
    assert model.get_layer("down0_second_conv0").input is model.get_layer("down0_dense").output


@pytest.mark.parametrize("axes", [2, 3])
def test_weights_beyond_the_standard_unets_are_those_that_see_the_blocks_input(axes):
    shape = (*(None,) * axes, 1)
    more = Architecture().create_model(shape, 2).count_params() - Standard().create_model(shape, 2).count_params()
    widths = [32, 64, 128, 256, 512]
    kernels = [before * after for before, after in zip([1, *widths], widths, strict=False)]
    kernels += [2 * width * width for width in widths[:-1]]
    assert more == 3**axes * sum(kernels)
