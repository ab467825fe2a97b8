"""A network that is built in a moment, and still has all kinds of state: weights, moving averages, dropout."""

from __future__ import annotations

import keras

from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture

CONVOLUTIONS = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


class SmallNetwork(Abstract_Architecture):
    """Two convolutions."""

    def create_model(self, input_shape, n_labels=2):
        convolution = CONVOLUTIONS[len(input_shape) - 1]
        image = keras.Input(input_shape)
        features = convolution(4, 3, padding="same", activation="relu")(image)
        features = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(features))
        return keras.Model(image, convolution(n_labels, 1, activation="softmax")(features))
