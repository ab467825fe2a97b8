"""A custom interface that makes its samples itself: blobs in noise, in any number of axes.

Tests that are not about files use it; it also is the evidence that a user's own interface works everywhere.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction


class ToyInterface(Abstract_IO):
    """Samples ``case_0`` … with a bright box (class 1) and, with three classes, a brighter one in it (class 2)."""

    def __init__(self, shape=(20, 22, 18), cases=6, channels=1, classes=2, empty=(), spacing=(1.0, 1.0, 1.0)):
        super().__init__(channels=channels, classes=classes, three_dim=len(shape) == 3)
        self.shape = tuple(shape)
        self.cases = cases
        self.empty = tuple(empty)
        self.spacing = tuple(spacing)[: len(shape)]
        self.loads: list[str] = []

    def initialize(self, input_path):
        return [f"case_{number}" for number in range(self.cases)]

    def _labels(self, index):
        rng = np.random.default_rng(zlib.crc32(index.encode()))
        labels = np.zeros(self.shape, np.uint8)
        if index in self.empty:
            return labels
        low = [int(rng.integers(0, max(1, size // 3))) for size in self.shape]
        labels[tuple(slice(a, a + size // 2) for a, size in zip(low, self.shape, strict=True))] = 1
        if self.classes > 2:
            labels[tuple(slice(a + 1, a + 1 + size // 4) for a, size in zip(low, self.shape, strict=True))] = 2
        return labels

    def load_image(self, index):
        if index not in self.initialize(""):
            raise KeyError(index)
        self.loads.append(index)
        rng = np.random.default_rng(zlib.crc32(index.encode()) + 1)
        noise = rng.normal(0, 0.2, (*self.shape, self.channels))
        return (noise + 2.0 * self._labels(index)[..., None]).astype(np.float32), {"spacing": self.spacing}

    def load_segmentation(self, index):
        return self._labels(index)

    def load_prediction(self, index, output_path):
        return np.load(Path(output_path) / f"{index}.npy")

    def save_prediction(self, sample, output_path):
        np.save(Path(output_path) / f"{sample.index}.npy", sample.pred_data)

    def fingerprint(self, index, input_path):
        return f"{index} {self.shape} {self.channels} {self.classes} {self.empty}"

    @staticmethod
    def check_file_termination(termination):
        return False


class Broken(Abstract_Subfunction):
    """A step that fails. Here, because worker processes have to find it by import."""

    def preprocessing(self, sample, training=True):
        raise ValueError("boom")


class Killed(Abstract_Subfunction):
    """A step that ends its process as the kernel does when memory runs out."""

    def preprocessing(self, sample, training=True):
        os._exit(9)


class Stuck(Abstract_Subfunction):
    """A step that takes forever with all samples but the first, and says so by a file."""

    def __init__(self, folder):
        self.folder = folder

    def preprocessing(self, sample, training=True):
        if sample.index != "case_0":
            (Path(self.folder) / "stuck").touch()
            time.sleep(600)
