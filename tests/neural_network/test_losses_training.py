"""The losses with settings in training: compiled by XLA, found by name, weighted, and through a file."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network import losses as module
from miscnn_tf.neural_network.losses import ConfiguredLoss, get, losses

CONFIGURED = {
    "categorical_focal_loss": {"gamma": 1.5},
    "combo_loss": {"alpha": 0.3},
    "focal_tversky_loss": {"delta": 0.6},
    "nnunet_loss": {"batch_dice": True},
    "symmetric_focal_loss": {"delta": 0.6},
    "symmetric_focal_tversky_loss": {"gamma": 0.6},
    "asymmetric_focal_loss": {"gamma": 1.5},
    "asymmetric_focal_tversky_loss": {"delta": 0.6},
    "sym_unified_focal_loss": {"weight": 0.3},
    "asym_unified_focal_loss": {"weight": 0.3},
}
FUNCTIONS = sorted(set(losses) - set(CONFIGURED))


def tiny(shape, classes=3):
    return keras.Sequential([keras.Input((*shape, 1)), keras.layers.Dense(classes, activation="softmax")])


def data(rng, shape=(4, 3, 2), classes=3):
    image = rng.normal(size=(2, *shape, 1)).astype("float32")
    return image, np.eye(classes, dtype="float32")[rng.integers(0, classes, (2, *shape))]


def step(loss, image, t, start, **compiling):
    """The weights and the loss after one step."""
    model = tiny(image.shape[1:-1])
    model.set_weights(start)
    model.compile(keras.optimizers.SGD(0.5), loss=loss, **compiling)
    history = model.fit(image, t, verbose=0, shuffle=False)  # another order is another rounding
    return np.concatenate([weight.ravel() for weight in model.get_weights()]), history.history["loss"][0]


def test_every_registered_loss_is_tested_here():
    assert {name for name, loss in losses.items() if isinstance(loss, ConfiguredLoss)} == set(CONFIGURED)
    assert "tversky_loss" in FUNCTIONS


@pytest.mark.parametrize("name", CONFIGURED)
def test_plain_called_and_configured_all_compile(name, rng):
    image, t = data(rng)
    plain = getattr(module, name)
    assert get(name) is plain
    assert get(type(plain)).get_config() == plain.get_config() == plain().get_config()
    start = [weight.numpy() for weight in tiny((4, 3, 2)).weights]
    configured = plain(**CONFIGURED[name])
    assert configured.get_config() == plain.get_config() | CONFIGURED[name]
    steps = [step(loss, image, t, start, run_eagerly=True) for loss in (plain, plain(), configured)]
    np.testing.assert_array_equal(steps[1][0], steps[0][0])
    assert steps[1][1] == steps[0][1]
    assert not np.array_equal(steps[2][0], steps[0][0])


@pytest.mark.parametrize("name", sorted(losses))
def test_a_step_compiled_by_xla_is_the_step(name, rng):
    image, t = data(rng)
    start = [rng.normal(size=weight.shape) for weight in tiny((4, 3, 2)).weights]
    compiled, plain = (step(get(name), image, t, start, jit_compile=jit) for jit in (True, False))
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-5, atol=1e-6)
    assert compiled[1] == pytest.approx(plain[1], rel=1e-5)
    assert not np.allclose(plain[0], np.concatenate([weight.ravel() for weight in start]), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGURED)
def test_training_brings_the_loss_down(name, rng):
    image, t = data(rng, (4, 4))
    image[..., 0] = np.argmax(t, -1)  # the labels can be read off the image
    keras.utils.set_random_seed(1)
    model = tiny((4, 4))
    model.compile(keras.optimizers.Adam(0.2), loss=getattr(module, name))
    values = model.fit(image, t, epochs=40, verbose=0).history["loss"]
    assert np.isfinite(values).all()
    assert values[-1] < values[0] - 0.3 * abs(values[0])
    assert (np.argmax(model(image), -1) == np.argmax(t, -1)).mean() > 0.9


def test_a_file_keeps_the_settings_and_needs_no_custom_objects(tmp_path, rng):
    image, t = data(rng)
    expected = {}
    for name, chosen in CONFIGURED.items():
        loss = getattr(module, name)(**chosen)
        model = tiny((4, 3, 2))
        model.compile("sgd", loss=loss)
        model.save(tmp_path / f"{name}.keras")
        expected[name] = float(loss(t, model(image)))
    np.savez(tmp_path / "data.npz", image=image, t=t)
    np.savez(tmp_path / "expected.npz", **expected)
    script = """
import pathlib, keras, numpy as np, miscnn_tf.neural_network.losses
data, expected = np.load("data.npz"), np.load("expected.npz")
for name in expected:
    model = keras.saving.load_model(f"{name}.keras")
    value = float(model.loss(data["t"], model(data["image"])))
    assert abs(value - expected[name]) < 1e-6 * abs(value) + 1e-7, (name, value, expected[name])
assert np.isfinite(model.fit(data["image"], data["t"], verbose=0).history["loss"]).all()
print(len(expected.files))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(len(CONFIGURED))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["combo_loss", "asym_unified_focal_loss"])
def test_a_network_trains_with_it_weighted_and_keeps_it_in_its_file(loss, make_network, tmp_path):
    network = make_network(loss=loss)
    samples = network.preprocessor.data_io.get_indiceslist()
    plain = network.train(samples, epochs=1, iterations=1).history["loss"]
    weighted = network.train(samples, epochs=1, iterations=1, class_weight={0: 0.5, 1: 4.0}).history["loss"]
    assert np.isfinite([*plain, *weighted]).all()
    network.loss = getattr(module, loss)(**CONFIGURED[loss])
    assert np.isfinite(network.train(samples, epochs=1, iterations=1).history["loss"]).all()
    network.dump(tmp_path / "model.keras")
    other = make_network()
    other.load(tmp_path / "model.keras")
    for ours, theirs in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
