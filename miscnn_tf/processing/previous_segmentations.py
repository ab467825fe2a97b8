"""Protocol of the segmentations that the previous stage of a cascade made."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

import numpy as np

from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.sample import Sample


class PreviousSegmentations(Protocol):
    """Segmentations that the previous stage of a cascade made, by the names of samples."""

    @property
    def path(self) -> str:
        """Folder of the segmentations, which a model file records."""

    def load(self, interface: Abstract_IO, sample: Sample) -> np.ndarray:
        """Return the label map ``(x, y[, z])`` of a sample as it was read.

        Raises:
            MissingDataError: If there is none.
            GridError: If it is of another image.
        """

    def fingerprint(self, index: Hashable) -> str:
        """Return a digest that changes with the file of a sample."""

    def require(self, indices: Iterable[Hashable]) -> None:
        """Require a segmentation of each sample, by a model that was trained without it.

        Raises:
            MissingDataError: If one is missing.
            DataError: If a model was trained on the sample.
        """
