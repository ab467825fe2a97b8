"""Encoders side by side that see each other."""

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.unet.multiPath import Architecture


def features(model, name, image):
    return np.asarray(keras.Model(model.input, model.get_layer(name).output)(image))


@pytest.mark.parametrize("axes", [2, 3])
def test_each_channel_has_an_encoder_of_its_own_and_all_are_fused(axes, rng):
    model = Architecture(6, 2).create_model((*(8,) * axes, 3), 2)
    image = rng.normal(size=(1, *(8,) * axes, 3)).astype("float32")
    other = image.copy()
    other[..., 1] += rng.normal(size=other.shape[:-1])
    changed = [
        not np.allclose(*(features(model, f"down0_path{path}_conv1_norm", one) for one in (image, other)))
        for path in range(3)
    ]
    assert changed == [False, True, False]
    for path in range(3):  # one level further down all encoders have seen it
        before, after = (features(model, f"down0_path{path}_all", one) for one in (image, other))
        assert not np.allclose(before, after)
    fused = features(model, "down0_fused", image)
    parts = [features(model, f"down0_path{path}_conv1_norm", image) for path in range(3)]
    np.testing.assert_array_equal(fused, np.concatenate(parts, -1))
    assert model.get_layer("up0_skip").input[0] is model.get_layer("down0_fused").output


def test_own_features_come_first(rng):
    model = Architecture(6, 1).create_model((4, 4, 3), 2)
    image = rng.normal(size=(1, 4, 4, 3)).astype("float32")
    pooled = [features(model, f"down0_path{path}_pool", image) for path in range(3)]
    np.testing.assert_array_equal(features(model, "down0_path0_all", image), np.concatenate(pooled, -1))
    deeper = Architecture(6, 2).create_model((4, 4, 3), 2)
    pooled = [features(deeper, f"down0_path{path}_pool", image) for path in range(3)]
    expected = np.concatenate([pooled[2], pooled[0], pooled[1]], -1)
    np.testing.assert_array_equal(features(deeper, "down0_path2_all", image), expected)


def test_one_channel_is_seen_at_two_scales(rng):
    """One 3-convolution sees 3 voxels, two see 5."""
    model = Architecture(8, 1).create_model((16, 16, 1), 2)
    image = rng.normal(size=(1, 16, 16, 1)).astype("float32")
    point = image.copy()
    point[0, 8, 8] += 3
    for path, (last, width) in enumerate([("conv0_norm", 3), ("conv1_norm", 5)]):
        before, after = (features(model, f"down0_path{path}_{last}", one) for one in (image, point))
        rows = np.flatnonzero((before != after).any((0, 2, 3)))
        assert rows.min() >= 8 - width // 2
        assert rows.max() <= 8 + width // 2
    assert rows.max() - rows.min() == 4


def test_the_filters_are_shared_out():
    model = Architecture(8, 1, paths=3).create_model((8, 8, 3), 2)
    assert {model.get_layer(f"down0_path{path}_conv0").filters for path in range(3)} == {3}
    assert model.get_layer("down0_fused").output.shape[-1] == 9


def test_channels_are_dealt_out_where_there_are_more_than_paths():
    model = Architecture(8, 1, paths=2).create_model((8, 8, 5), 2)
    assert [model.get_layer(f"path{path}").output.shape[-1] for path in range(2)] == [3, 2]


@pytest.mark.parametrize("paths", [0, 1, 2.5])
def test_paths_that_are_none_are_refused(paths):
    with pytest.raises(ConfigurationError, match="paths"):
        Architecture(paths=paths)
