"""miscnn_tf: medical image segmentation with Keras 3 and TensorFlow, in a few lines.

The public names, listed in ``__init__.pyi``, are imported on first use, so that ``import miscnn_tf`` takes milliseconds
and does not import TensorFlow; ``EAGER_IMPORT=1`` in the environment imports them at once. It enables TensorFlow's fast
kernels; see `miscnn_tf._machine.onednn`.

Example:
    >>> import miscnn_tf
    >>> interface = miscnn_tf.NIFTI_interface(channels=1, classes=3)
    >>> io = miscnn_tf.Data_IO(interface, "data")  # doctest: +SKIP
    >>> pre_processor = miscnn_tf.Preprocessor(io, batch_size=2, patch_shape=(64, 64, 32))  # doctest: +SKIP
    >>> model = miscnn_tf.Neural_Network(preprocessor=pre_processor)  # doctest: +SKIP
    >>> model.train(io.get_indiceslist(), epochs=50)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib

import lazy_loader

from miscnn_tf._machine.onednn import ask_for_onednn

# The one place of the version: setup.cfg and the documentation read it here.
__version__ = "0.2.0"

# TensorFlow reads its environment when it is imported.
ask_for_onednn()

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# MIScnn imports these with the package, so that its scripts use attributes such as miscnn.neural_network.metrics.
_SUBPACKAGES = {"data_loading", "evaluation", "multi_model", "neural_network", "processing", "utils", "xai"}


def __getattr__(name: str) -> object:
    return importlib.import_module(f"{__name__}.{name}") if name in _SUBPACKAGES else _load(name)
