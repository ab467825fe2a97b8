from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError


@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_volume_whose_last_axis_is_short_is_not_misread_as_channels(last: int) -> None:
    image = np.zeros((5, 6, last), np.int16)
    sample = Sample("a", image, channels=1, classes=2, three_dim=True)
    assert sample.img_data.shape == sample.shape == (5, 6, last, 1)
    assert sample.ndim == 3
    assert sample.img_data.dtype == np.int16
    assert np.shares_memory(sample.img_data, image)


def test_a_2d_image_with_and_without_channel_axis() -> None:
    assert Sample("a", np.zeros((5, 6)), 1, 2, three_dim=False).shape == (5, 6, 1)
    assert Sample("a", np.zeros((5, 6, 3)), 3, 2, three_dim=False).shape == (5, 6, 3)


@pytest.mark.parametrize(
    ("shape", "channels", "three_dim"),
    [((5, 6), 1, False), ((5, 6, 3), 3, False), ((5, 6, 7), 1, True), ((5, 6, 1), 1, True), ((5, 6, 7, 3), 3, True)],
)
def test_the_dimension_is_guessed_only_where_nobody_says_it(
    shape: tuple[int, ...], channels: int, three_dim: bool
) -> None:
    assert Sample("a", np.zeros(shape), channels, 2).three_dim is three_dim


@pytest.mark.parametrize(("shape", "three_dim", "advice"), [((4, 5, 6, 1), False, "3D"), ((4, 5), True, "2D")])
def test_2d_data_with_a_3d_interface_and_the_reverse(shape: tuple[int, ...], three_dim: bool, advice: str) -> None:
    with pytest.raises(DataError, match=rf"sample 'a': the image has shape .*Use a {advice} interface"):
        Sample("a", np.zeros(shape), 1, 2, three_dim=three_dim)


def test_wrong_number_of_channels() -> None:
    with pytest.raises(DataError, match=r"sample 'a': the image has 3 channel\(s\).*channels=1"):
        Sample("a", np.zeros((4, 5, 3)), 1, 2, three_dim=False)


def test_extended_is_not_shared_between_samples() -> None:
    facts = {"type": "nifti"}
    first, second = (Sample("a", np.zeros((4, 5)), 1, 2, extended=facts) for _ in range(2))
    third, fourth = (Sample("a", np.zeros((4, 5)), 1, 2) for _ in range(2))
    first.extended["type"] = "dicom"
    third.extended["type"] = "dicom"
    third.details["x"] = 1
    third.history.append({})
    assert second.get_extended_data() == facts == {"type": "nifti"}
    assert fourth.extended == fourth.details == {}
    assert fourth.history == []


def test_segmentation_gets_a_channel_axis_and_must_be_on_the_same_grid() -> None:
    sample = Sample("a", np.zeros((4, 5, 6)), 1, 2, three_dim=True)
    assert sample.seg_data is None
    sample.add_segmentation(np.ones((4, 5, 6), np.uint8))
    assert sample.seg_data is not None
    assert sample.seg_data.shape == (4, 5, 6, 1)
    with pytest.raises(DataError, match=r"image is \(4, 5, 6\) voxels, its segmentation \(4, 5, 7\)"):
        sample.add_segmentation(np.ones((4, 5, 7)))
    with pytest.raises(DataError, match="segmentation has 3 channels"):
        sample.add_segmentation(np.ones((4, 5, 6, 3)))


def test_prediction_as_labels_and_as_probabilities() -> None:
    sample = Sample("a", np.zeros((4, 5)), 1, 3)
    sample.add_prediction(np.ones((4, 5)))
    assert sample.pred_data is not None
    assert sample.pred_data.shape == (4, 5, 1)
    sample.add_prediction(np.ones((4, 5, 3)), activation_output=True)
    assert sample.pred_data.shape == (4, 5, 3)
    with pytest.raises(ConfigurationError, match="needs a class axis"):
        sample.add_prediction(np.ones((4, 5)), activation_output=True)


def test_details_are_copied() -> None:
    details = {"age": 61}
    sample = Sample("a", np.zeros((4, 5)), 1, 3)
    sample.add_details(details)
    sample.details["age"] = 0
    assert details == {"age": 61}


def test_spacing_follows_the_steps_that_resample() -> None:
    sample = Sample("a", np.zeros((4, 5)), 1, 3)
    assert sample.spacing is None
    sample.extended["spacing"] = np.array([0.5, 2], np.float32)
    assert sample.spacing == (0.5, 2.0)
    sample.details["spacing"] = [1, 1]
    assert sample.spacing == (1.0, 1.0)


def test_lists_are_taken_and_memory_maps_stay_on_disk(tmp_path) -> None:
    assert Sample("a", [[1, 2], [3, 4]], 1, 2).shape == (2, 2, 1)  # type: ignore[arg-type]
    np.save(tmp_path / "x.npy", np.zeros((4, 5)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(Sample("a", mapped, 1, 2).img_data, np.memmap)
