"""The MultiResUNet against the filters and the number of weights that its paper prints."""

import keras
import numpy as np
import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.unet.multiRes import Architecture


def test_filters_of_table_1():
    printed = [(8, 17, 26), (17, 35, 53), (35, 71, 106), (71, 142, 213), (142, 284, 427)]
    assert [Architecture().widths(level) for level in range(5)] == printed
    model = Architecture().create_model((16, 16, 1), 2)
    for level, name in enumerate(("down0", "down1", "down2", "down3", "bridge")):
        assert tuple(model.get_layer(f"{name}_conv{n}").filters for n in range(3)) == printed[level]
        assert model.get_layer(f"{name}_shortcut").filters == sum(printed[level])


@pytest.mark.parametrize(("shape", "printed"), [((None, None, 3), 7_262_750), ((None, None, None, 4), 18_657_689)])
def test_number_of_weights_of_the_papers_table(shape, printed):
    model = Architecture(activation="sigmoid").create_model(shape, n_labels=1)
    ours = model.count_params()
    for layer in model.layers:
        if layer.name.endswith("_norm"):
            ours -= 1  # the count of updates, which only our layer has
            if "_add" not in layer.name and "_scales" not in layer.name:
                ours -= layer.gamma.shape[0]  # the authors' units normalise without a scale
    # Their output has normalisation (3 numbers) in the place of a bias.
    assert ours + 2 == printed


def test_res_paths_get_shorter_with_depth():
    model = Architecture(n_filters=4, depth=3).create_model((8, 8, 1), 2)
    steps = [layer.name for layer in model.layers if "_path" in layer.name and layer.name.endswith("_conv")]
    lengths = [sum(name.startswith(f"up{level}_") for name in steps) for level in range(3)]
    assert lengths == [3, 2, 1]
    assert {model.get_layer(name).filters for name in steps if name.startswith("up1")} == {8}


@pytest.mark.parametrize("axes", [2, 3])
def test_a_block_adds_the_shortcut_to_three_scales_side_by_side(axes, rng):
    model = Architecture(n_filters=6, depth=1, batch_normalization=False).create_model((*(4,) * axes, 2), 2)
    scales = [f"down0_conv{number}_relu" for number in range(3)]
    names = [*scales, "down0_shortcut", "down0_add_relu"]
    inner = keras.Model(model.input, [model.get_layer(name).output for name in names])
    *parts, shortcut, result = (np.asarray(y) for y in inner(rng.normal(size=(1, *(4,) * axes, 2)).astype("float32")))
    np.testing.assert_allclose(result, np.maximum(np.concatenate(parts, -1) + shortcut, 0), atol=1e-5)
    # In a row: the second scale is computed from the first.
    assert model.get_layer("down0_conv1").input is model.get_layer("down0_conv0_relu").output


def test_arguments():
    assert get_config(Architecture("sigmoid"))["activation"] == "sigmoid"
    assert Architecture(n_filters=1, depth=1).widths(0) == (1, 1, 1)
    for alpha in (0, "wide"):
        with pytest.raises(ConfigurationError, match="alpha"):
            Architecture(alpha=alpha)
