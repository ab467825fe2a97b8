from __future__ import annotations

import functools

import pytest


@pytest.fixture
def make_network(toy_io):
    """Makes a tiny `Neural_Network` on toy samples; arguments go to the interface, preprocessor or network."""
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.processing.preprocessor import Preprocessor

    def make(io=None, data=None, processing=None, depth=1, **arguments):
        io = io or toy_io(**(data or {}))
        patch = (8, 8, 8)[: 3 if io.interface.three_dim else 2]
        preprocessor = Preprocessor(io, **{"batch_size": 2, "patch_shape": patch, "seed": 3, **(processing or {})})
        network = Neural_Network(
            preprocessor,
            **{"architecture": Architecture(n_filters=4, depth=depth), "precision": "float32", **arguments},
        )
        network.verbose = 0
        return network

    return make


@pytest.fixture
def make_tiny_network(make_network):
    """Makes a network of two convolutions and a head, for tests that are about something else.

    Tracing the layers is what takes time in so small a training.
    """
    from miscnn_tf.neural_network.architecture.unet.plain import Architecture

    return functools.partial(make_network, architecture=Architecture(feature_maps=(4,), instance_normalization=False))
