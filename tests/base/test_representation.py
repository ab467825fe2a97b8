"""Representations of the objects of scripts and notebooks."""

from __future__ import annotations

import numpy as np
import pytest

import miscnn_tf
from miscnn_tf._base.representation import Constructed, changed_arguments
from miscnn_tf.processing.subfunctions import Clipping, Normalization


@pytest.fixture
def data_io() -> miscnn_tf.Data_IO:
    samples = {name: (np.zeros((16, 16), np.float32), np.zeros((16, 16), np.uint8)) for name in "abcd"}
    return miscnn_tf.Data_IO(miscnn_tf.Dictionary_interface(samples, three_dim=False), "")


def test_constructed_objects_show_the_call_that_makes_them() -> None:
    assert repr(Clipping(min=-79, max=304)) == "Clipping(min=-79, max=304)"
    assert repr(Normalization()) == "Normalization()"
    assert repr(miscnn_tf.NIFTI_interface(channels=1, classes=3)) == "NIFTI_interface(classes=3)"
    made = miscnn_tf.UNet_standard(n_filters=8)
    assert changed_arguments(made) == {"n_filters": 8}
    assert '<td style="text-align:left">classes</td>' in miscnn_tf.NIFTI_interface(classes=3)._repr_html_()


def test_objects_of_a_script_show_their_settings(data_io) -> None:
    preprocessor = miscnn_tf.Preprocessor(data_io, 2, [Normalization()], patch_shape=(8, 8), seed=3)
    network = miscnn_tf.Neural_Network(preprocessor, miscnn_tf.UNet_standard(n_filters=2, depth=1), precision="float32")
    for thing, parts in (
        (data_io, ["samples: 4: a, b, c", "interface: Dictionary_interface("]),
        (preprocessor, ["subfunctions: Normalization()", "patch_shape: (8, 8)", "augmentation: scaling", "seed: 3"]),
        (network, ["architecture: unet_standard {'n_filters': 2, 'depth': 1}", "input: 8 x 8 pixels, 1 channel",
                   "loss: tversky_loss", "metrics: dice_soft", "Adam, learning rate 0.0001", "trained: not yet"]),
    ):  # fmt: skip
        text = repr(thing)
        assert text.startswith(f"<{type(thing).__name__}\n")
        assert [part for part in parts if part not in text] == []
        page = thing._repr_html_()
        assert page.count("<tr>") == text.count("\n")
        assert f"<b>{type(thing).__name__}</b>" in page


def test_a_representation_never_fails_and_escapes() -> None:
    class Forgetful(Constructed):
        def __init__(self, size: int) -> None:
            """Store nothing."""

    assert repr(Forgetful(3)) == "Forgetful()"
    assert repr(Forgetful.__new__(Forgetful)) == "Forgetful()"

    class Odd(Constructed):
        def __init__(self, text: str) -> None:
            self.text = text

    assert "&lt;script&gt;" in Odd("<script>")._repr_html_()
