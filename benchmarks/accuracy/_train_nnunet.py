"""nnU-Net in `accuracy.py`: its planner, preprocessing, trainer and predictor, with a training that ends by the clock.

The configuration is 2d for images and 3d_fullres for volumes. All training samples are used (its fold "all"). Its
learning rate follows the share of the elapsed time instead of that of 1000 epochs. Its validation in each epoch, which
does not affect the final weights, is left out, so that the whole time is for steps.
"""

from __future__ import annotations

import os
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _rival_files import Run
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

CORES = len(os.sched_getaffinity(0))


class TimedTrainer(nnUNetTrainer):
    """Its trainer, with the time of a `Run` in place of epochs."""

    run: Run

    def run_training(self) -> None:
        """Train until the time is over, and save."""
        self.on_train_start()
        self.run.ended("preparing")
        self.network.train()
        for share in self.run.steps_of_time():
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            self.train_step(next(self.dataloader_train))
        self.run.ended("training")
        self.on_train_end()


def prepare(run: Run, configuration: str) -> TimedTrainer:
    """Plan and preprocess, and return the trainer."""
    raw, prepared = Path(run.settings["raw"]), run.output / "prepared"
    folders = {"nnUNet_raw": raw.parent, "nnUNet_preprocessed": prepared, "nnUNet_results": run.output / "results"}
    os.environ.update({name: str(folder) for name, folder in folders.items()})
    extract_fingerprints([1], num_processes=CORES, verbose=False, show_progress_bar=False)
    plan_experiments([1])
    preprocess([1], configurations=[configuration], num_processes=[CORES], show_progress_bar=False)
    plans: dict[str, Any] = load_json(str(prepared / raw.name / "nnUNetPlans.json"))
    plans["continue_training"] = False
    description = load_json(str(prepared / raw.name / "dataset.json"))
    trainer = TimedTrainer(plans, configuration, "all", description, device=torch.device("cpu"))
    trainer.run = run
    trainer.initialize()
    return trainer


def main() -> None:
    """Plan, train and predict."""
    run = Run()
    settings = run.settings
    torch.set_num_threads(CORES)
    random.seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002 (its loaders use it)
    torch.manual_seed(settings["seed"])
    trainer = prepare(run, "2d" if settings["ending"] == ".png" else "3d_fullres")
    trainer.run_training()

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    predictor.predict_from_files_sequential(settings["images"], str(run.output / "predictions"))
    run.ended("predicting")
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    run.finish(
        f"nnU-Net {version('nnunetv2')}",
        patch=[int(size) for size in trainer.configuration_manager.patch_size],
        batch=int(trainer.batch_size),
        weights=weights,
    )


if __name__ == "__main__":
    main()
