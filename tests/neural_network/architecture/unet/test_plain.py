"""nnU-Net's plain U-Net: its widths, pooling, normalisation and activation."""

import keras
import numpy as np
import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.unet.plain import Architecture


def weight_count(axes, channels, classes, widths, first_pooling):
    """Closed form: kernels and biases, and scale and offset of each instance normalisation."""

    def convolution(before, after, voxels):
        return before * after * voxels + after

    def block(before, after):
        return convolution(before, after, 3**axes) + convolution(after, after, 3**axes) + 4 * after

    levels = [*widths, widths[-1]]
    total = sum(block(before, after) for before, after in zip([channels, *levels], levels, strict=False))
    for level, width in enumerate(widths):
        voxels = int(np.prod(first_pooling)) if level == 0 else 2**axes
        total += convolution(levels[level + 1], width, voxels) + block(2 * width, width)
    return total + convolution(widths[0], classes, 1)


@pytest.mark.parametrize(("axes", "first"), [(2, (2, 2)), (3, (1, 2, 2))])
def test_the_default_has_the_weights_of_the_paper(axes, first):
    model = Architecture().create_model((*(None,) * axes, 1), 3)
    assert model.count_params() == weight_count(axes, 1, 3, (30, 60, 120, 240, 320), first)


def test_only_the_first_pooling_of_volumes_spares_the_slices():
    assert Architecture().divisors(3) == (16, 32, 32)
    assert Architecture().divisors(2) == (32, 32)
    assert Architecture().divisor == 32
    model = Architecture(feature_maps=(2, 3, 4)).create_model((8, 16, 16, 1), 2)
    grids = [model.get_layer(f"{name}_conv0").output.shape[1:4] for name in ("down0", "down1", "down2", "bridge")]
    assert grids == [(8, 16, 16), (8, 8, 8), (4, 4, 4), (2, 2, 2)]
    even = Architecture(feature_maps=(2, 3), pooling=[2, 2, 2])
    assert even.divisors(3) == (4, 4, 4)


def test_the_paper_s_patch_ends_at_5_voxels():
    assert Architecture().create_model((80, 160, 160, 1), 3).get_layer("bridge_conv0").output.shape[1:4] == (5, 5, 5)


def test_refused_sizes_say_which_fit_each_axis():
    with pytest.raises(ConfigurationError, match=r"divisible by \(16, 32, 32\).*axis 0: 40 -> 32 or 48; axis 1: 48 ->"):
        Architecture().create_model((40, 48, 64, 1), 3)


@pytest.mark.parametrize("axes", [2, 3])
def test_a_block_against_its_formula(axes, rng):
    """Twice: convolution, then each image's own statistics, then leaky ReLU with slope 0.01."""
    model = Architecture(feature_maps=(3,)).create_model((*(8,) * axes, 2), 2)
    names = ("down0_conv0", "down0_conv0_activation", "down0_conv1", "down0_conv1_activation")
    inner = keras.Model(model.input, [model.get_layer(name).output for name in names])
    before, after, again, last = (np.asarray(y) for y in inner(rng.normal(size=(2, *(8,) * axes, 2)).astype("float32")))
    for raw, result in ((before, after), (again, last)):
        spatial = tuple(range(1, axes + 1))
        normal = (raw - raw.mean(spatial, keepdims=True)) / np.sqrt(raw.var(spatial, keepdims=True) + 1e-5)
        np.testing.assert_allclose(result, np.where(normal > 0, normal, 0.01 * normal), atol=1e-4)


def test_other_activations_normalisations_and_dropout():
    model = Architecture(
        conv_layer_activation="elu",
        instance_normalization_params={"epsilon": 0.1, "scale": False},
        dropout=0.25,
        feature_maps=[3],
    ).create_model((4, 4, 4, 1), 2)
    assert model.get_layer("bridge_conv1_activation").activation is keras.activations.elu
    normalisation = model.get_layer("bridge_conv1_norm")
    assert (normalisation.epsilon, normalisation.scale, normalisation.groups) == (0.1, False, 3)
    dropout = model.get_layer("down0_conv0_dropout")
    assert isinstance(dropout, keras.layers.SpatialDropout3D)
    assert dropout.rate == 0.25
    kinds = {
        (batch, instance): {
            type(layer).__name__
            for layer in Architecture(feature_maps=[2], instance_normalization=instance, batch_normalization=batch)
            .create_model((4, 4, 1), 2)
            .layers
            if "Normalization" in type(layer).__name__
        }
        for batch, instance in ((False, False), (True, False), (False, True))
    }
    assert list(kinds.values()) == [set(), {"BatchNormalization"}, {"InstanceNormalization"}]


def test_the_configuration_is_plain_data():
    config = get_config(Architecture(feature_maps=[4, 8], instance_normalization_params={"epsilon": 1e-3}))
    assert config["feature_maps"] == [4, 8]
    assert config["pooling"] == [1, 2, 2]
    assert get_config(Architecture(**config)) == config


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"conv_layer_activation": "lreluu"}, "conv_layer_activation"),
        ({"instance_normalization_params": {"epsilonn": 1}}, "instance_normalization_params"),
        ({"instance_normalization_params": {"groups": 2}}, "instance_normalization_params"),
        ({"dropout": 1}, "dropout"),
        ({"pooling": (2, 2)}, "pooling"),
        ({"pooling": (0, 2, 2)}, "pooling"),
        ({"feature_maps": ()}, "feature_maps"),
        ({"batch_normalization": True}, "exclude each other"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        Architecture(**arguments)
