"""What each voxel of each window counts."""

from __future__ import annotations

import numpy as np
import pytest
from pointwise import Pointwise

from miscnn_tf.processing.subfunctions import Normalization, Padding, Resize
from miscnn_tf.xai.regions import SampleRegion


def put_together(region, parts, channels=()):
    """The sum of arrays of all windows, where they lie on the image; what lies outside has to be 0."""
    shape = region.sample.img_data.shape[:-1]
    room = 16
    total = np.zeros((*(size + 2 * room for size in shape), *channels))
    for window, part in zip(region.patches(), parts, strict=True):
        box = tuple(
            slice(first + room, first + room + size)
            for first, size in zip(window.start, window.weights.shape, strict=True)
        )
        total[box] += part
    inner = tuple(slice(room, room + size) for size in shape)
    image = total[inner].copy()
    total[inner] = 0
    assert not total.any()
    return image


@pytest.mark.parametrize("blending", ["gaussian", "average"])
@pytest.mark.parametrize(
    ("shape", "patch", "overlap"), [((10, 5), (8, 8), (3, 5)), ((7, 9), None, 0), ((9, 4, 6), (4, 4, 8), (2, 0, 4))]
)
def test_weights_of_all_windows_sum_to_one_on_the_image_and_are_0_beyond(
    network_on, rng, blending, shape, patch, overlap
):
    network = network_on({"a": rng.normal(size=shape).astype(np.float32)}, Pointwise(), patch, overlap=overlap)
    network.preprocessor.patchwise_blending = blending
    region = SampleRegion(network, network.prepared("a"), "all")
    np.testing.assert_allclose(put_together(region, [each.weights for each in region.patches()]), 1, rtol=1e-5)
    assert all(window.mask is None for window in region.patches())


def test_weighted_windows_are_the_blended_image(network_on, rng):
    """What is summed window by window is what the blended prediction gives."""
    network = network_on({"a": rng.normal(size=(11, 9)).astype(np.float32)}, Pointwise(), (8, 8), overlap=(4, 4))
    region = SampleRegion(network, network.prepared("a"), "all")
    windows = list(region.patches())
    outputs = network.patch_predictor()(window.image for window in windows)
    parts = [window.weights[..., None] * output for window, output in zip(windows, outputs, strict=True)]
    (expected,) = network.predict("a", return_output=True, activation_output=True)
    np.testing.assert_allclose(put_together(region, parts, (3,)), expected, rtol=1e-5)


def test_masks_and_label_maps_go_through_the_subfunctions(network_on, rng):
    image = rng.normal(size=(6, 5)).astype(np.float32)
    truth = np.repeat(np.repeat(rng.integers(0, 3, (3, 5)), 2, 0), 1, 1).astype(np.uint8)
    steps = [Normalization(), Resize((12, 10), order_seg=0), Padding((14, 12))]
    network = network_on({"a": image}, Pointwise(), (8, 8), overlap=(2, 2), steps=steps, truth={"a": truth})
    expected = np.pad(truth.repeat(2, 0).repeat(2, 1), 1)
    scores = np.zeros((8, 8, 3))
    for region, wanted in (
        (SampleRegion(network, network.prepared("a"), "truth"), expected == 2),
        (SampleRegion(network, network.prepared("a"), {"a": (truth == 2) * 7.5}), expected == 2),
        (SampleRegion(network, network.prepared("a"), {"a": (truth == 2)[..., None]}), expected == 2),
    ):
        parts = [region.counts(window, scores, 2) for window in region.patches()]
        np.testing.assert_allclose(put_together(region, parts), wanted, rtol=1e-5)


def test_the_predicted_region_is_where_the_class_is_largest(network_on, rng):
    network = network_on({"a": rng.normal(size=(8, 8)).astype(np.float32)}, Pointwise())
    region = SampleRegion(network, network.prepared("a"), "predicted")
    (window,) = region.patches()
    scores = rng.normal(size=(8, 8, 3))
    for number in range(3):
        np.testing.assert_array_equal(region.counts(window, scores, number), scores.argmax(-1) == number)
