"""MONAI in `loading.py`: cached volumes, random crops, affine and intensity transforms, worker processes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import monai
import rivals
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    FgBgToIndicesd,
    LoadImaged,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    SelectItemsd,
    SpatialPadd,
)

#: Maximum number of batches in the queues at the beginning of a round, which are not measured: two per worker, and
#: those in progress.
SKIPPED = 8


def transforms(patch: list[int]) -> Compose:
    """Return the transforms of the comparison ``alike`` in `loading.py`."""
    both, turn = ("image", "label"), math.radians(30)
    return Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd(both, channel_dim="no_channel"),
            NormalizeIntensityd("image"),
            SpatialPadd(both, patch),
            FgBgToIndicesd("label"),  # the last cached transform
            RandCropByPosNegLabeld(
                both,
                "label",
                patch,
                pos=1,
                neg=2,
                num_samples=1,
                fg_indices_key="label_fg_indices",
                bg_indices_key="label_bg_indices",
            ),
            SelectItemsd(both),
            RandAffined(
                both,
                spatial_size=patch,
                cache_grid=True,
                prob=1 - 0.8 * 0.8,
                rotate_range=(turn,) * 3,
                scale_range=((-0.3, 0.4),) * 3,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd("image", factors=0.25, prob=0.2),
            RandScaleIntensityFixedMeand("image", factors=0.25, preserve_range=True, prob=0.2),
            RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5)),
            RandGaussianNoised("image", prob=0.2, std=0.05),
        ]
    )


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    files = [
        {name: f"{settings['folder']}/{case}.{name}.npy" for name in ("image", "label")} for case in settings["cases"]
    ]
    loader = DataLoader(
        CacheDataset(files, transforms(settings["patch"]), progress=False),
        batch_size=settings["batch_size"],
        shuffle=True,
        drop_last=True,
        num_workers=settings["workers"],
        persistent_workers=True,
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()

    shape = tuple(next(stream)["image"].shape)
    assert shape == (settings["batch_size"], 1, *settings["patch"]), shape
    rivals.serve_batches(stream, SKIPPED, monai.__version__)


if __name__ == "__main__":
    main()
