"""All nine U-Nets, in 2D and 3D: what every one of them has to do."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from miscnn_tf._base.configuration import build, describe, get_config
from miscnn_tf.datasets import make_kits_phantom
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import architectures, unet
from miscnn_tf.neural_network.architecture.unet.family import UNet
from miscnn_tf.neural_network.hardware import precision_scope
from miscnn_tf.neural_network.losses import dice_crossentropy

NAMES = (
    *("standard", "plain", "residual", "dense", "compact"),
    *("attention", "attention_residual", "multiRes", "multiPath"),
)
SHAPES = {2: (8, 12, 2), 3: (8, 4, 12, 2)}
CLASSES = 3
EACH = [(name, axes) for name in NAMES for axes in (2, 3)]


def small(name, depth=2, filters=4):
    """A tiny architecture of that name."""
    if name == "plain":
        return unet.UNet_plain(feature_maps=[filters * 2**level for level in range(depth)])
    return getattr(unet, f"UNet_{name}")(n_filters=filters, depth=depth)


@pytest.fixture(scope="module")
def models():
    """Without fixed sizes, so that one model serves all tests."""
    keras.utils.set_random_seed(5)
    return {(name, axes): small(name).create_model((*[None] * axes, SHAPES[axes][-1]), CLASSES) for name, axes in EACH}


def test_all_are_exported_registered_and_have_softmax_as_default():
    assert sorted(unet.__all__) == sorted(f"UNet_{name}" for name in NAMES)
    for name in NAMES:
        cls = getattr(unet, f"UNet_{name}")
        assert cls.__name__ == "Architecture"
        assert cls.__module__ == f"miscnn_tf.neural_network.architecture.unet.{name}"
        assert architectures.get(f"unet_{name}") is cls
        assert issubclass(cls, UNet)
        assert cls().activation == "softmax"


@pytest.mark.parametrize("name", NAMES)
def test_the_description_builds_the_same_network(name):
    architecture = small(name)
    again = build(describe(architecture, f"unet_{name}"), architectures, "architecture")
    assert get_config(again) == get_config(architecture)
    shape = (8, 8, 2)
    first, second = (one.create_model(shape, CLASSES).get_config() for one in (architecture, again))
    assert first == second
    assert first["name"] == f"unet_{name}"


@pytest.mark.parametrize(("name", "axes"), EACH)
def test_probabilities_on_the_images_grid(models, name, axes, rng):
    image = rng.normal(size=(2, *SHAPES[axes])).astype("float32")
    probabilities = np.asarray(models[name, axes](image))
    assert probabilities.shape == (2, *SHAPES[axes][:-1], CLASSES)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert probabilities.std() > 1e-3


@pytest.mark.parametrize(("name", "axes"), EACH)
def test_every_size_that_the_depth_allows(models, name, axes):
    divisors = small(name).divisors(axes)
    assert divisors == ((2, 4, 4) if (name, axes) == ("plain", 3) else (4,) * axes)
    for factors in ((1,) * axes, (1, 3, 2)[:axes]):
        shape = tuple(factor * divisor for factor, divisor in zip(factors, divisors, strict=True))
        small(name).check_shape(shape)
        result = np.asarray(models[name, axes](np.ones((1, *shape, 2), "float32")))
        assert result.shape == (1, *shape, CLASSES)
        assert np.isfinite(result).all()


@pytest.mark.parametrize(("name", "axes"), EACH)
def test_patch_that_the_depth_cannot_halve(name, axes):
    shape = (16, 18, 16)[:axes]
    with pytest.raises(ConfigurationError, match="axis 1: 18 -> 16 or 20"):
        small(name).create_model((*shape, 2), CLASSES)
    with pytest.raises(ConfigurationError, match=rf"{name}\.Architecture"):
        small(name).check_shape(shape)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("name", "axes"), EACH)
def test_a_step_of_training(name, axes, precision, rng):
    image = rng.normal(size=(2, *SHAPES[axes])).astype("float32")
    labels = keras.utils.to_categorical(rng.integers(0, CLASSES, (2, *SHAPES[axes][:-1])), CLASSES).astype("float32")
    keras.utils.set_random_seed(1)
    with precision_scope(precision):
        model = small(name, filters=6).create_model(SHAPES[axes], CLASSES)
        model.compile(keras.optimizers.Adam(3e-3), loss=dice_crossentropy, jit_compile=False, run_eagerly=True)
    assert model.output.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)
    inner = [layer.compute_dtype for layer in model.layers if "Conv" in type(layer).__name__][:-1]
    assert set(inner) == {"bfloat16" if "bfloat16" in precision else "float32"}
    before = [weight.numpy() for weight in model.trainable_variables]
    losses = [float(model.train_on_batch(image, labels)) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    kernels = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if "kernel" in variable.path and (variable.numpy() == old).all()
    ]
    assert not kernels, "these weights get no gradient"


@pytest.mark.parametrize(("name", "axes"), EACH)
def test_a_saved_model_predicts_the_same(models, name, axes, tmp_path, rng):
    image = rng.normal(size=(1, *SHAPES[axes])).astype("float32")
    models[name, axes].save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image), models[name, axes](image), atol=1e-6)


@pytest.mark.slow
def test_saved_models_predict_the_same_in_a_new_process(models, tmp_path, rng):
    """The process knows the package alone, no custom_objects."""
    script = "import keras, numpy as np, miscnn_tf.neural_network.architecture\n"
    expected = {}
    images = {axes: rng.normal(size=(1, *shape)).astype("float32") for axes, shape in SHAPES.items()}
    np.savez(tmp_path / "images.npz", **{str(axes): image for axes, image in images.items()})
    script += "images = np.load('images.npz')\n"
    for number, ((name, axes), model) in enumerate(models.items()):
        file = f"{name}{axes}.{('keras', 'h5')[number % 4 == 3]}"
        model.save(tmp_path / file)
        expected[f"{name}{axes}"] = np.asarray(model(images[axes]))
        script += f"np.save('{name}{axes}.npy', keras.saving.load_model('{file}')(images['{axes}']))\n"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for name, result in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), result, atol=1e-6, err_msg=name)


def test_a_variant_is_a_hook():
    class Narrow(UNet):
        def filters(self, level):
            return 2

        def skip(self, features, below, level, name):
            assert below.shape[1] * 2 == features.shape[1]
            return keras.layers.Dropout(0.5, name=f"{name}_drop")(features)

    model = Narrow(depth=3).create_model((8, 8, 1), 2)
    assert model.name == "Narrow"
    assert [layer.name for layer in model.layers if "_drop" in layer.name] == ["up2_drop", "up1_drop", "up0_drop"]
    assert {layer.filters for layer in model.layers if hasattr(layer, "filters")} == {2}


def phantoms(axes):
    """Four scans with kidneys and a tumour, ``(4, x, y[, z], 1)`` and labels; in 2D the slice with the most kidney."""
    images, labels = [], []
    for seed in range(4):
        image, label, _ = make_kits_phantom(seed, shape=(8, 32, 32), orientation="IPL", tumours=1)
        if axes == 2:
            place = (label > 0).sum((1, 2)).argmax()
            image, label = image[place], label[place]
        images.append(((image.clip(-79, 304) - 101) / 76.9)[..., None])
        labels.append(label)
    return np.stack(images).astype("float32"), np.stack(labels)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "axes"), EACH)
def test_four_phantoms_are_learnt_by_heart(name, axes):
    images, labels = phantoms(axes)
    truth = keras.utils.to_categorical(labels, CLASSES).astype("float32")
    keras.utils.set_random_seed(1)
    model = small(name, filters=8).create_model((*[None] * axes, 1), CLASSES)
    model.compile(keras.optimizers.Adam(5e-3), loss=dice_crossentropy, jit_compile=False)
    dice = 0.0
    for _ in range(8):
        model.fit(images, truth, batch_size=2, epochs=20, verbose=0)
        found = model.predict(images, verbose=0).argmax(-1) > 0
        dice = 2 * (found & (labels > 0)).sum() / (found.sum() + (labels > 0).sum())
        if dice > 0.95:
            break
    assert dice > 0.9
