"""Networks, losses, training and prediction: the only floor that imports TensorFlow and Keras."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["losses", "metrics"])
