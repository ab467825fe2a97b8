"""A compact block hands on its input beside its output."""

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.architecture.unet.compact import Architecture


@pytest.mark.parametrize("axes", [2, 3])
def test_the_bridge_and_the_decoder_get_the_image_itself(axes, rng):
    model = Architecture(4, 2).create_model((*(8,) * axes, 2), 2)
    x = rng.normal(size=(1, *(8,) * axes, 2)).astype("float32")
    inner = keras.Model(model.input, [model.get_layer(f"{name}_compact").output for name in ("down0", "bridge", "up0")])
    first, bridge, last = (np.asarray(y) for y in inner(x))
    np.testing.assert_array_equal(first[..., :2], x)
    np.testing.assert_array_equal(last[..., :2], x)
    blocks = x.reshape(1, *(2, 4) * axes, 2).max(tuple(range(2, 2 * axes + 1, 2)))
    np.testing.assert_array_equal(bridge[..., :2], blocks)


def test_widths_grow_by_the_blocks_own_filters():
    model = Architecture(4, 2).create_model((8, 8, 3), 2)
    widths = {
        name: model.get_layer(f"{name}_compact").output.shape[-1] for name in ("down0", "down1", "bridge", "up1", "up0")
    }
    # Each block adds its filters; a decoder's input is the skip and an upsampled map of the level's filters.
    assert widths == {"down0": 3 + 4, "down1": 7 + 8, "bridge": 15 + 16, "up1": 15 + 8 + 8, "up0": 7 + 4 + 4}
