"""Names of Keras that are not public: these fail when a version changes them."""

import keras

from miscnn_tf.neural_network.keras_internals import all_layers, maker_of


def test_a_symbolic_tensor_knows_what_made_it():
    image = keras.Input((4, 4, 1))
    layer = keras.layers.Conv2D(2, 1)
    output = layer(image)
    assert maker_of(output) is layer
    assert maker_of(image).__class__ is keras.layers.InputLayer
    model = keras.Model(image, keras.ops.relu(output))
    assert maker_of(model.outputs[0]).__class__.__name__ == "Relu"
    again = model(keras.Input((4, 4, 1)))
    assert maker_of(again) is model


def test_a_model_knows_all_its_layers_whatever_its_kind():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.hidden = [keras.layers.Dense(2), keras.layers.Dense(3)]

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block()

    model = Own()
    found = all_layers(model)
    assert len(found) == 3
    assert set(map(id, found)) == set(map(id, [model.block, *model.block.hidden]))
    functional = keras.Sequential([keras.Input((3,)), model.block.hidden[0]])
    assert model.block.hidden[0] in all_layers(functional)


def test_no_other_file_uses_names_that_are_not_public():
    from pathlib import Path

    import miscnn_tf

    root = Path(miscnn_tf.__file__).parent
    private = (
        "keras.src",
        "_keras_history",
        "tensorflow.python",
        "__internal__",
        "_distribute_strategy",
        "_flatten_layers",
    )
    found = [
        f"{path.relative_to(root)}: {name}"
        for path in sorted(root.rglob("*.py"))
        if path.name != "keras_internals.py"
        for name in private
        if name in path.read_text(encoding="utf-8")
    ]
    assert found == []
