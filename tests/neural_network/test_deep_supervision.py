"""Networks with several outputs: loss, labels of the coarser grids, and everything that uses the first output."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage.transform import resize

import miscnn_tf
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.nnunet import NnUNet_plain
from miscnn_tf.neural_network.attribution import feature_layers
from miscnn_tf.neural_network.checkpoint import TrainingState
from miscnn_tf.neural_network.deep_supervision import on_grid_of, output_weights, with_first_output
from miscnn_tf.neural_network.losses import dice_soft_loss, nnunet_loss
from miscnn_tf.neural_network.nesterov_sgd import NesterovSGD

CASES = [f"case_{number}" for number in range(4)]


class Own(Abstract_Architecture):
    """A user's network with outputs on grids of a half and a third."""

    def __init__(self, steps=((2, 2), (3, 3)), classes=None, crop=0):  # steps of three axes for volumes
        self.steps, self.classes, self.crop = steps, classes, crop

    def create_model_2D(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
        outputs = [keras.layers.Conv2D(n_labels, 1, activation="softmax")(x)]
        for step in self.steps:
            coarse = keras.layers.AveragePooling2D(step)(keras.layers.Cropping2D(self.crop)(x))
            outputs.append(keras.layers.Conv2D(self.classes or n_labels, 1, activation="softmax")(coarse))
        return keras.Model(image, outputs)

    def create_model_3D(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        x = keras.layers.Conv3D(4, 3, padding="same", activation="relu")(image)
        outputs = [keras.layers.Conv3D(n_labels, 1, activation="softmax")(x)]
        for step in self.steps:
            outputs.append(
                keras.layers.Conv3D(n_labels, 1, activation="softmax")(keras.layers.AveragePooling3D(step)(x))
            )
        return keras.Model(image, outputs)


def test_the_weights_are_halved_and_the_coarsest_output_is_dropped():
    assert output_weights(1) == [1]
    assert output_weights(2) == [1, 0]
    assert output_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_coarser_labels_are_those_in_the_middle(step):
    """As torch's "nearest-exact": voxel i of the coarser grid has its centre at (i + 1/2) step."""
    labels = np.arange(60 * 7).reshape(1, 60, 7)
    found = on_grid_of(labels, np.zeros((1, 60 // step, 7, 2)), np.zeros((1, 60, 7, 2)))
    centres = np.floor((np.arange(60 // step) + 0.5) * step).astype(int)
    np.testing.assert_array_equal(found, labels[:, centres])


def test_labels_of_grids_that_do_not_divide_are_those_in_the_middle():
    """Whole images of all sizes in a network of a user: their sizes are known only when it runs."""

    @tf.function(input_signature=[tf.TensorSpec((1, None, None)), tf.TensorSpec((1, None, None, 2))])
    def found(labels, coarse):
        return on_grid_of(labels, coarse, tf.expand_dims(labels, -1))

    rng = np.random.default_rng(0)
    labels, coarse = rng.random((1, 11, 17), np.float32), np.zeros((1, 6, 5, 2), np.float32)
    expected = resize(labels[0], (6, 5), order=0, mode="edge", anti_aliasing=False)
    np.testing.assert_array_equal(found(labels, coarse)[0], expected)


def test_the_loss_is_the_weighted_sum_and_metrics_are_those_of_the_first_output(make_network):
    network = make_network(
        data={"shape": (12, 12)}, processing={"patch_shape": (12, 12)}, architecture=Own(), loss=dice_soft_loss
    )
    model = network.model
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 12, 12, network.channels)).astype(np.float32)
    labels = rng.integers(0, network.classes, (2, 12, 12)).astype(np.uint8)
    outputs = model(image)
    assert [tuple(one.shape) for one in outputs] == [(2, 12, 12, 2), (2, 6, 6, 2), (2, 4, 4, 2)]
    one_hot = np.eye(network.classes, dtype=np.float32)
    expected = sum(
        weight * float(np.mean(dice_soft_loss(one_hot[labels[:, at::step, at::step]], output)))
        for weight, output, step, at in zip((2 / 3, 1 / 3), outputs[:2], (1, 2), (0, 1), strict=True)
    )
    assert float(model.compute_loss(y=labels, y_pred=outputs)) == pytest.approx(expected, rel=1e-5)
    # One-hot targets of users who train by hand.
    assert float(model.compute_loss(y=one_hot[labels], y_pred=outputs)) == pytest.approx(expected, rel=1e-5)
    together = model.compute_metrics(image, labels, outputs, None)["dice_soft"]
    model.reset_metrics()
    assert float(model.compute_metrics(image, labels, outputs[0], None)["dice_soft"]) == pytest.approx(float(together))


@pytest.fixture(params=["own", "nnunet"])
def network(request, make_network):
    if request.param == "own":
        architecture, shape, patch = Own(), (14, 14), (12, 12)
    else:
        architecture, shape, patch = NnUNet_plain((4, 8, 8), deep_supervision=True), (10, 9, 10), (8, 8, 8)
    made = make_network(
        data={"shape": shape}, processing={"patch_shape": patch}, architecture=architecture, learning_rate=0.01
    )
    made.model  # noqa: B018 - built before the training
    return made


@pytest.mark.filterwarnings("error:Gradients do not exist")
def test_it_trains_predicts_and_is_saved(network, tmp_path):
    history = network.evaluate(CASES[:3], CASES[3:], epochs=2).history
    assert {"loss", "val_loss", "dice_soft", "val_dice_soft"} <= set(history)
    assert history["loss"][1] < history["loss"][0]
    (probabilities,) = network.predict(CASES[3:], return_output=True, activation_output=True)
    assert probabilities.shape[-1] == network.classes
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    network.dump(tmp_path / "model.keras")
    again = network.copy()
    again.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(CASES[3:], return_output=True, activation_output=True)[0], probabilities
    )


def test_a_model_file_with_several_outputs_is_read_in_another_program(make_network, tmp_path):
    network = make_network(architecture=NnUNet_plain((4, 8, 8), deep_supervision=True))
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    assert loaded.architecture.deep_supervision is True
    assert len(loaded.model.outputs) == 2
    for ours, theirs in zip(loaded.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_exports_have_the_first_output(make_network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = make_network(architecture=NnUNet_plain((4, 8, 8), deep_supervision=True))
    network.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert len(session.get_outputs()) == 1
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8, network.channels)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    np.testing.assert_allclose(found, network.model(image)[0], atol=1e-5)


def test_a_model_with_one_output_is_returned_itself(make_network):
    model = make_network().model
    assert with_first_output(model) is model


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Own(crop=1), r"output 2 has the shape \(None, 5, 5, 2\), which does not fit the first one"),
        (Own(classes=3), r"output 2 has the shape \(None, 6, 6, 3\)"),
    ],
)
def test_outputs_that_do_not_fit_are_named(make_network, architecture, message):
    with pytest.raises(ConfigurationError, match=message):
        make_network(data={"shape": (12, 12)}, processing={"patch_shape": (12, 12)}, architecture=architecture)


def test_axes_of_a_volume_have_ratios_of_their_own(make_network):
    steps = ((3, 1, 2), (3, 5, 4))
    network = make_network(
        data={"shape": (12, 10, 8)},
        processing={"patch_shape": (12, 10, 8)},
        architecture=Own(steps),
        loss=dice_soft_loss,
    )
    rng = np.random.default_rng(0)
    outputs = network.model(rng.normal(size=(2, 12, 10, 8, network.channels)).astype(np.float32))
    labels = rng.integers(0, network.classes, (2, 12, 10, 8)).astype(np.uint8)
    one_hot = np.eye(network.classes, dtype=np.float32)
    coarser = labels[:, 1::3, :, 1::2]
    expected = 2 / 3 * np.mean(dice_soft_loss(one_hot[labels], outputs[0])) + 1 / 3 * np.mean(
        dice_soft_loss(one_hot[coarser], outputs[1])
    )
    assert float(network.model.compute_loss(y=labels, y_pred=outputs)) == pytest.approx(float(expected), rel=1e-5)


def test_an_interrupted_training_ends_with_the_same_weights(make_network, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def train(folder, *callbacks):
        network = make_network(
            data={"shape": (12, 12)},
            processing={"patch_shape": (12, 12)},
            architecture=Own(),
            loss=nnunet_loss(batch_dice=True),
            optimizer=NesterovSGD(global_clipnorm=12.0),
            seed=2,
        )
        network.train(CASES, epochs=2, callbacks=[*callbacks, TrainingState(tmp_path / folder, keep=True)])
        return network.model.get_weights()

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("parts", Stop())
    for one, two in zip(whole, train("parts"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_all_output_layers_keep_their_weights_in_a_network_of_other_classes(make_network, tmp_path):
    def make(classes, seed):
        return make_network(
            data={"shape": (12, 12), "classes": classes},
            processing={"patch_shape": (12, 12)},
            architecture=Own(),
            seed=seed,
        )

    # Equal classes too: an output layer that would fit is not read either.
    for classes in (2, 4):
        source, target = make(2, seed=1), make(classes, seed=2)
        before = target.model.get_weights()
        source.dump(tmp_path / f"{classes}.keras")
        target.load(tmp_path / f"{classes}.keras", head=False)
        after = target.model.get_weights()
        for found, expected in zip(after[:2], source.model.get_weights()[:2], strict=True):
            np.testing.assert_array_equal(found, expected)
        for found, expected in zip(after[2:], before[2:], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_no_output_is_offered_as_a_feature_map(make_network):
    """Defect: the coarser outputs were, so that Grad-CAM could be drawn for one of them."""
    network = make_network(data={"shape": (12, 12)}, processing={"patch_shape": (12, 12)}, architecture=Own())
    names = {layer.name for layer in feature_layers(network.model, (12, 12))}
    assert names
    assert not names & {output._keras_history.operation.name for output in network.model.outputs}
