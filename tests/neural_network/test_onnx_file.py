"""ONNX files compute what the network computes, and say what has to come before it."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import pytest

from miscnn_tf.errors import ConfigurationError, MissingExtraError, StorageError


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_an_onnx_runtime_gives_the_same_probabilities(make_network, precision, tmp_path, rng):
    network = make_network(precision=precision)
    network.verbose = 0
    network.train(network.preprocessor.data_io.get_indiceslist(), epochs=1)
    path = tmp_path / "model.onnx"
    network.export_onnx(path)

    session = onnxruntime.InferenceSession(str(path))
    image = rng.normal(size=(3, *network.preprocessor.patch_shape, network.channels)).astype(np.float32)
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: image})
    expected = network.in_float32()(image, training=False)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert session.get_inputs()[0].name == "image"

    description = json.loads(session.get_modelmeta().custom_metadata_map["miscnn_tf"])
    assert description["classes"] == network.classes
    assert description["preprocessor"]["patch_shape"] == list(network.preprocessor.patch_shape)
    assert [entry.name for entry in tmp_path.glob("*.onnx*")] == ["model.onnx"]


def test_the_copy_in_float32_has_the_weights(make_network):
    network = make_network(precision="mixed_bfloat16")
    twin = network.in_float32()
    assert twin.compute_dtype == "float32"
    for ours, theirs in zip(network.model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_cannot_be_written(make_network, tmp_path, monkeypatch):
    network = make_network()
    with pytest.raises(ConfigurationError, match=r"must end in \.onnx"):
        network.export_onnx(tmp_path / "model.keras")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        network.export_onnx(tmp_path / "file" / "model.onnx")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingExtraError, match=r"tf2onnx.*miscnn_tf\[onnx\]"):
        network.export_onnx(tmp_path / "model.onnx")


def test_of_several_machines_the_first_one_writes(make_network, tmp_path, become_second_worker):
    network = make_network()
    become_second_worker()
    network.export_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.glob("*.onnx")) == []
