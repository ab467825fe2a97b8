"""nnU-Net in `nnunet_prediction.py`: its predictor; with ``--make`` it writes the model."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from rivals import serve


def make(case: dict[str, Any], folder: Path) -> None:
    """Write the folder of a model with random weights."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(case["plans"]), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(case["dataset"]), encoding="utf-8")
    manager = PlansManager(case["plans"])
    configuration = manager.get_configuration("3d_fullres")
    torch.manual_seed(0)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(case["dataset"]["labels"]),
        deep_supervision=True,
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(case["mirroring"]) or None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def main() -> None:
    """Serve, or write the model."""
    settings = json.loads(sys.argv[1])
    if "--make" in sys.argv:
        make(settings["case"], Path(settings["model"]))
        return
    torch.set_num_threads(settings["threads"])
    predictor = nnUNetPredictor(device=torch.device("cpu"), verbose=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(settings["model"], (0,))
    predictor.use_mirroring = predictor.allowed_mirroring_axes is not None
    volume = np.load(settings["volume"]).T[np.newaxis]

    def predict(output: str) -> dict[str, Any]:
        begin = time.perf_counter()
        labels = predictor.predict_single_npy_array(volume, {"spacing": [1.0, 1.0, 1.0]})
        seconds = time.perf_counter() - begin
        np.save(output, labels.T)
        return {"seconds": seconds}

    serve({"version": f"nnunetv2 {version('nnunetv2')}"}, predict=predict)


if __name__ == "__main__":
    main()
