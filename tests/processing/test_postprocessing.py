from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.patching.blending import Slab
from miscnn_tf.processing.postprocessing import undo_subfunctions
from miscnn_tf.processing.preparation import run_subfunctions
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.resize import Resize


class RemoveClassTwo(Abstract_Subfunction):
    """A user's step that works on labels."""

    def preprocessing(self, sample, training=True):
        pass

    def postprocessing(self, sample, prediction, activation_output=False):
        if not activation_output:
            assert prediction.dtype.kind == "u", "labels were promised"
            prediction = np.where(prediction == 2, 0, prediction).astype(prediction.dtype)
        return prediction


def prepared(steps, shape=(12, 10, 8)):
    sample = Sample(
        "a", np.random.default_rng(0).normal(size=shape).astype(np.float32), 1, 3, three_dim=len(shape) == 3
    )
    run_subfunctions(sample, steps, training=False)
    return sample


def probabilities(shape, classes=3, seed=1):
    values = np.random.default_rng(seed).random((*shape, classes)).astype(np.float32)
    return values / values.sum(-1, keepdims=True)


def in_slabs(values, rows=3):
    return (Slab(a, min(a + rows, len(values)), values[a : a + rows]) for a in range(0, len(values), rows))


def test_without_resampling_the_label_is_the_most_probable_class():
    steps = [Clipping(min=-1, max=1), Padding((16, 16, 16))]
    sample = prepared(steps)
    values = probabilities(sample.img_data.shape[:-1])
    labels = undo_subfunctions(sample, steps, in_slabs(values), values.shape[:-1], 3)
    assert labels.shape == (12, 10, 8)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values.argmax(-1)[2:14, 3:13, 4:12])


def test_probabilities_are_resampled_before_the_label_is_decided():
    steps = [Resize((6, 5, 4)), Padding((8, 8, 8))]
    sample = prepared(steps)
    values = probabilities((8, 8, 8))
    labels = undo_subfunctions(sample, steps, in_slabs(values), (8, 8, 8), 3)
    inner = values[1:7, 1:6, 2:6]
    reference = np.stack(
        [resize(inner[..., c], (12, 10, 8), order=1, mode="edge", anti_aliasing=False) for c in range(3)], -1
    )
    assert (labels == reference.argmax(-1)).mean() > 0.999


def test_activation_output_is_on_the_original_grid_and_sums_to_one():
    steps = [Resize((6, 5, 4)), Padding((8, 8, 8))]
    sample = prepared(steps)
    values = probabilities((8, 8, 8))
    result = undo_subfunctions(sample, steps, in_slabs(values), (8, 8, 8), 3, activation_output=True)
    assert result.shape == (12, 10, 8, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_a_users_step_gets_labels_wherever_it_stands(order):
    steps = [RemoveClassTwo(), Resize((6, 5, 4))] if order else [Resize((6, 5, 4)), RemoveClassTwo()]
    sample = prepared(steps)
    labels = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    assert labels.shape == (12, 10, 8)
    assert set(np.unique(labels)) == {0, 1}


def test_the_same_step_twice_is_undone_with_each_ones_own_memory():
    steps = [Resize((9, 9, 9)), Resize((6, 5, 4))]
    sample = prepared(steps)
    labels = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    assert labels.shape == (12, 10, 8)
    again = undo_subfunctions(sample, steps, in_slabs(probabilities((6, 5, 4))), (6, 5, 4), 3)
    np.testing.assert_array_equal(labels, again)


def test_more_than_256_classes_need_two_bytes():
    sample = prepared([], (4, 4))
    labels = undo_subfunctions(sample, [], in_slabs(probabilities((4, 4), classes=300)), (4, 4), 300)
    assert labels.dtype == np.uint16
