"""The names that pictures had in MIScnn 1.1 and 1.2."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.utils.visualizer import visualize_evaluation, visualize_sample, visualize_samples


def arrays(rng, axes):
    shape = (8, 9, 5)[:axes]
    return rng.integers(0, 256, shape).astype(np.int16), *rng.integers(0, 3, (2, *shape)).astype(np.uint8)


def sample_of(image, truth, prediction):
    sample = Sample("case", image, 1, 3, {}, three_dim=image.ndim == 3)
    sample.add_segmentation(truth)
    sample.add_prediction(prediction)
    return sample


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("channels", [False, True])
def test_an_evaluation_is_the_same_picture_as_that_of_a_sample(tmp_path, rng, axes, channels):
    image, truth, prediction = arrays(rng, axes)
    given = [array[..., np.newaxis] if channels else array for array in (image, truth, prediction)]
    with pytest.warns(FutureWarning, match=r"visualize_evaluation\(\) is deprecated .*: use visualize_samples"):
        path = visualize_evaluation("case", *given, tmp_path / "old")
    (wanted,) = visualize_samples([sample_of(image, truth, prediction)], tmp_path / "new", mask_seg=True)
    assert path == tmp_path / "old" / "case.gif"
    assert path.read_bytes() == wanted.read_bytes()
    with Image.open(path) as gif:
        assert gif.n_frames == (5 if axes == 3 else 1)


def test_one_sample(tmp_path, rng):
    sample = sample_of(*arrays(rng, 3))
    with pytest.warns(FutureWarning, match=r"visualize_sample\(\) is deprecated"):
        path = visualize_sample(sample, tmp_path / "old", True, mask_pred=False)
    (wanted,) = visualize_samples([sample], tmp_path / "new", mask_seg=True, mask_pred=False)
    assert path.read_bytes() == wanted.read_bytes()
