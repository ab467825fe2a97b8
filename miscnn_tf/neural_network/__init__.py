"""Networks, losses, training and prediction: the only floor that imports TensorFlow and Keras."""

import lazy_loader

from miscnn_tf._machine.tensorflow_messages import filter_import_of_tensorflow

filter_import_of_tensorflow()

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["losses", "metrics"])
