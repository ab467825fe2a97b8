"""Trained models of nnU-Net for tests: plans, and checkpoints with the weights of a network here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch_writer import write_torch_file

from miscnn_tf.nnunet.weights import pytorch_name

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


def write_model(folder: Path, case: dict[str, Any], weights: dict[str, np.ndarray], **changes: Any) -> Path:
    """Write the folder of a model without PyTorch, with the same weights in each fold."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(case["plans"]))
    (folder / "dataset.json").write_text(json.dumps(case["dataset"]))
    for fold in case["folds"]:
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": weights,
            "logging": {"ema_fg_dice": [np.float64(0.5)]},
            "init_args": {"configuration": case["configuration"], "fold": fold},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": tuple(case["mirroring"]) or None,
            **changes,
        }
        write_torch_file(folder / f"fold_{fold}" / "checkpoint_final.pth", checkpoint)
    return folder


def pytorch_weights(model: Any, axes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the weights of a plain U-Net here, as PyTorch has them.

    Args:
        model: The Keras model.
        axes: Its axis for each axis of the network in PyTorch; kernels have one voxel along the others.
    """
    levels = 2 + max(int(layer.name[2]) for layer in model.layers if layer.name.startswith("up"))
    kinds = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    found = {}
    for layer in model.layers:
        module = pytorch_name(layer.name.removesuffix("_norm"), levels, False) if layer.weights else ""
        if layer.name.endswith("_norm"):
            module = f"{module.removesuffix('.conv')}.norm"
        for weight in layer.weights:
            value = np.asarray(weight)
            if weight.name == "kernel":
                spatial = value.ndim - 2
                value = np.transpose(value, (spatial + 1, spatial, *axes, *(set(range(spatial)) - set(axes))))
                value = value.reshape(value.shape[: 2 + len(axes)])
            found[f"{module}.{kinds[weight.name]}"] = value
    return found
