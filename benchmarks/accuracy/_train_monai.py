"""MONAI in `accuracy.py`: a plain U-Net with its transforms, loss and sliding window, in 2D and 3D.

16 filters and three halvings, two convolutions per level with instance normalisation (its DynUNet without residual
blocks), Dice + cross-entropy, Adam with 1e-3 and polynomial decay, batches of 4 patches, flips and changes of
intensity, Gaussian sliding window with half overlap, float32. Volumes get one orientation and the median voxel size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import monai
import numpy as np
import torch
from _rival_files import Run, normalised, read
from monai import transforms
from monai.data import CacheDataset, MetaTensor, ThreadDataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet

FILTERS = (16, 32, 64, 128)
BATCH = 4
#: Largest patch along an axis by number of axes.
LARGEST = {2: 256, 3: 64}


class Shuffled(torch.utils.data.Sampler[int]):
    """Endless order of samples, in which each comes once before any comes again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        """Yield numbers of samples."""
        while True:
            yield from torch.randperm(self.count).tolist()


def main() -> None:
    """Train and predict."""
    run = Run()
    settings = run.settings
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    monai.utils.set_determinism(settings["seed"])
    files = run.training_files()
    axes = 2 if settings["ending"] == ".png" else 3

    def load(sample: dict[str, Any]) -> dict[str, Any]:
        image, affine = read(sample["images"])
        loaded: dict[str, Any] = {
            "image": MetaTensor(torch.from_numpy(normalised(image, settings["window"])), affine=torch.tensor(affine))
        }
        if "labels" in sample:
            labels, _ = read([sample["labels"]])
            loaded["labels"] = MetaTensor(torch.from_numpy(labels), affine=torch.tensor(affine))
        return loaded

    keys = ("image", "labels")
    prepare: Any = transforms.Compose([])
    if axes == 3:
        oriented = [transforms.Orientation("RAS")(load(sample)["image"]) for sample in files]
        spacing = np.median([image.pixdim for image in oriented], axis=0)
        steps = [
            transforms.Orientationd(keys, axcodes="RAS", allow_missing_keys=True),
            transforms.Spacingd(keys, pixdim=spacing, mode=("bilinear", "nearest"), allow_missing_keys=True),
        ]
        prepare = transforms.Compose(steps)
    prepared = [prepare(load(sample)) for sample in files]
    median = np.median([sample["image"].shape[1:] for sample in prepared], axis=0)
    patch = [min(LARGEST[axes], 8 * int(np.ceil(size / 8))) for size in median]
    augment = transforms.Compose(
        [
            transforms.SpatialPadd(keys, patch),
            transforms.RandCropByPosNegLabeld(keys, "labels", patch, pos=1, neg=1, num_samples=1),
            *[transforms.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(axes)],
            transforms.RandScaleIntensityd("image", factors=0.1, prob=0.5),
            transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
    )
    augment.set_random_state(settings["seed"])
    loader = ThreadDataLoader(
        CacheDataset(prepared, augment, cache_rate=0, progress=False),  # prepared samples are in memory
        batch_size=BATCH,
        sampler=Shuffled(len(prepared)),
        num_workers=0,
        collate_fn=list_data_collate,
    )
    halvings = (1, 2, 2, 2)
    network = DynUNet(axes, settings["channels"], settings["classes"], (3,) * 4, halvings, halvings[1:], FILTERS)
    compute_loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    run.ended("preparing")

    network.train()
    batches = iter(loader)
    for share in run.steps_of_time():
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - share) ** 0.9
        batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss = compute_loss(network(batch["image"].as_tensor()), batch["labels"].as_tensor())
        loss.backward()
        optimizer.step()
    run.ended("training")

    network.eval()
    for sample in run.images():
        loaded = prepare(load(sample))
        image = loaded["image"]
        with torch.inference_mode():
            logits = sliding_window_inference(image.as_tensor()[None], patch, 1, network, 0.5, mode="gaussian")
        loaded["probabilities"] = MetaTensor(torch.softmax(logits[0], 0), affine=image.affine)
        if axes == 3:
            undo = transforms.Invertd("probabilities", prepare, orig_keys="image", nearest_interp=False, to_tensor=True)
            loaded = undo(loaded)
        _, affine = read(sample["images"])
        run.write(sample["name"], loaded["probabilities"].argmax(0).numpy(), affine)
    run.ended("predicting")
    weights = sum(parameter.numel() for parameter in network.parameters())
    run.finish(f"MONAI {monai.__version__}", patch=patch, batch=BATCH, weights=weights)
    os._exit(0)  # the loader's thread would go on with its endless order


if __name__ == "__main__":
    main()
