import pytest

from miscnn_tf.report.settings_text import setting_rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (12, "12"),
        (1234567, "1,234,567"),
        (0.0001, "0.0001"),
        ([40, 56, 40], "40 × 56 × 40"),
        ([0.8, 0.8], "0.8, 0.8"),
        ([], "none"),
        ("patchwise-crop", "patchwise-crop"),
        ("miscnn_tf.a.b.Name", "miscnn_tf.a.b.Name"),
        ({}, "none"),
        ({"a": 1, "b": [1.5, None]}, "a: 1, b: (1.5, None)"),
        (
            {"class_name": "miscnn_tf.neural_network.architecture.unet.standard.Architecture", "config": {"depth": 4}},
            "standard.Architecture(depth=4)",
        ),
        ({"partial": "tversky_loss", "arguments": {"delta": 0.7}}, "tversky_loss(delta=0.7)"),
        ({"class_name": "x", "config": "y"}, "class_name: x, config: y"),  # by another hand
        ([{"class_name": "Clipping", "config": {"min": 0}}, "miscnn_tf.x.y.Z"], "Clipping(min=0), y.Z"),
    ],
)
def test_settings_are_text(value, text):
    assert setting_rows({"a_name": value}) == [("a name", text)]
