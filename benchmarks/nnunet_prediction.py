"""Speed and memory of a prediction with a model of nnU-Net: its own predictor beside ours, in turns.

    python benchmarks/nnunet_prediction.py
    python benchmarks/nnunet_prediction.py --mirroring --rounds 1

A `PlainConvUNet` with random weights segments 256x256x128 voxels, which both get as an array: nnU-Net with its
predictor on the CPU, and miscnn_tf with the imported checkpoint, in float32 and, if the processor has it, in bfloat16.
With ``--mirroring`` each patch is predicted in 8 views, nnU-Net's default. Print one line of JSON: median seconds,
median ratios to nnU-Net over the rounds, peak memory of each process, and the share of equal labels.

Progress is printed to stderr. nnU-Net is installed into a separate environment in the first run, unless ``--python``
names one that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from rivals import Rival, python_with
from step import low_precisions

HERE = Path(__file__).parent
THEIRS = "nnU-Net"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--features", type=int, nargs="+", default=[16, 32, 64, 128], help="of each level (default: 16 32 64 128)"
    )
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 96, 96], help="(z, y, x) (default: 64 96 96)")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=[256, 256, 128], help="of the volume (default: 256 256 128)"
    )
    parser.add_argument("--classes", type=int, default=3, help="background included (default: 3)")
    parser.add_argument("--mirroring", action="store_true", help="predict 8 views of each patch")
    parser.add_argument("--rounds", type=int, default=2, help="number of rounds (default: 2)")
    parser.add_argument("--python", help="interpreter of an environment with nnunetv2 (default: it is made)")
    options = parser.parse_args()
    python = options.python or str(python_with("nnunetv2>=2.8"))
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        volume = Path(folder, "volume.npy")
        write_volume(volume, options.shape)
        case = json.dumps({"case": make_case(options), "model": f"{folder}/model"})
        subprocess.run([python, str(HERE / "nnunet_prediction_theirs.py"), case, "--make"], check=True)
        settings = {"model": f"{folder}/model", "volume": str(volume), "threads": threads, "precision": "float32"}
        sides = {
            THEIRS: ("nnunet_prediction_theirs.py", python, {}),
            "miscnn_tf float32": ("nnunet_prediction_ours.py", sys.executable, {}),
        }
        for low in low_precisions():
            ours = {"precision": f"mixed_{low}"}
            sides[f"miscnn_tf {low}"] = ("nnunet_prediction_ours.py", sys.executable, ours)
        running = {
            name: stack.enter_context(Rival(HERE / script, interpreter, {**settings, **own}))
            for name, (script, interpreter, own) in sides.items()
        }
        before = {name: program.peak_bytes() for name, program in running.items()}
        labels, times = {}, {name: [] for name in running}
        for number in range(options.rounds):
            for name, program in running.items():
                times[name].append(program.ask("predict", output=f"{folder}/labels.npy")["seconds"])
                labels[name] = np.load(f"{folder}/labels.npy")
                print(f"round {number + 1}: {name} took {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
        peaks = {name: program.peak_bytes() for name, program in running.items()}
        versions = {name: program.ready["version"] for name, program in running.items()}
    shown = ("features", "patch", "shape", "classes", "mirroring")
    report = {
        "seconds": {name: round(statistics.median(values), 1) for name, values in times.items()},
        "to_nnunet": {
            name: round(statistics.median(a / b for a, b in zip(values, times[THEIRS], strict=True)), 3)
            for name, values in times.items()
        },
        "peak_gb": {name: round(peak / 2**30, 2) for name, peak in peaks.items()},
        "peak_gb_of_prediction": {name: round((peak - before[name]) / 2**30, 2) for name, peak in peaks.items()},
        "same_labels": {name: round(float(np.mean(own == labels[THEIRS])), 6) for name, own in labels.items()},
    }
    facts = {**{name: getattr(options, name) for name in shown}, "threads": threads}
    print(json.dumps({"benchmark": "nnunet_prediction", **facts, **report, "versions": versions}))


def write_volume(path: Path, shape: list[int]) -> None:
    """Write a noisy ball, ``(x, y, z)``."""
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, size)) for size in shape)]
    ball = sum(axis**2 for axis in axes) < 0.5
    np.save(path, (ball + 0.3 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32))


def make_case(options: argparse.Namespace) -> dict[str, object]:
    """Return plans and dataset.json of a model for voxels of 1 mm."""
    levels = len(options.features)
    network = {
        "n_stages": levels,
        "features_per_stage": options.features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * levels,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (levels - 1)],
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": options.patch,
        "median_image_size_in_voxels": options.shape[::-1],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    names = {"background": 0, **{f"class {label}": label for label in range(1, options.classes)}}
    return {
        "plans": {
            "dataset_name": "Dataset001_Speed",
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"3d_fullres": configuration},
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {"0": {}},
        },
        "dataset": {"channel_names": {"0": "MRI"}, "labels": names, "numTraining": 1, "file_ending": ".nii.gz"},
        "mirroring": [0, 1, 2] if options.mirroring else [],
    }


if __name__ == "__main__":
    main()
