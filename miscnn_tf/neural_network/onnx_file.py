"""A trained network as an ONNX file, for programs that have no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import keras

from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.neural_network.model_file import describe_network

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

_METADATA_KEY = "miscnn_tf"


def write(network: Neural_Network, path: str | Path) -> None:
    """Write the network and the description of its preprocessing, atomically: see `Neural_Network.export_onnx`."""
    path = Path(path)
    if path.suffix != ".onnx":
        raise ConfigurationError(f"the ONNX file {path} must end in .onnx")
    try:
        import onnx
        import tf2onnx  # noqa: F401 - what Keras exports with
    except ImportError as error:
        raise MissingExtraError(f"ONNX files need the package {error.name}: pip install 'miscnn_tf[onnx]'") from error
    with atomic_path(path) as temporary:
        # Keras exports float32 networks alone.
        model = network.in_float32()
        image = keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="image")
        model.export(temporary, format="onnx", verbose=False, input_signature=[image])
        graph = onnx.load(temporary)
        graph.metadata_props.add(key=_METADATA_KEY, value=describe_network(network))
        onnx.save(graph, temporary)
