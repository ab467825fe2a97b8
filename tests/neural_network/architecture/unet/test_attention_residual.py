"""Both ideas, and nothing else."""

import pytest

from miscnn_tf.neural_network.architecture import unet


@pytest.mark.parametrize("axes", [2, 3])
def test_it_has_the_shortcuts_of_the_one_and_the_gates_of_the_other(axes):
    models = {
        name: getattr(unet, f"UNet_{name}")(4, 2).create_model((*(8,) * axes, 1), 2)
        for name in ("standard", "attention", "residual", "attention_residual")
    }
    names = {key: {layer.name for layer in model.layers} for key, model in models.items()}
    assert names["attention_residual"] == names["attention"] | names["residual"]
    assert names["attention"] - names["standard"]
    assert names["residual"] - names["standard"]
    weights = {key: model.count_params() for key, model in models.items()}
    assert weights["attention_residual"] + weights["standard"] == weights["attention"] + weights["residual"]
