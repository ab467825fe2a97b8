"""A network and a callback that worker processes find by import."""

import os

import keras
import numpy as np
from toy import ToyInterface

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.neural_network.architecture.unet.plain import Architecture


class Failing(keras.callbacks.Callback):
    """Fails, or ends its process as the kernel does, from the fold on that has this folder."""

    def __init__(self, folder, kill=False):
        super().__init__()
        self.folder = folder
        self.kill = kill

    def on_epoch_begin(self, epoch, logs=None):
        if self.folder.exists():
            if self.kill:
                os._exit(9)
            raise ValueError("boom")


class Own(Neural_Network):
    """A class of the user's own, with another constructor; its training leaves a trace of an attribute."""

    def __init__(self, trace, preprocessor, **arguments):
        super().__init__(preprocessor, **arguments)
        self.trace = trace

    def evaluate(self, *arguments, **others):
        with self.trace.open("a") as file:
            file.write(f"{type(self).__name__}\n")
        return super().evaluate(*arguments, **others)


def network(folder, **arguments):
    io = Data_IO(ToyInterface(shape=(12, 12), cases=4), "toy", batch_path=folder / "batches")
    preprocessor = Preprocessor(io, 2, data_aug=None, patch_shape=(8, 8), seed=3)
    arguments = {"learning_rate": 0.01, "precision": "float32", "seed": 8, **arguments}
    # Two convolutions and a head: what takes time in so small a training is tracing the layers.
    made = Neural_Network(preprocessor, Architecture(feature_maps=(4,), instance_normalization=False), **arguments)
    made.verbose = 0
    return made


def weights(path):
    model = keras.saving.load_model(path, compile=False)
    return [np.asarray(weight) for weight in model.get_weights()]
