"""Voxels without annotation get no gradient and do not count; regions are predicted by a sigmoid each."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import miscnn_tf
from miscnn_tf import Data_IO, Preprocessor
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.errors import ConfigurationError, ModelGroupError
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.neural_network import losses
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.label_target import compared
from miscnn_tf.neural_network.loss_nnunet import NnUNetLoss
from miscnn_tf.neural_network.loss_terms import counted
from miscnn_tf.neural_network.losses import dice_soft_loss
from miscnn_tf.neural_network.metrics import ClassDice, RegionDice, dice_soft
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.neural_network.model_description import read_metadata
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.xai.gradcam import compute_gradient_heatmap

PARTLY = LabelScheme(3, has_ignored=True)
REGIONS = {"whole": [1, 2], "core": [2]}
OVERLAPPING = LabelScheme(3, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
PARTLY_REGIONS = LabelScheme(3, True, OVERLAPPING.regions)


class Pixelwise(Abstract_Architecture):
    """A convolution of one voxel with a softmax."""

    def create_model(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        features = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
        return keras.Model(image, keras.layers.Conv2D(n_labels, 1, activation="softmax")(features))


def drawn(scheme, seed=0):
    """Labels of two samples with all labels in them, and probabilities."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, scheme.labels, (2, 6, 5)).astype(np.uint8)
    logits = rng.normal(0, 1, (2, 6, 5, scheme.outputs)).astype(np.float32)
    raised = np.exp(logits)
    return labels, 1 / (1 + 1 / raised) if scheme.regions else raised / raised.sum(-1, keepdims=True)


def make_network(labels, label_map=None, regions=None, order=None, folder="", **arguments):
    """A network for samples whose images show their labels."""
    rng = np.random.default_rng(0)
    data = {f"case_{n}": (np.minimum(one, 2) + rng.normal(0, 0.1, one.shape), one) for n, one in enumerate(labels)}
    interface = Dictionary_interface(data, classes=3, three_dim=False, label_map=label_map)
    interface.regions, interface.regions_class_order = regions, order
    data_io = Data_IO(interface, "", output_path=folder)
    preprocessor = Preprocessor(data_io, 2, patch_shape=(8, 8), analysis="patchwise-crop", data_aug=None, seed=1)
    return Neural_Network(
        preprocessor, **{"architecture": Pixelwise(), "precision": "float32", "loss": dice_soft_loss} | arguments
    )


def boxes(values):
    """Label maps of nested boxes with these values."""
    labels = np.zeros((3, 16, 16), np.uint8)
    labels[:, 3:13, 3:13] = values[0]
    labels[:, 6:10, 6:10] = values[1]
    return labels


# ---------------------------------------------------------------- voxels without annotation

LOSSES = [
    *(losses.get(name) for name in losses.losses),
    keras.losses.CategoricalCrossentropy(),
    keras.losses.CategoricalFocalCrossentropy(),
    keras.losses.BinaryCrossentropy(),
    keras.losses.MeanSquaredError(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", None) or loss.name)
def test_voxels_without_annotation_get_no_gradient_from_any_loss(loss):
    labels, probabilities = drawn(PARTLY)
    prediction = tf.Variable(probabilities)
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(*compared(labels, prediction, PARTLY)))
    gradient = tape.gradient(value, prediction).numpy()
    assert np.isfinite(value.numpy())
    assert np.isfinite(gradient).all()
    assert np.array_equal(gradient[labels == 3], np.zeros_like(gradient[labels == 3]))
    assert np.abs(gradient[labels != 3]).max() > 0


@pytest.mark.parametrize("scheme", [PARTLY, PARTLY_REGIONS])
def test_dice_equals_that_of_the_annotated_voxels_alone(scheme):
    labels, probabilities = drawn(scheme)
    found = dice_soft(*compared(labels, tf.constant(probabilities), scheme)).numpy()
    for number, (of_sample, predicted) in enumerate(zip(labels, probabilities, strict=True)):
        annotated = of_sample != 3
        truth, prediction = scheme.encode(of_sample[annotated]), predicted[annotated]
        dice = (2 * (truth * prediction).sum(0) + 1e-5) / (truth.sum(0) + prediction.sum(0) + 1e-5)
        assert found[number] == pytest.approx(dice.mean(), abs=1e-6)


def test_class_dice_does_not_count_voxels_without_annotation():
    labels, probabilities = drawn(PARTLY)
    truth, prediction = compared(labels, tf.constant(probabilities), PARTLY)
    for label in range(3):
        found = ClassDice(label)(truth, prediction).numpy()
        for number, (of_sample, predicted) in enumerate(zip(labels, probabilities, strict=True)):
            annotated = of_sample != 3
            one, other = of_sample[annotated] == label, predicted.argmax(-1)[annotated] == label
            assert found[number] == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-6)


@pytest.mark.parametrize("scheme", [PARTLY, PARTLY_REGIONS])
def test_losses_can_ask_which_voxels_count(scheme):
    labels, probabilities = drawn(scheme)
    probabilities[0, 0, 0] = 0
    found = counted(compared(labels, tf.constant(probabilities), scheme)[1]).numpy()
    assert np.array_equal(found[..., 0], labels != 3)


def test_one_hot_batches_of_scripts_are_masked_as_well():
    labels, probabilities = drawn(PARTLY)
    of_labels = compared(labels, tf.constant(probabilities), PARTLY)
    of_one_hot = compared(tf.constant(PARTLY.encode(labels)), tf.constant(probabilities), PARTLY)
    for one, other in zip(of_labels, of_one_hot, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_targets_of_regions_do_not_show_which_voxels_are_annotated():
    labels, probabilities = drawn(PARTLY_REGIONS)
    with pytest.raises(ConfigurationError, match="train on labels"):
        compared(tf.constant(PARTLY_REGIONS.encode(labels)), tf.constant(probabilities), PARTLY_REGIONS)


def test_without_ignored_voxels_nothing_changes():
    labels, probabilities = drawn(LabelScheme(3))
    probabilities = tf.constant(probabilities)
    for scheme in (None, LabelScheme(3)):
        truth, prediction = compared(labels, probabilities, scheme)
        assert prediction is probabilities
        assert np.array_equal(truth.numpy(), tf.one_hot(labels, 3).numpy())


def test_voxels_without_annotation_do_not_train_and_do_not_count(tmp_path):
    labels = boxes((1, 2))
    labels[:, :, 12:] = 9  # they look like class 2, so that they would contradict it as background
    network = make_network(
        labels, {9: "ignore"}, folder=tmp_path, learning_rate=0.03, metrics=[dice_soft, ClassDice(0), ClassDice(2)]
    )
    history = network.train(["case_0", "case_1"], epochs=80).history
    assert history["dice_class-2"][-1] > 0.9
    scores = detailed_validation(["case_2"], network, str(tmp_path / "scores"))["case_2"]
    prediction = network.predict(["case_2"], return_output=True)[0]
    assert (prediction[:, 13:] == 2).mean() > 0.9
    annotated = np.s_[:, :12]
    expected = []
    for label in range(3):
        one, other = labels[2][annotated] == label, prediction[annotated] == label
        expected.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert scores == pytest.approx(expected)


def test_metrics_of_keras_would_count_voxels_without_annotation():
    with pytest.raises(ConfigurationError, match="accuracy of Keras would count voxels without annotation"):
        make_network(boxes((1, 2)), {9: "ignore"}, metrics=["accuracy"])


# ---------------------------------------------------------------- regions


def test_the_softmax_becomes_a_sigmoid_for_each_region():
    network = make_network(boxes((1, 2)), regions=REGIONS, order=[1, 2])
    assert network.model.output_shape[-1] == 2
    image = np.random.default_rng(0).normal(0, 1, (1, 8, 8, 1)).astype(np.float32)
    hidden = keras.Model(network.model.inputs, network.model.layers[-1].input)(image)
    logits = keras.ops.conv(hidden, *network.model.layers[-1].weights[:1]) + network.model.layers[-1].bias
    assert np.allclose(network.model(image), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_a_softmax_that_is_not_the_last_layers_activation_is_an_error():
    class OwnSoftmax(Abstract_Architecture):
        def create_model(self, input_shape, n_labels=2):
            image = keras.Input(input_shape)
            return keras.Model(image, keras.layers.Softmax()(keras.layers.Conv2D(n_labels, 1)(image)))

    with pytest.raises(ConfigurationError, match="ends in a softmax, which cannot give overlapping regions"):
        make_network(boxes((1, 2)), regions=REGIONS, order=[1, 2], architecture=OwnSoftmax())


@pytest.mark.parametrize("ignored", [True, False])
def test_nnunet_loss_has_the_settings_of_the_labels(ignored):
    """Defect: with the other setting the cross-entropy of regions had another weight than nnU-Net's."""
    label_map = {9: "ignore"} if ignored else None

    def network(**settings):
        return make_network(boxes((1, 2)), label_map, REGIONS, [1, 2], loss=NnUNetLoss(**settings))

    network(regions=True, ignore=ignored)
    with pytest.raises(ConfigurationError, match=f"nnunet_loss has ignore={not ignored}, .*; set ignore={ignored}"):
        network(regions=True, ignore=not ignored)
    with pytest.raises(ConfigurationError, match=r"has regions=False, but .* overlapping regions; set regions=True"):
        network(ignore=ignored)


def test_regions_are_trained_predicted_scored_and_stored(tmp_path):
    labels = boxes((1, 2))
    labels[:, :, 14:] = 9
    network = make_network(
        labels, {9: "ignore"}, REGIONS, [1, 2], tmp_path / "predicted", learning_rate=0.03, loss="binary_crossentropy"
    )
    history = network.train(["case_0", "case_1"], epochs=80).history
    assert {"dice_whole", "dice_core"} <= history.keys()
    assert history["dice_core"][-1] > 0.9
    probabilities = network.predict(["case_2"], return_output=True, activation_output=True)[0]
    predicted = network.predict(["case_2"], return_output=True)[0]
    assert probabilities.shape == (16, 16, 2)
    assert np.array_equal(predicted, OVERLAPPING.decide(probabilities))
    assert (predicted[:, :14] == labels[2][:, :14]).mean() > 0.95

    scores = detailed_validation(["case_2"], network, str(tmp_path / "scores"))["case_2"]
    annotated = np.s_[:, :14]
    expected = []
    for members in ([0], [1, 2], [2]):
        one, other = np.isin(labels[2][annotated], members), np.isin(predicted[annotated], members)
        expected.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert scores == pytest.approx(expected)
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["class_names"] == ["background", "whole", "core"]

    network.dump(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras", custom_objects={"Pixelwise": Pixelwise})
    assert loaded.scheme.regions == OVERLAPPING.regions
    assert loaded.metrics == [dice_soft, RegionDice(1, "whole"), RegionDice(2, "core")]
    image = network.preprocessor.data_io.sample_loader("case_2").img_data
    assert np.array_equal(loaded.predict_array(image), predicted)
    network.load(tmp_path / "model.keras")
    assert np.array_equal(network.predict(["case_2"], return_output=True)[0], predicted)
    group = miscnn_tf.Model_Group([network, network.copy()], network.preprocessor)
    assert np.array_equal(group.predict(["case_2"], return_output=True)[0], predicted)


def test_a_model_file_of_classes_has_no_regions(tmp_path):
    network = make_network(boxes((1, 2)))
    network.dump(tmp_path / "model.keras")
    assert "regions" not in read_metadata(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras", custom_objects={"Pixelwise": Pixelwise}).scheme == LabelScheme(3)


def test_region_dice():
    labels, probabilities = drawn(OVERLAPPING)
    truth, prediction = compared(labels, tf.constant(probabilities), OVERLAPPING)
    for number, region in enumerate(OVERLAPPING.regions):
        found = RegionDice(number + 1, region.name)(truth, prediction).numpy()
        for sample in range(2):
            one, other = np.isin(labels[sample], region.labels), probabilities[sample, ..., number] > 0.5
            assert found[sample] == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-6)
    assert RegionDice(1, "whole tumour").name == "dice_whole_tumour"
    assert RegionDice.from_config(RegionDice(2).get_config()) == RegionDice(2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"loss": "dice_crossentropy"}, "the loss dice_crossentropy needs one class per voxel"),
        ({"loss": "categorical_crossentropy"}, "the loss categorical_crossentropy needs one class"),
        ({"loss": keras.losses.CategoricalCrossentropy()}, "the loss categorical_crossentropy needs one class"),
        ({"metrics": [ClassDice(1)]}, "the metric dice_class-1 needs one class"),
        ({"metrics": ["categorical_accuracy"]}, "the metric categorical_accuracy needs one class"),
    ],
)
def test_what_needs_one_class_per_voxel_is_an_error_for_regions(arguments, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make_network(boxes((1, 2)), regions=REGIONS, order=[1, 2], **arguments)


@pytest.mark.parametrize(("setting", "regions"), [(False, REGIONS), (True, None)])
def test_the_setting_of_a_loss_for_both_has_to_fit(setting, regions):
    class Both(keras.losses.Loss):
        def __init__(self, regions):
            super().__init__(name="both")
            self.regions = regions

        def call(self, y_true, y_pred):
            return dice_soft_loss(y_true, y_pred)

    order = None if regions is None else [1, 2]
    with pytest.raises(ConfigurationError, match=f"the loss both has regions={setting}.*set regions={not setting}"):
        make_network(boxes((1, 2)), regions=regions, order=order, loss=Both(setting))
    make_network(boxes((1, 2)), regions=regions, order=order, loss=Both(not setting))


def test_members_of_a_group_have_the_same_regions():
    one = make_network(boxes((1, 2)), regions=REGIONS, order=[1, 2])
    other = make_network(boxes((1, 2)))
    with pytest.raises(ModelGroupError, match=r"models\[1\] predicts no regions, the group .*whole"):
        miscnn_tf.Model_Group([one, other], one.preprocessor, verify_preprocessor=False)


def test_class_weights_thresholds_and_maps_of_classes_are_not_for_regions():
    network = make_network(boxes((1, 2)), regions=REGIONS, order=[1, 2])
    with pytest.raises(ConfigurationError, match="the map of a class needs one class per voxel"):
        compute_gradient_heatmap(["case_0"], network)
    with pytest.raises(ConfigurationError, match="class_weight needs one class per voxel"):
        network.train(["case_0"], epochs=1, class_weight={1: 2.0})
    with pytest.raises(ConfigurationError, match=r"threshold=0.3 needs one class per voxel"):
        network.predict(["case_0"], return_output=True, threshold=0.3)
