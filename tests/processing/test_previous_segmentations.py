"""The segmentation of the previous stage moves with its image, and becomes channels of the patches."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.data_loading.cache.sample_files import read_sample, write_sample
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import GridError, LabelError
from miscnn_tf.processing.augmentation.previous_labels import one_hot
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.nnunet_augmentation import NnUNetAugmentation
from miscnn_tf.processing.patching import patch_plan
from miscnn_tf.processing.patching.patch_plan import cut
from miscnn_tf.processing.preparation import complete, run_subfunctions
from miscnn_tf.processing.subfunctions import CropNonzero, Normalization, Orientation, Padding, Resampling, Resize
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

CLASSES = 3
STEPS = [
    Orientation("RAS"),
    CropNonzero(),
    Normalization("z-score"),
    Resampling((1.0, 1.0, 1.5)),
    Padding((24, 24, 24), pad_mode="edge"),
]


def rotated_affine() -> np.ndarray:
    """Thick slices, axes that point to A, L and S, turned by 10 degrees."""
    angle = np.radians(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = np.array([[0, -0.8, 0], [0.8, 0, 0], [0, 0, 3.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    return affine


def cascade_sample(labelled: bool = True) -> Sample:
    """The segmentation of the previous stage is the same as the label map."""
    shape = (20, 26, 9)
    labels = np.zeros(shape, np.uint8)
    labels[4:12, 5:20, 2:6] = 1
    labels[6:9, 8:12, 3:5] = 2
    image = np.random.default_rng(0).normal(50, 5, shape) + 30 * labels
    image[:2] = 0
    affine = rotated_affine()
    extended = {"affine": affine, "spacing": nib.affines.voxel_sizes(affine)}
    sample = Sample("a", image.astype(np.float32), 1, CLASSES, extended, three_dim=True)
    if labelled:
        sample.add_segmentation(labels)
    sample.add_previous(labels.copy())
    return sample


def prepared() -> Sample:
    sample = cascade_sample()
    run_subfunctions(sample, STEPS, training=True)
    complete(sample)
    return sample


def test_all_steps_move_it_like_the_label_map():
    sample = prepared()
    assert sample.seg_data.shape != (20, 26, 9, 1)
    assert np.array_equal(sample.previous_data, sample.seg_data)
    assert set(np.unique(sample.previous_data)) == {0, 1, 2}
    assert sample.img_data.shape[-1] == 1
    assert sample.input_channels == 3
    other = cascade_sample()
    run_subfunctions(other, [Resize((10, 13, 18))], training=True)
    assert np.array_equal(other.previous_data, other.seg_data)


def test_prediction_moves_it_as_training_does():
    sample = cascade_sample(labelled=False)
    run_subfunctions(sample, STEPS, training=False)
    assert np.array_equal(sample.previous_data, prepared().seg_data)


def test_a_step_that_forgets_it_is_an_error():
    class Shorter(Abstract_Subfunction):
        def preprocessing(self, sample, training=True):
            sample.img_data = sample.img_data[1:]
            if sample.seg_data is not None:
                sample.seg_data = sample.seg_data[1:]

    with pytest.raises(GridError, match=r"its segmentation of the previous stage is .* to sample.previous_data"):
        run_subfunctions(cascade_sample(), [Shorter()], training=True)


@pytest.mark.parametrize(
    "augmentation",
    [
        None,
        Data_Augmentation(elastic_deform=True, mirror=True, config_p_per_sample=1.0),
        Data_Augmentation(mirror=True, config_p_per_sample=1.0, seg_augmentation=False),
        NnUNetAugmentation(masked_channels=[0]),
    ],
)
def test_channels_follow_the_labels_and_leave_the_image_alone(augmentation, monkeypatch):
    monkeypatch.setattr(patch_plan, "disturb", lambda labels, classes, rng: labels)
    sample, alone = prepared(), prepared()
    alone.previous_data = None
    moved = 0
    for seed in range(12):
        start = (-3, 2, 1)
        patch = cut(sample, start, (16, 12, 8), np.random.default_rng(seed), augmentation)
        image = cut(alone, start, (16, 12, 8), np.random.default_rng(seed), augmentation)
        assert patch.image.shape == (16, 12, 8, 3)
        assert patch.image.dtype == np.float32
        assert np.array_equal(patch.image[..., :1], image.image)
        assert np.array_equal(patch.labels, image.labels)
        if augmentation is None or augmentation.seg_augmentation:
            assert np.array_equal(patch.image[..., 1:], one_hot(patch.labels, CLASSES))
        else:
            moved += not np.array_equal(patch.image[..., 1:], one_hot(patch.labels, CLASSES))
    assert moved or augmentation is None or augmentation.seg_augmentation


def test_it_is_disturbed_in_training_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(patch_plan, "disturb", lambda labels, classes, rng: seen.append(classes) or labels)
    sample = prepared()
    cut(sample, (0, 0, 0), (8, 8, 8))
    assert seen == []
    cut(sample, (0, 0, 0), (8, 8, 8), np.random.default_rng(0), Data_Augmentation())
    assert seen == [CLASSES]


def test_it_is_stored_with_the_prepared_sample(tmp_path):
    sample = prepared()
    write_sample(tmp_path / "a", sample)
    assert np.array_equal(read_sample(tmp_path / "a").previous_data, sample.previous_data)


def test_another_grid_and_unknown_labels_are_errors():
    sample = cascade_sample()
    with pytest.raises(GridError, match=r"previous stage: it has the shape \(20, 26, 8\), but the image \(20, 26, 9\)"):
        sample.add_previous(np.zeros((20, 26, 8), np.uint8))
    with pytest.raises(LabelError, match="previous stage"):
        sample.add_previous(np.full((20, 26, 9), 3))
