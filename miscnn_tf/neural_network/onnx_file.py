"""Export of trained networks to ONNX files, for programs without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import keras

from miscnn_tf._base.files import atomic_path
from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.neural_network.deep_supervision import with_first_output

_METADATA_KEY = "miscnn_tf"


def write_onnx(model: keras.Model, description: str, path: str | Path) -> None:
    """Write an ONNX file, atomically.

    Args:
        model: The Keras model, in float32, which is all that Keras exports.
        description: The description of the network, for the file's metadata.
        path: The file; ends in ``.onnx``.

    Raises:
        ConfigurationError: If it has another ending.
        MissingExtraError: If the extra ``onnx`` is not installed.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ConfigurationError(f"the ONNX file {path} must end in .onnx")
    try:
        import onnx
        import tf2onnx  # noqa: F401 - used by Keras' export
    except ImportError as error:
        raise MissingExtraError(f"ONNX files need the package {error.name}: pip install 'miscnn_tf[onnx]'") from error
    with atomic_path(path) as temporary:
        image = keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="image")
        with_first_output(model).export(temporary, format="onnx", verbose=False, input_signature=[image])
        graph = onnx.load(temporary)
        graph.metadata_props.add(key=_METADATA_KEY, value=description)
        onnx.save(graph, temporary)
