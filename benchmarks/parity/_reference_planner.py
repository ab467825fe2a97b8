"""Plans of nnU-Net's own planners, run in its environment: fingerprints as JSON on stdin, plans as JSON on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

_FOLDER = tempfile.TemporaryDirectory()
for _name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[_name] = str(Path(_FOLDER.name) / _name)

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (  # noqa: E402
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

_PLANNERS = {
    "plain": ExperimentPlanner,
    "residual_M": nnUNetPlannerResEncM,
    "residual_L": nnUNetPlannerResEncL,
    "residual_XL": nnUNetPlannerResEncXL,
}


def main() -> None:
    """Plan each data set."""
    with contextlib.redirect_stdout(sys.stderr):
        plans = [planned(number, one) for number, one in enumerate(json.load(sys.stdin), start=1)]
    json.dump(plans, sys.stdout)


def planned(number: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return the plans for a data set of which only the fingerprint exists."""
    name = f"Dataset{number:03d}_Any"
    raw, prepared = (Path(os.environ[which]) / name for which in ("nnUNet_raw", "nnUNet_preprocessed"))
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    prepared.mkdir(parents=True)
    channels = {str(channel): kind for channel, kind in enumerate(given["channels"])}
    dataset = {
        "channel_names": channels,
        "labels": {"background": 0, **{f"class {label}": label for label in range(1, given["classes"])}},
        "numTraining": len(given["shapes"]),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    for channel in channels:
        (raw / "imagesTr" / f"case_{int(channel):04d}.nii.gz").touch()
    (raw / "labelsTr" / "case.nii.gz").touch()
    statistics = {"mean": 0, "median": 0, "std": 1, "min": 0, "max": 1, "percentile_99_5": 1, "percentile_00_5": 0}
    fingerprint = {
        "spacings": given["spacings"],
        "shapes_after_crop": given["shapes"],
        "foreground_intensity_properties_per_channel": dict.fromkeys(channels, statistics),
        "median_relative_size_after_cropping": given["cropped"],
    }
    (prepared / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    planner = _PLANNERS[given["preset"]](number, given["memory_gb"])
    plans: dict[str, Any] = planner.plan_experiment()
    # The cascade only names the configuration that it inherits from.
    manager = PlansManager(plans)
    own = {name: manager.get_configuration(name).configuration for name in plans["configurations"]}
    return {**plans, "configurations": own}


if __name__ == "__main__":
    main()
