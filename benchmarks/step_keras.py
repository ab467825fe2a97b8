"""miscnn_tf in `step.py`: the model of a `Neural_Network`, trained by its ``fit``."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import miscnn_tf  # before TensorFlow, because it enables its fast kernels

# isort: split
import keras
import numpy as np
import rivals
import tensorflow as tf

from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.losses import dice_crossentropy


class Clock(keras.callbacks.Callback):
    """Measure the seconds of each step, and set its learning rate if rates are given."""

    def __init__(self, rates: list[float] | None = None) -> None:
        super().__init__()
        self.rates = rates
        self.times: list[float] = []
        self._begin = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Start the clock."""
        if self.rates is not None:
            self.model.optimizer.learning_rate = self.rates[batch]
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop the clock when the first kernel, which a step updates last, is updated, also on GPUs."""
        np.asarray(self.model.trainable_variables[0])
        self.times.append(time.perf_counter() - self._begin)


def network(settings: dict[str, Any]) -> miscnn_tf.Neural_Network:
    """Create the network."""
    nothing = {"sample": (np.zeros(settings["patch"], np.float32),)}  # an interface without samples raises an error
    interface = Dictionary_interface(nothing, channels=1, classes=settings["classes"], three_dim=True)
    preprocessor = miscnn_tf.Preprocessor(
        miscnn_tf.Data_IO(interface, ""),
        batch_size=settings["batch_size"],
        analysis="patchwise-crop",
        patch_shape=tuple(settings["patch"]),
        seed=settings["seed"],
    )
    preprocessor.patchwise_overlap = tuple(size // 2 for size in settings["patch"])
    return miscnn_tf.Neural_Network(
        preprocessor,
        Architecture(
            settings["filters"],
            settings["depth"],
            batch_normalization=settings["normalisation"] == "batch",
            instance_normalization=settings["normalisation"] == "instance",
        ),
        loss=dice_crossentropy,
        metrics=[],
        learning_rate=settings["rate"],
        precision=settings["precision"],
    )


def save_weights(model: keras.Model, path: Path) -> None:
    """Save the weights as ``{layer/variable: array}``."""
    np.savez(path, **{weight.path: np.asarray(weight) for layer in model.layers for weight in layer.trainable_weights})


def load_weights(model: keras.Model, path: Path) -> None:
    """Load the file of `save_weights`."""
    with np.load(path) as file:
        for layer in model.layers:
            for weight in layer.trainable_weights:
                weight.assign(file[weight.path])


def operations(model: keras.Model) -> float:
    """Return the additions and multiplications of a model's convolutions for one input."""
    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv3D | keras.layers.Conv3DTranspose):
            # A transposed convolution applies the whole kernel to each voxel of its input, not of its output.
            grid = layer.input.shape if isinstance(layer, keras.layers.Conv3DTranspose) else layer.output.shape
            total += 2.0 * math.prod(grid[1:-1]) * math.prod(layer.kernel.shape)
    return total


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    trained = network(settings)
    model = trained.model
    load_weights(model, settings["weights"])
    patch = settings["patch"]

    def dataset(paths: list[str]) -> tf.data.Dataset:
        def read() -> Any:
            for path in paths:
                with np.load(path) as file:
                    yield file["images"], file["labels"]

        signature = (tf.TensorSpec((None, *patch, 1), tf.float32), tf.TensorSpec((None, *patch), tf.uint8))
        return tf.data.Dataset.from_generator(read, output_signature=signature).prefetch(2)

    def steps(batch: str, count: int) -> list[float]:
        clock = Clock()
        model.fit(dataset([batch] * count), steps_per_epoch=count, verbose=0, callbacks=[clock])
        return clock.times

    def train(batches: list[str], rates: list[float]) -> None:
        model.fit(dataset(batches), steps_per_epoch=len(batches), verbose=0, callbacks=[Clock(rates)])

    def predict(images: list[str], outputs: list[str]) -> None:
        # The samples have different sizes.
        with trained.hardware.scope():
            whole = trained.architecture.create_model((None, None, None, 1), settings["classes"])
        whole.set_weights(model.get_weights())
        for source, target in zip(images, outputs, strict=True):
            probabilities = whole(np.load(source)[np.newaxis], training=False)
            np.save(target, np.argmax(probabilities[0], axis=-1).astype(np.uint8))

    rivals.serve({"version": tf.__version__}, steps=steps, train=train, predict=predict)


if __name__ == "__main__":
    main()
