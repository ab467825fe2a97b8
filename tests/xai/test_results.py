"""What is written, where, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from pointwise import Pointwise

from miscnn_tf.data_loading.labels import chosen_classes
from miscnn_tf.errors import ConfigurationError, DataError, StorageError
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.xai import compute_certaintymap, compute_gradient_heatmap, occlusion_sensitivity


@pytest.fixture
def network(network_on, rng):
    return network_on({name: rng.normal(size=(8, 8)).astype(np.float32) for name in "ab"}, Pointwise())


def test_each_map_becomes_a_file_and_a_picture(network, tmp_path):
    assert compute_gradient_heatmap(["a", "b"], network) is None
    files = sorted(path.name for path in (tmp_path / "predictions" / "gradcam").iterdir())
    assert files == [f"{name}.gradcam.class-{n}.{end}" for name in "ab" for n in (1, 2) for end in ("npy", "png")]
    maps = compute_gradient_heatmap(["a", "b"], network, return_output=True)
    written = np.load(tmp_path / "predictions" / "gradcam" / "b.gradcam.class-2.npy")
    np.testing.assert_array_equal(written, maps[1][..., 1])


def test_pictures_can_be_left_out_and_the_folder_chosen(network, tmp_path):
    compute_certaintymap("a", network, "entropy", output_path=tmp_path / "here", overlays=False)
    occlusion_sensitivity("a", network, 1, output_path=str(tmp_path / "here"), overlays=False)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "a.certainty.entropy.npy",
        "a.occlusion.class-1.npy",
    ]


def test_predictions_and_images_are_left_alone(network):
    network.predict("a")
    dictionary = network.preprocessor.data_io.interface.dictionary
    before = [np.array(part) for part in dictionary["a"] if part is not None]
    compute_certaintymap("a", network)
    occlusion_sensitivity("a", network, size=4)
    compute_gradient_heatmap("a", network)
    after = [part for part in dictionary["a"] if part is not None]
    assert len(after) == len(before)
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_returned_maps_leave_no_files(network, tmp_path):
    compute_certaintymap("a", network, return_output=True)
    assert not (tmp_path / "predictions").exists()


def test_a_folder_that_cannot_be_is_told_before_anything_is_computed(network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(network, "predict_sample", lambda *_, **__: pytest.fail("computed for nothing"))
    with pytest.raises(StorageError, match="file"):
        compute_certaintymap("a", network, output_path=tmp_path / "file" / "maps")


def test_a_sample_that_is_not_there_is_told_first(network, monkeypatch):
    monkeypatch.setattr(network, "predict_sample", lambda *_, **__: pytest.fail("computed for nothing"))
    with pytest.raises(DataError, match="nobody"):
        compute_certaintymap(["a", "nobody"], network, return_output=True)


def test_classes_are_all_but_the_background_unless_named():
    assert chosen_classes(None, 3) == [1, 2]
    assert chosen_classes(0, 3) == [0]
    assert chosen_classes((2, 1), 3) == [2, 1]
    for wrong in (3, -1, [], [1.5], True):
        with pytest.raises(ConfigurationError, match="classes"):
            chosen_classes(wrong, 3)


@pytest.mark.parametrize("explain", [compute_certaintymap, compute_gradient_heatmap, occlusion_sensitivity])
def test_a_group_is_told_that_explanations_are_of_one_network(network, explain):
    group = Model_Group([network], network.preprocessor)
    with pytest.raises(ConfigurationError, match=r"Model_Group.*each of its models"):
        explain("a", group, return_output=True)
