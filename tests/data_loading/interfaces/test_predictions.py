from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.data_loading.interfaces.abstract_io import prediction_to_write
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError


def sample(prediction, classes=3):
    made = Sample("a", np.zeros((4, 4, 4)), 1, classes, three_dim=True)
    made.add_prediction(prediction)
    return made


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32])
def test_labels_of_any_type_become_the_smallest_that_holds_the_classes(dtype, classes):
    labels = np.arange(64).reshape(4, 4, 4).astype(dtype)
    written, is_activation = prediction_to_write(sample(labels, classes), "a.nii.gz")
    assert (written.dtype, is_activation) == (np.dtype(np.uint8 if classes == 3 else np.uint16), False)
    np.testing.assert_array_equal(written, labels)


@pytest.mark.parametrize("labels", [np.full((4, 4, 4), 0.5), np.full((4, 4, 4), -1), np.zeros((0, 4, 4), np.uint8)])
def test_what_are_no_labels_is_refused(labels):
    with pytest.raises(DataError, match=r"a\.nii\.gz"):
        prediction_to_write(sample(labels), "a.nii.gz")


def test_writing_a_large_label_map_makes_no_copy_of_it(tmp_path):
    labels = np.zeros((200, 200, 100), np.uint8)
    labels[50:100] = 1
    interface = NIFTI_interface(1, 3)
    interface.write_file(sample(labels[:4]), tmp_path / "first.nii.gz")  # what is imported at first use
    large = sample(labels)
    tracemalloc.start()
    try:
        interface.write_file(large, tmp_path / "a.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * labels.nbytes
