"""Too little memory for one sample, in a module that a worker process can import."""

from __future__ import annotations

import numpy as np

from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

# Far beyond any machine: NumPy raises its own MemoryError, and says how much it asked for.
ASKED = "Unable to allocate 128. PiB"


def too_much() -> np.ndarray:
    return np.empty(2**57, np.uint8)


class Hungry(Abstract_Subfunction):
    """Needs more memory than there is for one sample."""

    def preprocessing(self, sample, training=True):
        if str(sample.index).endswith("case_1"):
            too_much()

    def postprocessing(self, sample, prediction, activation_output=False):
        return prediction
