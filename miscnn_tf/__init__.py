"""miscnn_tf: medical image segmentation with Keras 3 and TensorFlow, in a few lines.

The public names are imported on first use, so that ``import miscnn_tf`` takes milliseconds and does not import
TensorFlow. It enables TensorFlow's fast kernels; see `miscnn_tf.onednn`.

Example:
    >>> import miscnn_tf
    >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
    >>> io = miscnn_tf.Data_IO(NIFTI_interface(channels=1, classes=3), "data")  # doctest: +SKIP
    >>> pre_processor = miscnn_tf.Preprocessor(io, batch_size=2, patch_shape=(64, 64, 32))  # doctest: +SKIP
    >>> model = miscnn_tf.Neural_Network(preprocessor=pre_processor)  # doctest: +SKIP
    >>> model.train(io.get_indiceslist(), epochs=50)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from miscnn_tf.onednn import ask_for_onednn

if TYPE_CHECKING:
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.neural_network.model_file import load_model
    from miscnn_tf.processing.data_augmentation import Data_Augmentation
    from miscnn_tf.processing.preprocessor import Preprocessor

ask_for_onednn()

__version__ = "0.1.0"

__all__ = ["Data_Augmentation", "Data_IO", "Neural_Network", "Preprocessor", "load_model"]

_HOMES = {
    "Data_IO": "miscnn_tf.data_loading.data_io",
    "Preprocessor": "miscnn_tf.processing.preprocessor",
    "Data_Augmentation": "miscnn_tf.processing.data_augmentation",
    "Neural_Network": "miscnn_tf.neural_network.model",
    "load_model": "miscnn_tf.neural_network.model_file",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'miscnn_tf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
