from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.losses import dice_crossentropy
from miscnn_tf.neural_network.metrics import dice_soft
from miscnn_tf.neural_network.segmentation_model import SegmentationModel


@pytest.mark.parametrize("axes", [2, 3])
def test_labels_and_one_hot_targets_are_the_same_to_the_step(rng, axes):
    image = keras.Input((*(None,) * axes, 1))
    convolution = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[axes]
    model = SegmentationModel(image, convolution(3, 1, activation="softmax")(image))
    model.compile(loss=dice_crossentropy, metrics=[dice_soft])
    images = rng.normal(size=(2, *(6,) * axes, 1)).astype(np.float32)
    labels = rng.integers(0, 3, (2, *(6,) * axes)).astype(np.uint8)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    as_labels = model.evaluate(images, labels, verbose=0, return_dict=True)
    as_one_hot = model.evaluate(images, one_hot, verbose=0, return_dict=True)
    assert as_labels == pytest.approx(as_one_hot, rel=1e-6)
    assert as_labels["loss"] > 0.1
