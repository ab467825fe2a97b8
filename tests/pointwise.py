"""A network of single voxels, whose answers and explanations can be worked out by hand."""

from __future__ import annotations

import keras
import numpy as np

from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture

CONVOLUTIONS = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


class Pointwise(Abstract_Architecture):
    """Two feature maps and three classes, every voxel for itself: all that is asked of it can be worked out by hand."""

    FEATURES = np.array([[0.8, -0.5]]), np.array([0.1, 0.4])
    CLASSES = np.array([[0.0, 2.0, -1.0], [0.5, -1.0, 1.5]]), np.array([0.3, -0.2, 0.1])

    def create_model(self, input_shape, n_labels=3):
        axes = len(input_shape) - 1
        image = keras.Input(input_shape)
        features = CONVOLUTIONS[axes](2, 1, name="features")
        output = CONVOLUTIONS[axes](3, 1, activation="softmax", name="output")
        model = keras.Model(image, output(features(image)))
        for layer, (kernel, bias) in ((features, self.FEATURES), (output, self.CLASSES)):
            layer.set_weights([kernel.reshape(*(1,) * axes, *kernel.shape), bias])
        return model
