"""What a user's own architecture needs, and which shapes are refused."""

import keras
import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import Abstract_Architecture


def identity(input_shape):
    image = keras.Input(tuple(input_shape))
    return keras.Model(image, keras.layers.ReLU()(image))


class Both(Abstract_Architecture):
    """As MIScnn's users write them."""

    def __init__(self, factor=2):
        self.factor = factor

    def create_model_2D(self, input_shape, n_labels=2):
        return identity(input_shape)

    def create_model_3D(self, input_shape, n_labels=2):
        return identity(input_shape)


class OnlyVolumes(Abstract_Architecture):
    def create_model_3D(self, input_shape, n_labels=2):
        return identity(input_shape)


class General(Abstract_Architecture):
    divisor = 4

    def create_model(self, input_shape, n_labels=2):
        return identity(input_shape)


class Uneven(Abstract_Architecture):
    def divisors(self, n_axes):
        return (4,) * (n_axes - 1) + (2,)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 8, 1), (None, None, None, 2)])
@pytest.mark.parametrize("architecture", [Both(), General()])
def test_create_model_and_its_two_named_forms_are_one(architecture, shape):
    named = architecture.create_model_2D if len(shape) == 3 else architecture.create_model_3D
    assert named(shape, 2).input_shape == architecture.create_model(shape, 2).input_shape == (None, *shape)


def test_one_number_of_axes_is_enough():
    assert OnlyVolumes().create_model((8, 8, 8, 1)).input_shape == (None, 8, 8, 8, 1)
    for build in (OnlyVolumes().create_model, OnlyVolumes().create_model_2D):
        with pytest.raises(ConfigurationError, match="OnlyVolumes has no create_model_2D"):
            build((8, 8, 1))


def test_nothing_implemented_is_said():
    with pytest.raises(ConfigurationError, match="create_model_3D"):
        Abstract_Architecture().create_model((8, 8, 8, 1))


def test_a_wrong_number_of_axes_is_refused():
    with pytest.raises(ConfigurationError, match=r"\(x, y, z, channels\)"):
        General().create_model_3D((8, 8, 1))
    with pytest.raises(ConfigurationError, match=r"input_shape=\(8, 1\)"):
        Both().create_model((8, 1))


def test_the_configuration_is_the_constructors_arguments():
    assert get_config(Both(factor=5)) == {"factor": 5}


def test_any_size_fits_where_nothing_is_halved():
    assert Both().divisors(3) == (1, 1, 1)
    Both().check_shape((7, 5, 3))


def test_patch_that_the_depth_cannot_halve_is_refused_with_the_sizes_that_fit():
    General().check_shape((4, None, 16))
    with pytest.raises(ConfigurationError) as error:
        General().check_shape((40, 50, 3))
    message = str(error.value)
    assert "patch_shape=(40, 50, 3)" in message
    assert "divisible by 4" in message
    assert "axis 1: 50 -> 48 or 52; axis 2: 3 -> 4" in message
    assert "axis 0" not in message


def test_axes_may_be_halved_differently_often():
    Uneven().check_shape((8, 4, 2))
    with pytest.raises(ConfigurationError, match=r"divisible by \(4, 4, 2\).*axis 0: 6 -> 4 or 8; axis 2: 3 -> 2 or 4"):
        Uneven().check_shape((6, 4, 3), "resized shape")
