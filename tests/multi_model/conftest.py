"""Tiny networks on toy images, made once for a file: they are untrained, which is enough to predict."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from toy import ToyInterface


@pytest.fixture(scope="module")
def make_kit(tmp_path_factory):
    """Makes a preprocessor, and a function that makes networks on it."""
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.processing.preprocessor import Preprocessor

    def make(shape=(20, 22), classes=3, interface=None, **settings):
        folder = tmp_path_factory.mktemp("kit")
        interface = interface or ToyInterface(shape=shape, classes=classes, cases=4)
        io = Data_IO(interface, str(folder), output_path=folder / "predictions", batch_path=folder / "batches")
        patch = (8, 8, 8)[: 3 if interface.three_dim else 2]
        settings = {"batch_size": 2, "patch_shape": patch, "seed": 3, "data_aug": None, **settings}
        preprocessor = Preprocessor(io, **settings)
        if settings.get("patch_shape"):
            preprocessor.patchwise_overlap = (4,) * len(patch)

        def network(seed=0, depth=1, on=preprocessor, **arguments):
            made = Neural_Network(
                on, Architecture(n_filters=4, depth=depth), seed=seed, precision="float32", **arguments
            )
            made.verbose = 0
            return made

        return SimpleNamespace(preprocessor=preprocessor, io=io, network=network, folder=folder)

    return make


@pytest.fixture(scope="module")
def kit(make_kit):
    """One preprocessor with a resampling step, and three networks on it."""
    from miscnn_tf.processing.subfunctions import Normalization, Resampling

    made = make_kit(subfunctions=[Resampling((0.8, 1.25)), Normalization()])
    made.networks = [made.network(seed) for seed in range(3)]
    return made
