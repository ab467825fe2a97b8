from __future__ import annotations

import json

import keras
import pytest

from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.trusted_classes import check_configuration


def configuration_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


@pytest.mark.parametrize("name", sorted(architectures))
@pytest.mark.parametrize("shape", [(32, 32, 1), (32, 32, 32, 2)])
def test_every_architecture_of_this_package_passes(name, shape):
    check_configuration(configuration_of(architectures.get(name)().create_model(shape, 3)), {}, "model.keras")


def test_what_users_build_of_keras_layers_passes():
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation=keras.activations.silu, kernel_regularizer="l2")(image)
    x = keras.layers.SeparableConv2D(4, 3, padding="same", depthwise_initializer="he_normal")(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4))(x)
    x = keras.ops.concatenate([keras.ops.relu(x) + 1.0, x * x], axis=-1)
    inner = keras.Sequential([keras.Input((16, 16, 8)), keras.layers.Conv2D(2, 1, dtype="mixed_float16")])
    model = keras.Model(image, keras.layers.Softmax()(inner(x)))

    check_configuration(configuration_of(model), {}, "model.keras")


@keras.saving.register_keras_serializable(package="test_trusted_classes")
class Registered(keras.layers.Layer):
    def call(self, x):
        return x


class NotRegistered(keras.layers.Layer):
    def call(self, x):
        return x


def with_layer(layer):
    return configuration_of(keras.Sequential([keras.Input((8, 8, 1)), layer]))


def test_a_layer_of_ones_own_passes_where_it_is_registered_or_handed_in():
    check_configuration(with_layer(Registered()), {}, "x")
    check_configuration(with_layer(NotRegistered()), {"NotRegistered": NotRegistered}, "x")
    with pytest.raises(ModelFileError, match=r"x: the model names .*'NotRegistered', which is not one of the layers"):
        check_configuration(with_layer(NotRegistered()), {}, "x")


def entry(name, module="keras.layers", config=None, registered=None):
    return {"class_name": name, "module": module, "config": config or {}, "registered_name": registered}


@pytest.mark.parametrize(
    "hostile",
    [
        entry("Lambda", config={"function": {"class_name": "__lambda__", "config": {"value": "…"}}}),
        entry("TFSMLayer", config={"filepath": "/tmp/saved_model"}),
        entry("StringLookup", config={"vocabulary": "/etc/passwd"}),
        entry("IntegerLookup", config={"vocabulary": "/etc/passwd"}),
        entry("TextVectorization", config={"vocabulary": "/etc/passwd"}),
        entry("TorchModuleWrapper"),
        entry("JaxLayer"),
        entry("FlaxLayer"),
        entry("__lambda__", None, {"value": "…"}),
        entry("__typespec__", "tensorflow"),
        entry("function", "keras.utils", "get_file"),
        entry("function", "builtins", "eval"),
        entry("function", "os", "system"),
        entry("Popen", "subprocess"),
        entry("Conv2D", "subprocess"),
        entry("Conv2D", "keras.src.layers"),
        entry("TFSMLayer", "keras.src.export.tfsm_layer", registered="TFSMLayer"),
        entry("TFSMLayer", None),
        entry("Lambda", None),
        entry("Map", "keras.src.ops.core"),
        entry("get_file", "keras.src.ops.numpy"),
        entry(["Conv2D"]),
        entry("Conv2D", ["keras.layers"]),
    ],
    ids=lambda part: f"{part['module']}-{part['class_name']}",
)
def test_a_class_that_can_run_code_or_open_files_is_refused_wherever_it_is(hostile):
    for wrapped in (
        hostile,
        {"class_name": "Functional", "module": "keras.src.models.functional", "config": {"layers": [hostile]}},
        entry("TimeDistributed", config={"layer": hostile}),
        entry("Conv2D", config={"kernel_initializer": hostile}),
        entry("Conv2D", config={"activation": hostile}),
        {"build_config": {"x": [[hostile]]}},
    ):
        with pytest.raises(ModelFileError, match=r"model\.keras: the model names"):
            check_configuration(wrapped, {}, "model.keras")


def test_a_configuration_nested_without_end_is_refused():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(ModelFileError, match="nested more than 200 deep"):
        check_configuration(nested, {}, "x")
