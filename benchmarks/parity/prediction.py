"""Averages over mirrored views beside those of nnU-Net's predictor."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import keras
import numpy as np
from comparison import Comparison

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.neural_network.prediction import PatchPredictor, predicted_patches, prediction_views
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.patch_plan import PatchPlan


def compare(python: str) -> list[Comparison]:
    """Compare 4 views of an image and 8 views of a volume, for a network that is not symmetric.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prediction.npz"
        reference = Path(__file__).with_name("_reference_prediction.py")
        done = subprocess.run([python, str(reference), str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        with np.load(path) as arrays:
            theirs = dict(arrays)
    comparisons = []
    for axes in (2, 3):
        kernel = np.moveaxis(theirs[f"{axes}.kernel"], (1, 0), (-2, -1))
        layer = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[axes](3, 3, padding="same", activation="softmax")
        model = keras.Sequential([keras.Input((*[None] * axes, 2)), layer])
        layer.set_weights([kernel, theirs[f"{axes}.bias"]])
        image = np.moveaxis(theirs[f"{axes}.image"][0], 0, -1)
        shape = image.shape[:-1]
        sample = Sample("a", image, channels=2, classes=3, three_dim=axes == 3)
        plan = PatchPlan("patchwise-crop", shape, (0,) * axes)
        views = prediction_views(Data_Augmentation(infaug=True, infaug_all=True), axes)
        (ours,) = predicted_patches(PatchPredictor(model, shape, 2), plan, sample, views)
        difference = np.abs(np.moveaxis(ours, -1, 0) - theirs[f"{axes}.predicted"][0]).max()
        comparisons.append(
            Comparison(f"prediction: mean of {len(views)} mirrored views in {axes}D", float(difference), 1e-5)
        )
    return comparisons
