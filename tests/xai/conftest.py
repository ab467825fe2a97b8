from __future__ import annotations

import pytest

import miscnn_tf
from miscnn_tf.data_loading.interfaces import Dictionary_interface


@pytest.fixture
def network_on(tmp_path):
    """Makes a network that works on arrays by name; `patch` None: on whole images."""

    def make(images, architecture, patch=None, classes=3, overlap=0, steps=(), truth=None, **arguments):
        axes = next(iter(images.values())).ndim
        entries = {name: (image, None if truth is None else truth[name]) for name, image in images.items()}
        interface = Dictionary_interface(entries, channels=1, classes=classes, three_dim=axes == 3)
        io = miscnn_tf.Data_IO(interface, "", tmp_path / "predictions", tmp_path / "batches")
        analysis = {"analysis": "fullimage", "batch_size": 1} if patch is None else {"patch_shape": patch}
        preprocessor = miscnn_tf.Preprocessor(io, **{"batch_size": 3, "subfunctions": steps, "seed": 1, **analysis})
        preprocessor.patchwise_overlap = overlap
        network = miscnn_tf.Neural_Network(preprocessor, architecture, **{"precision": "float32", **arguments})
        network.verbose = 0
        return network

    return make
