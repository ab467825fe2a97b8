"""The standard U-Net: its size, its shapes, one training step in every precision, a round trip through files."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.hardware import precision_scope
from miscnn_tf.neural_network.losses import tversky_loss

SHAPES = {2: (8, 12, 1), 3: (8, 4, 12, 1)}


def weight_count(axes, channels, classes, filters, depth, normalised=True):
    """Closed form: kernels, biases, and four numbers of batch normalisation per filter."""

    def convolution(before, after, edge):
        return before * after * edge**axes + after

    def block(before, after):
        # Scale, offset, mean and variance of each channel, and the number of updates.
        norm = 4 * after + 1 if normalised else 0
        return convolution(before, after, 3) + convolution(after, after, 3) + 2 * norm

    widths = [filters * 2**level for level in range(depth + 1)]
    encoder = sum(block(before, after) for before, after in zip([channels, *widths], widths, strict=False))
    decoder = sum(
        convolution(2 * width, width, 2) + block(2 * width, width) for width in widths[:-1]
    )  # an upsampled map of `width` filters beside the skip of `width`
    return encoder + decoder + convolution(filters, classes, 1)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_default_has_the_weights_of_the_paper_with_batch_normalisation(axes):
    shape = (*(None,) * axes, 1)
    model = Architecture().create_model(shape, n_labels=2)
    assert model.count_params() == weight_count(axes, channels=1, classes=2, filters=32, depth=4)
    assert model.output_shape == (None, *(None,) * axes, 2)


@pytest.mark.parametrize("arguments", [(4, 1, True), (3, 2, False)])
@pytest.mark.parametrize("axes", [2, 3])
def test_weights_of_other_sizes(axes, arguments):
    filters, depth, normalised = arguments
    model = Architecture(filters, depth, batch_normalization=normalised).create_model((*[None] * axes, 2), n_labels=5)
    assert model.count_params() == weight_count(axes, 2, 5, filters, depth, normalised)


@pytest.fixture(scope="module")
def models():
    return {axes: Architecture(4, 2).create_model(shape, n_labels=3) for axes, shape in SHAPES.items()}


@pytest.mark.parametrize("axes", [2, 3])
def test_probabilities_on_the_images_grid(models, axes, rng):
    image = rng.normal(size=(2, *SHAPES[axes])).astype("float32")
    probabilities = models[axes].predict(image, verbose=0)
    assert probabilities.shape == (2, *SHAPES[axes][:-1], 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_a_network_without_fixed_size_takes_any_size_that_the_depth_halves(rng):
    model = Architecture(2, 2).create_model_3D((None, None, None, 1), 2)
    for shape in ((8, 4, 12), (4, 4, 4)):
        assert model(rng.normal(size=(1, *shape, 1))).shape == (1, *shape, 2)


def test_every_level_sees_its_own_resolution(models):
    levels = [
        models[3].get_layer(f"{name}_conv1").output.shape[1] for name in ("down0", "down1", "bridge", "up1", "up0")
    ]
    assert levels == [8, 4, 2, 4, 8]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("axes", [2, 3])
def test_a_step_of_training_in_every_precision(axes, precision, rng):
    image = rng.normal(size=(2, *SHAPES[axes])).astype("float32")
    labels = keras.utils.to_categorical(rng.integers(0, 3, (2, *SHAPES[axes][:-1])), 3)
    keras.utils.set_random_seed(1)
    with precision_scope(precision):
        model = Architecture(4, 1).create_model(SHAPES[axes], n_labels=3)
        model.compile(keras.optimizers.Adam(1e-2), loss=tversky_loss, jit_compile=False, run_eagerly=axes == 2)
    assert model.output.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "mixed_float16")
    before = model.get_weights()
    losses = [float(model.train_on_batch(image, labels)) for _ in range(3)]
    assert np.isfinite(losses).all()
    if precision != "mixed_float16":  # its first steps only search the loss scale
        assert losses[-1] < losses[0]
        assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_a_saved_model_predicts_the_same_in_a_new_process(models, tmp_path, rng):
    script = "import keras, numpy as np, miscnn_tf.neural_network.architecture\n"
    expected = {}
    for axes, ending in ((2, "h5"), (3, "keras")):
        image = rng.normal(size=(1, *SHAPES[axes])).astype("float32")
        np.save(tmp_path / f"image{axes}.npy", image)
        expected[axes] = models[axes](image)
        models[axes].save(tmp_path / f"model{axes}.{ending}")
        script += (
            f"model = keras.saving.load_model('model{axes}.{ending}')\n"
            f"np.save('{axes}.npy', model(np.load('image{axes}.npy')))\n"
        )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for axes in SHAPES:
        np.testing.assert_array_equal(np.load(tmp_path / f"{axes}.npy"), expected[axes])


def test_the_configuration_makes_the_same_network():
    architecture = Architecture(8, depth=3, activation="sigmoid", batch_normalization=False)
    config = get_config(architecture)
    assert config == {
        "n_filters": 8,
        "depth": 3,
        "activation": "sigmoid",
        "batch_normalization": False,
        "instance_normalization": False,
    }
    assert get_config(Architecture(**config)) == config


def test_sigmoid_rates_each_class_for_itself():
    model = Architecture(2, 1, activation="sigmoid").create_model((4, 4, 1), 3)
    assert model.layers[-1].activation is keras.activations.sigmoid


def test_instance_normalisation_treats_each_image_alone(rng):
    model = Architecture(2, 1, batch_normalization=False, instance_normalization=True).create_model((8, 8, 1), 2)
    images = rng.normal(size=(2, 8, 8, 1)).astype("float32")
    together = model(images, training=True)
    alone = model(images[:1], training=True)
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_patch_that_the_depth_cannot_halve():
    assert Architecture().divisor == 16
    with pytest.raises(ConfigurationError, match="axis 1: 56 -> 48 or 64"):
        Architecture().create_model_3D((48, 56, 48, 1))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_filters": 0}, "n_filters"),
        ({"n_filters": 8.5}, "n_filters"),
        ({"depth": 0}, "depth"),
        ({"depth": True}, "depth"),
        ({"activation": "softmaxx"}, "softmaxx"),
        ({"activation": None}, "activation"),
        ({"instance_normalization": True}, "batch_normalization=False"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        Architecture(**arguments)


@pytest.mark.parametrize(("shape", "labels"), [((16, 16, None), 2), ((16, 16, 0), 2), ((16, 16, 1), 0)])
def test_channels_and_classes_are_needed(shape, labels):
    with pytest.raises(ConfigurationError, match="at least 1"):
        Architecture().create_model(shape, labels)
