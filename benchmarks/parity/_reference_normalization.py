"""Normalisation and cropping of nnU-Net, run in its environment: ``python … IN.npz OUT.npz``."""

from __future__ import annotations

import sys

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    CTNormalization,
    NoNormalization,
    RescaleTo01Normalization,
    RGBTo01Normalization,
    ZScoreNormalization,
)

given = np.load(sys.argv[1])
image, low, high, mean, deviation = given["image"], *map(float, given["statistics"])
properties = {"mean": mean, "std": deviation, "percentile_00_5": low, "percentile_99_5": high}
results = {}
cropped, mask, box = crop_to_nonzero(image)
results["cropped"], results["box"] = cropped, np.array(box)
for name, scheme, masked in (
    ("ct", CTNormalization, False),
    ("none", NoNormalization, False),
    ("minmax", RescaleTo01Normalization, False),
    ("z-score", ZScoreNormalization, False),
    ("z-score in the mask", ZScoreNormalization, True),
):
    normalization = scheme(masked, properties)
    results[name] = np.stack([normalization.run(channel.copy(), mask[0]) for channel in cropped])
results["rgb"] = RGBTo01Normalization(False, properties).run(given["photograph"].copy())
np.savez(sys.argv[2], **results)
