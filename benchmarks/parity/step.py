"""Loss, its gradients and the optimizer's steps beside nnU-Net's in PyTorch."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from comparison import Comparison

from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.neural_network.losses import nnunet_loss
from miscnn_tf.neural_network.nesterov_sgd import NesterovSGD
from miscnn_tf.neural_network.segmentation_model import SegmentationModel

_KINDS = ("softmax", "with voxels without annotation", "regions", "regions without annotation", "deep supervision")


def compare(python: str) -> list[Comparison]:
    """Compare losses, gradients and steps.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.npz"
        reference = Path(__file__).with_name("_reference_step.py")
        done = subprocess.run([python, str(reference), str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        with np.load(path) as arrays:
            theirs = dict(arrays)
    comparisons = []
    for case in range(2 * len(_KINDS)):
        batch_dice, kind = case >= len(_KINDS), _KINDS[case % len(_KINDS)]
        value, gradients = _ours(theirs, kind, batch_dice)
        name = f"{kind}, Dice of {'the batch' if batch_dice else 'each sample'}"
        # Theirs is the negative Dice.
        offset = abs(value - 1 - float(theirs[f"case{case}.value"]))
        comparisons.append(Comparison(f"loss: {name}", offset, 1e-5))
        differences = [
            np.abs(ours - theirs[f"case{case}.gradient{place}"]).max() / np.abs(theirs[f"case{case}.gradient0"]).max()
            for place, ours in enumerate(gradients)
        ]
        comparisons.append(Comparison(f"gradients: {name} (relative to the largest)", float(max(differences)), 1e-5))
    return [*comparisons, _steps(theirs)]


def _ours(theirs: dict[str, np.ndarray], kind: str, batch_dice: bool) -> tuple[float, list[np.ndarray]]:
    classes, places = 3, range(3 if kind == "deep supervision" else 1)
    logits = [np.moveaxis(theirs[f"logits{place}"], 1, -1) for place in places]
    scheme, labels = LabelScheme(classes), theirs["labels"]
    if kind == "with voxels without annotation":
        scheme, labels = LabelScheme(classes, has_ignored=True), theirs["ignored"]
    has_regions, has_ignored = kind.startswith("regions"), kind.endswith("without annotation")
    if has_regions:
        regions = (Region("all", (1, 2), 1), Region("core", (2,), 2))
        scheme = LabelScheme(classes, regions=regions, has_ignored=has_ignored)
        labels = theirs["ignored"] if has_ignored else labels
        logits = [logits[0][..., :2]]
    image = keras.Input((1,))
    model = SegmentationModel(image, keras.layers.Identity()(image))
    model.compile(loss=nnunet_loss(batch_dice=batch_dice, regions=has_regions, ignore=has_ignored))
    model.label_scheme = scheme
    variables = [tf.Variable(one) for one in logits]
    activation: Any = tf.sigmoid if has_regions else tf.nn.softmax
    with tf.GradientTape() as tape:
        outputs = [activation(one) for one in variables]
        loss = model.compute_loss(y=tf.constant(labels), y_pred=outputs if len(outputs) > 1 else outputs[0])
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    return float(loss), [np.moveaxis(one.numpy(), -1, 1) for one in gradients]


def _steps(theirs: dict[str, np.ndarray]) -> Comparison:
    weight = keras.Variable(theirs["weight"])
    optimizer = NesterovSGD(0.01, momentum=0.99, weight_decay=3e-5, global_clipnorm=12.0)
    largest = 0.0
    for gradient, rate, expected in zip(theirs["gradients"], theirs["rates"], theirs["weights"], strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant(gradient)], [weight])
        largest = max(largest, float(np.abs(weight.numpy() - expected).max() / np.abs(expected).max()))
    return Comparison("optimizer: weights after each of 20 steps, clipped at norm 12 (relative)", largest, 1e-5)
