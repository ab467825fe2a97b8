"""nnU-Net in `loading.py`: data set, loader, transforms and worker processes, as in its trainer."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rivals
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

#: Maximum number of batches in the queues at the beginning of a round, which are not measured: six of the trainer, and
#: one per worker.
SKIPPED = 10
CACHED = 6
TURN = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def prepare(settings: dict[str, Any], folder: Path) -> None:
    """Write the samples like its preprocessing: z-scored float32, int8 labels, positions of the foreground."""
    folder.mkdir()
    for case in settings["cases"]:
        image, labels = (np.load(f"{settings['folder']}/{case}.{name}.npy")[np.newaxis] for name in ("image", "label"))
        image = (image - image.mean()) / max(float(image.std()), 1e-8)
        labels = labels.astype(np.int8)
        places = DefaultPreprocessor._sample_foreground_locations(labels, [1, 2])
        blocks, chunks = comp_blosc2_params(image.shape, settings["patch"], image.itemsize)
        blocks_seg, chunks_seg = comp_blosc2_params(labels.shape, settings["patch"], labels.itemsize)
        nnUNetDatasetBlosc2.save_case(
            image,
            labels,
            {"class_locations": places},
            str(folder / case),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_seg,
            blocks_seg=blocks_seg,
        )


def transforms(settings: dict[str, Any]) -> Any:
    """Return the transforms of its trainer, or those of the comparison ``alike`` in `loading.py`."""
    if settings["augmentation"] in ("default", "nnunet"):
        return nnUNetTrainer.get_training_transforms(
            settings["patch"], TURN, None, (0, 1, 2), False, use_mask_for_norm=[False], foreground_labels=[1, 2]
        )
    often = {"apply_probability": 0.2}
    each = {"synchronize_channels": False, "p_per_channel": 1}
    return ComposeTransforms(
        [
            SpatialTransform(
                settings["patch"],
                patch_center_dist_from_border=0,
                random_crop=False,
                p_elastic_deform=0,
                p_rotation=0.2,
                rotation=TURN,
                p_scaling=0.2,
                scaling=(0.7, 1.4),
                p_synchronize_scaling_across_axes=1,
                bg_style_seg_sampling=False,
                border_mode_seg="constant",
                padding_value_seg=-1,
            ),
            RandomTransform(MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), **each), **often),
            RandomTransform(ContrastTransform(BGContrast((0.75, 1.25)), preserve_range=True, **each), **often),
            RandomTransform(
                GammaTransform(BGContrast((0.7, 1.5)), p_invert_image=0, p_retain_stats=0, **each), **often
            ),
            RandomTransform(GaussianNoiseTransform((0, 0.05), p_per_channel=1, synchronize_channels=True), **often),
            MirrorTransform(allowed_axes=(0, 1, 2)),
            RemoveLabelTansform(-1, 0),
        ]
    )


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"]) / "nnunet"
    prepare(settings, folder)
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder)),
        settings["batch_size"],
        get_patch_size(settings["patch"], TURN, TURN, TURN, (0.85, 1.25)),
        settings["patch"],
        LabelManager({"background": 0, "anterior": 1, "posterior": 2}, None),
        oversample_foreground_percent=0.33,
        transforms=transforms(settings),
    )
    stream = NonDetMultiThreadedAugmenter(
        data_loader=loader,
        transform=None,
        num_processes=settings["workers"],
        num_cached=CACHED,
        seeds=None,
        pin_memory=False,
        wait_time=0.002,
    )

    shape = tuple(next(stream)["data"].shape)
    assert shape == (settings["batch_size"], 1, *settings["patch"]), shape
    rivals.serve_batches(stream, SKIPPED, version("nnunetv2"))
    stream._finish()


if __name__ == "__main__":
    main()
