"""The registry of architectures."""

import pytest

from miscnn_tf._base.configuration import build, describe
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import Abstract_Architecture, architectures
from miscnn_tf.neural_network.architecture.unet import UNet_standard
from miscnn_tf.neural_network.architecture.unet.standard import Architecture


def test_the_standard_unet_is_found_by_name_and_by_module():
    assert architectures.get("unet_standard") is Architecture is UNet_standard
    assert "unet_standard" in architectures.names()


def test_a_users_architecture_is_registered_and_built_from_its_description():
    @architectures.register("test_wide")
    class Wide(Abstract_Architecture):
        def __init__(self, width=3):
            self.width = width

    try:
        assert architectures.get("test_wide") is Wide
        described = describe(Wide(width=7), architectures.name_of(Wide))
        assert described == {"class_name": "test_wide", "config": {"width": 7}}
        assert build(described, architectures, "architecture").width == 7
        with pytest.raises(ConfigurationError, match="already used"):
            architectures.register("test_wide", UNet_standard)
    finally:
        del architectures["test_wide"]


def test_an_unknown_name_gives_a_hint():
    with pytest.raises(ConfigurationError, match="unet_standard"):
        architectures.get("unet_standart")
