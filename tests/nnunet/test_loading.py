"""Models of nnU-Net: the same logits, labels and files as nnU-Net's own predictor."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.nnunet.loading import load_nnunet

TORCH = os.environ.get("MISCNN_TF_NNUNET_PYTHON")
pytestmark = pytest.mark.skipif(TORCH is None, reason="MISCNN_TF_NNUNET_PYTHON names no Python with nnunetv2")

PROGRAM = Path(__file__).parents[1] / "nnunet_reference.py"
STATISTICS = {"mean": 60.0, "std": 40.0, "percentile_00_5": -40.0, "percentile_99_5": 180.0}


def network(kind, patch, strides, kernels, features):
    axes = len(patch)
    residual = kind == "ResidualEncoderUNet"
    part = "residual_unet" if residual else "unet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.{part}.{kind}",
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": features,
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 2, 3][: len(features)] if residual else 2,
            "n_conv_per_stage_decoder": [1] * (len(features) - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def make_case(
    *,
    patch=(16, 24, 16),
    spacing=(1.5, 1.0, 1.2),
    transposed=(0, 1, 2),
    kind="PlainConvUNet",
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    kernels=((3, 3, 3),) * 3,
    schemes=("ZScoreNormalization",),
    masked=False,
    labels=None,
    order=None,
    mirroring=(),
    folds=(0,),
    configuration="3d_fullres",
    reader="SimpleITKIO",
    ending=".nii.gz",
):
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    one = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": [masked] * len(schemes),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": network(kind, patch, [list(s) for s in strides], [list(k) for k in kernels], [4, 8, 12]),
        "batch_dice": False,
    }
    back = [list(transposed).index(axis) for axis in range(3)]
    plans = {
        "dataset_name": "Dataset004_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [30, 30, 30],
        "image_reader_writer": reader,
        "transpose_forward": list(transposed),
        "transpose_backward": back,
        "configurations": {configuration: one},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): STATISTICS for n in range(len(schemes))},
    }
    names = {"CTNormalization": "CT"}
    dataset = {
        "channel_names": {str(n): names.get(scheme, f"MR{n}") for n, scheme in enumerate(schemes)},
        "labels": labels or {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 5,
        "file_ending": ending,
    }
    if order:
        dataset["regions_class_order"] = list(order)
    return {"plans": plans, "dataset": dataset, "configuration": configuration, "mirroring": mirroring, "folds": folds}


def write_images(folder: Path, channels: int, seed: int = 0, box: bool = False) -> None:
    """Write a rotated, anisotropic volume of blobs."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    shape, spacing = (31, 26, 22), (1.1, 0.9, 1.6)
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(spacing), (5, -7, 11)
    coarse = rng.random((*(size // 4 + 1 for size in shape), channels))
    blobs = np.kron(coarse, np.ones((4, 4, 4, 1)))[: shape[0], : shape[1], : shape[2]]
    volume = 200 * blobs + 10 * rng.standard_normal(blobs.shape)
    if box:
        volume[:5], volume[:, -4:], volume[..., :3, :] = 0, 0, 0
    for channel in range(channels):
        image = nib.Nifti1Image(volume[..., channel].astype(np.float32), affine)
        nib.save(image, folder / f"case_{channel:04}.nii.gz")


THICK = {
    "patch": (8, 24, 24),
    "spacing": (4.0, 1.0, 1.0),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
}
FLAT = {
    "patch": (24, 32),
    "spacing": (1.0, 1.2),
    "strides": ((1, 1), (2, 2), (2, 2)),
    "kernels": ((3, 3),) * 3,
    "configuration": "2d",
}
CASES = {
    "isotropic": {},
    "residual": {"kind": "ResidualEncoderUNet"},
    "thick, transposed": {**THICK, "transposed": (1, 0, 2)},
    "2d": FLAT,
    "2d, transposed": {**FLAT, "transposed": (2, 0, 1)},
    "mirrored, three folds": {"mirroring": (0, 2), "folds": (0, 1, 2)},
    "CT, channels": {"schemes": ("CTNormalization", "NoNormalization", "ZScoreNormalization")},
    "non-zero mask": {"schemes": ("ZScoreNormalization",) * 2, "masked": True},
    "regions": {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": [3]}, "order": (1, 2, 3)},
    "ignore": {"labels": {"background": 0, "liver": 1, "ignore": 2}},
}


@pytest.fixture(params=CASES, ids=list(CASES))
def reference(request, tmp_path):
    case = make_case(**CASES[request.param])
    write_images(tmp_path / "images", len(case["dataset"]["channel_names"]), box=request.param == "non-zero mask")
    (tmp_path / "case.json").write_text(json.dumps(case))
    done = subprocess.run([TORCH, PROGRAM, tmp_path / "case.json", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tmp_path, case


def test_predictions_are_those_of_nnunet(reference):
    folder, case = reference
    model = load_nnunet(folder / "model")
    network = model.models[0] if len(case["folds"]) > 1 else model
    with np.load(folder / "window.npz") as window:
        image, expected = np.moveaxis(window["image"], 0, -1), np.moveaxis(window["logits"], 0, -1)
    found = logits_of_window(network, image, case)
    np.testing.assert_allclose(found, expected, atol=1e-4)

    parts = sorted((folder / "images").iterdir())
    source = parts[0] if len(parts) == 1 else folder / "images"
    with np.load(folder / "predictions" / "case.npz") as there:
        labels, probabilities = there["labels"].T, there["probabilities"].T
    written = folder / "seg.nii.gz"
    made = model.predict_file(source, written)
    print("labels", np.mean(made == labels))
    assert np.mean(made == labels) >= 0.9999
    chances = model.predict_file(source, activation_output=True)
    print("probabilities", np.abs(chances - probabilities).max())
    np.testing.assert_allclose(chances, probabilities, atol=1e-3)
    ours, theirs = nib.load(written), nib.load(folder / "predictions" / "case.nii.gz")
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), made)


def logits_of_window(network: miscnn_tf.Neural_Network, image: np.ndarray, case) -> np.ndarray:
    """Return the logits of a patch in the order of nnU-Net's axes."""
    import keras

    order = [2 - axis for axis in case["plans"]["transpose_forward"]]
    sliced = image.ndim == 3
    if sliced:
        image = image[np.newaxis]
    ours = np.moveaxis(image, (0, 1, 2), order)
    head = network.model.layers[-1]
    before = keras.Model(network.model.inputs, head.input)
    features = before(ours[np.newaxis])
    kernel, bias = (np.asarray(weight) for weight in head.weights)
    logits = np.asarray(features)[0] @ kernel.reshape(kernel.shape[-2:]) + bias
    back = np.moveaxis(logits, order, (0, 1, 2))
    return back[0] if sliced else back
