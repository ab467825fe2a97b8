"""A cascade on arrays, in two dimensions, with regions and voxels without annotation."""

from __future__ import annotations

import numpy as np
import pytest
from small_network import SmallNetwork

import miscnn_tf
from miscnn_tf import Data_IO, Dictionary_interface, PreviousStage
from miscnn_tf.data_loading.interfaces.description import set_regions
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.data_generator import DataGenerator

REGIONS = {"regions": {"whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


@pytest.fixture
def make_network(tmp_path):
    rng = np.random.default_rng(0)
    entries = {}
    for number in range(4):
        labels = np.zeros((24, 20), np.uint8)
        labels[4:14, 5:15] = 1
        labels[7:10, 8:12] = 2
        labels[20:] = 9  # without annotation
        entries[f"case_{number}"] = (rng.normal(labels.clip(0, 2), 0.3).astype(np.float32), labels)

    def make(previous_stage=None, classes=3):
        interface = Dictionary_interface(entries, 1, classes, three_dim=False, label_map={9: "ignore"})
        data_io = Data_IO(set_regions(interface, REGIONS), "", tmp_path / "predictions", tmp_path / "batches")
        preprocessor = miscnn_tf.Preprocessor(
            *(data_io, 2), patch_shape=(16, 16), seed=1, previous_stage=previous_stage
        )
        network = miscnn_tf.Neural_Network(preprocessor, SmallNetwork(), loss="binary_crossentropy", metrics=[])
        network.verbose = 0
        return network

    return make


def test_a_cascade_of_cross_validations(make_network, tmp_path) -> None:
    first = make_network()
    names = first.preprocessor.data_io.get_indiceslist()
    options = {"k_fold": 2, "epochs": 1, "run_detailed_evaluation": True}
    miscnn_tf.cross_validation(names, first, evaluation_path=tmp_path / "first", **options)
    second = make_network(PreviousStage(tmp_path / "first"))
    assert (second.channels, second.input_channels, second.scheme.outputs) == (1, 3, 2)
    images, _ = DataGenerator(names, second.preprocessor, training=True)[0]
    assert images.shape == (2, 16, 16, 3)
    assert set(np.unique(images[..., 1:])) <= {0, 1}
    miscnn_tf.cross_validation(names, second, evaluation_path=tmp_path / "second", **options)
    assert (tmp_path / "second" / "fold_1" / "predictions" / "made_by.json").is_file()
    group = miscnn_tf.load_fold_models(tmp_path / "second")
    image = np.ones((24, 20), np.float32)
    labels = np.zeros((24, 20), np.uint8)
    assert group.predict_array(image, previous_segmentation=labels).shape == (24, 20)
    with pytest.raises(ConfigurationError, match="array: the network is the second stage of a cascade"):
        group.predict_array(image)


def test_a_segmentation_for_a_network_that_needs_none(make_network) -> None:
    with pytest.raises(ConfigurationError, match="the network was trained without a previous stage; leave it out"):
        make_network().predict_array(np.ones((24, 20)), previous_segmentation=np.zeros((24, 20), np.uint8))


def test_a_previous_stage_that_is_set_later_is_an_error(make_network, tmp_path) -> None:
    network = make_network()
    network.preprocessor.previous_stage = PreviousStage(tmp_path)
    with pytest.raises(ConfigurationError, match="made for 1 channel, but its preprocessor makes 3"):
        network.train(["case_0"], epochs=1)


def test_a_model_file_keeps_the_previous_stage(make_network, tmp_path) -> None:
    network = make_network(PreviousStage(tmp_path / "first"))
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    assert loaded.preprocessor.previous_stage.path == str(tmp_path / "first")
    loaded.use_previous_stage(tmp_path / "moved")
    assert loaded.preprocessor.previous_stage.path == str(tmp_path / "moved")
    image, labels = np.ones((24, 20), np.float32), np.ones((24, 20), np.uint8)
    results = [
        one.predict_array(image, activation_output=True, previous_segmentation=labels) for one in (network, loaded)
    ]
    np.testing.assert_array_equal(*results)
    # Weights of another number of channels are not read.
    with pytest.raises(Exception, match="with 3 channel"):
        make_network().load(tmp_path / "model.keras")
