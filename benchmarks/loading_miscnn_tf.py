"""miscnn_tf in `loading.py`: the dataset that ``fit`` reads."""

from __future__ import annotations

import json
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import rivals

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.neural_network.data_generator import DataGenerator, Feed
from miscnn_tf.processing.subfunctions import Normalization

#: Number of batches in the queue at the beginning of a round, which are not measured.
SKIPPED = 8


def augmentation(name: str) -> miscnn_tf.Data_Augmentation:
    """Return the augmentation of a comparison in `loading.py`."""
    if name == "default":
        return miscnn_tf.Data_Augmentation()
    if name == "nnunet":
        return miscnn_tf.NnUNetAugmentation()
    turn = (-math.radians(30), math.radians(30))
    return miscnn_tf.Data_Augmentation(
        mirror=True,
        config_p_per_sample=0.2,
        config_rotations_angleX=turn,
        config_rotations_angleY=turn,
        config_rotations_angleZ=turn,
        config_scaling_range=(0.7, 1.4),
        config_brightness_range=(0.75, 1.25),
        config_contrast_range=(0.75, 1.25),
    )


def main() -> None:
    """Serve."""
    settings = json.loads(sys.argv[1])
    interface = NIFTI_interface(channels=1, classes=3)
    io = miscnn_tf.Data_IO(interface, f"{settings['data']}/cases", batch_path=f"{settings['folder']}/batches")
    preprocessor = miscnn_tf.Preprocessor(
        io,
        batch_size=settings["batch_size"],
        subfunctions=[Normalization(mode="z-score")],
        data_aug=augmentation(settings["augmentation"]),
        patch_shape=tuple(settings["patch"]),
        seed=0,
    )
    preprocessor.run_subfunctions(settings["cases"])
    generator = DataGenerator(settings["cases"], preprocessor, training=True, shuffle=True, labels=True)
    feed = Feed(generator, range(1_000_000), settings["workers"], queue_size=2)
    stream = iter(feed.dataset)

    rivals.serve_batches(stream, SKIPPED, miscnn_tf.__version__)
    feed.close()


if __name__ == "__main__":
    main()
