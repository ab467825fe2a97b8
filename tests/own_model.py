"""A model of a user's own."""

from __future__ import annotations

import numpy as np

from miscnn_tf.multi_model import Model


class Constant(Model):
    """A model of a user's own: it says the same class everywhere, and remembers what was asked of it."""

    def __init__(self, preprocessor, label=1):
        super().__init__(preprocessor)
        self.label, self.asked = label, []
        self.trained_on = self.validated_on = None

    def train(self, sample_list, epochs=20, iterations=None, callbacks=(), class_weight=None):
        self.trained_on = list(sample_list)
        sample_list.append("changed by the model")
        self.asked.append(("train", epochs, iterations, list(callbacks), class_weight))
        return self.label

    def evaluate(
        self, training_samples, validation_samples, epochs=20, iterations=None, callbacks=(), class_weight=None
    ):
        self.validated_on = list(validation_samples)
        return self.train(training_samples, epochs, iterations, callbacks, class_weight)

    def predict(self, sample_list, return_output=False, activation_output=False):
        shape = self.preprocessor.data_io.interface.shape
        classes = self.preprocessor.data_io.interface.classes
        one = np.zeros((*shape, classes), np.float32)
        one[..., self.label] = 1
        return [one if activation_output else one.argmax(axis=-1) for _ in sample_list]

    def reset(self):
        self.asked.append("reset")

    def copy(self):
        return Constant(self.preprocessor, self.label)

    def dump(self, file_path):
        file_path.write_text(str(self.label))

    def load(self, file_path, custom_objects=None):
        self.label = int(file_path.read_text())
