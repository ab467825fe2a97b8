"""The label decision."""

from __future__ import annotations

import tracemalloc

import numpy as np

from miscnn_tf.data_loading.labels import decide_labels


def test_the_most_probable_class_and_of_ties_the_lowest(rng):
    activation = rng.random((5, 6, 7, 4))
    activation[0] = 0.25
    labels = decide_labels(activation)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, activation.argmax(-1))
    assert not labels[0].any()
    assert np.array_equal(decide_labels(activation[0]), labels[0])


def test_dtype_holds_the_last_class():
    assert decide_labels(np.eye(300)[np.newaxis])[0, 299] == 299


def test_no_volume_of_eight_byte_indices(rng):
    activation = rng.random((64, 64, 64, 2), dtype=np.float32)
    tracemalloc.start()
    decide_labels(activation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 64**3
