"""Speed of the augmentation compared with batchgenerators' transforms, measured in alternation.

    python benchmarks/augmentation.py

Each transform is applied to a patch of 40x56x40 voxels of noise, with new parameters in each round, the same for both:
miscnn_tf, and batchgenerators' functions with ``order_data=3``, their default, on the patch with the margin that
miscnn_tf reads. Print one line of JSON: median milliseconds of both, and the median over the rounds of the time of
batchgenerators relative to miscnn_tf.

``orders`` compares orders of interpolation: the time of rotating the patch with SciPy relative to cubic splines, and
the difference from cubic splines relative to the standard deviation, for a smooth image (white noise filtered by a
Gaussian of 1.5 voxels).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from batchgenerators.augmentations import color_augmentations, noise_augmentations
from batchgenerators.augmentations.spatial_transformations import augment_mirroring, augment_spatial
from batchgenerators.augmentations.utils import rotate_coords_3d
from scipy import ndimage

from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Gamma, Noise
from miscnn_tf.processing.augmentation.plan import Augmentation
from miscnn_tf.processing.augmentation.spatial import Elastic, Spatial

PATCH = (40, 56, 40)
EDGE = 40  # voxels around the patch
Pair = tuple[Callable[[], Any], Callable[[], Any]]


def spatial(volume: np.ndarray, labels: np.ndarray, **what: Any) -> Pair:
    """Return both versions of a spatial transform: miscnn_tf reads its region, batchgenerators gets the volume."""
    plan = Augmentation(PATCH, spatial=Spatial(PATCH, what.get("angles"), what.get("scale"), what.get("elastic")))
    start, shape = plan.region(PATCH)
    region = tuple(slice(EDGE + first, EDGE + first + size) for first, size in zip(start, shape, strict=True))
    angles, scale, elastic = what.get("angles"), what.get("scale"), what.get("elastic")
    options: dict[str, Any] = {
        "do_elastic_deform": elastic is not None,
        "do_rotation": angles is not None,
        "do_scale": scale is not None,
        "random_crop": False,
        "order_data": 3,
    }
    if elastic is not None:
        options |= {"alpha": (elastic.alpha,) * 2, "sigma": (elastic.sigma,) * 2}
    if angles is not None:
        options |= {f"angle_{axis}": (angle, angle) for axis, angle in zip("xyz", angles, strict=True)}
    if scale is not None:
        options["scale"] = (scale, scale)
    theirs = volume[region][np.newaxis, np.newaxis], labels[region][np.newaxis, np.newaxis]

    def ours() -> Any:
        # Including the random numbers of the field, which batchgenerators also draws in its function.
        again = Augmentation(PATCH, spatial=Spatial(PATCH, angles, scale, elastic))
        return again.apply(volume[region][..., np.newaxis], labels[region], PATCH)

    return ours, lambda: augment_spatial(*theirs, PATCH, **options)


def intensity(volume: np.ndarray, transform: Any, function: Callable[..., Any], **options: Any) -> Pair:
    """Return both versions of an intensity transform, each on a copy of the patch."""
    patch = volume[tuple(slice(EDGE, EDGE + size) for size in PATCH)]
    return (
        lambda: transform(patch[..., np.newaxis].copy()),
        lambda: function(patch[np.newaxis].copy(), **options),
    )


def pairs(rng: np.random.Generator, volume: np.ndarray, labels: np.ndarray) -> dict[str, Pair]:
    """Return both versions of each transform, with random parameters."""
    turn = math.radians(15)
    angles = tuple(rng.uniform(-turn, turn, 3).tolist())
    scale, factor = float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.5, 2))
    elastic = Elastic(float(rng.uniform(100, 900)), float(rng.uniform(9, 13)), int(rng.integers(2**31)))
    patch = tuple(slice(EDGE, EDGE + size) for size in PATCH)
    mirror = Augmentation(PATCH, mirror=(0, 1, 2))
    return {
        "rotation": spatial(volume, labels, angles=angles),
        "scaling": spatial(volume, labels, scale=scale),
        "rotation and scaling": spatial(volume, labels, angles=angles, scale=scale),
        "deformation, rotation and scaling": spatial(volume, labels, angles=angles, scale=scale, elastic=elastic),
        # A flip is a view; its cost is the copy into the batch.
        "mirror": (
            lambda: [np.array(part) for part in mirror.apply(volume[patch][..., np.newaxis], labels[patch], PATCH)],
            lambda: augment_mirroring(volume[patch][np.newaxis].copy(), labels[patch][np.newaxis].copy()),
        ),
        "brightness": intensity(
            volume,
            Brightness((factor,)),
            color_augmentations.augment_brightness_multiplicative,
            multiplier_range=(factor, factor),
        ),
        "contrast": intensity(
            volume, Contrast((factor,)), color_augmentations.augment_contrast, contrast_range=(factor, factor)
        ),
        "gamma": intensity(
            volume,
            Gamma((factor,)),
            color_augmentations.augment_gamma,
            gamma_range=(factor, factor),
            per_channel=True,
        ),
        "noise": intensity(
            volume,
            Noise(0.05, int(rng.integers(2**31))),
            noise_augmentations.augment_gaussian_noise,
            noise_variance=(0.05, 0.05),
        ),
    }


def milliseconds(work: Callable[[], Any]) -> float:
    """Measure the time of one call in milliseconds."""
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def orders(rounds: int) -> dict[str, Any]:
    """Compare times and results of other orders with cubic splines."""
    rng = np.random.default_rng(1)
    image = ndimage.gaussian_filter(rng.normal(size=[size + 2 * EDGE for size in PATCH]), 1.5).astype(np.float32)
    matrix = rotate_coords_3d(np.eye(3), 0.2, -0.15, 0.1)
    offset = (np.array(image.shape) - 1) / 2 - matrix @ ((np.array(PATCH) - 1) / 2)
    splines = {order: image if order < 2 else ndimage.spline_filter(image, order, np.float32) for order in (1, 2, 3)}
    results: dict[int, np.ndarray] = {}
    times: dict[int, list[float]] = {order: [] for order in splines}
    for _ in range(rounds):
        for order, spline in splines.items():

            def turn(order: int = order, spline: np.ndarray = spline) -> None:
                results[order] = ndimage.affine_transform(
                    spline, matrix, offset, PATCH, np.float32, order, "nearest", prefilter=False
                )

            times[order].append(milliseconds(turn))
    return {
        str(order): {
            "time": round(statistics.median(a / b for a, b in zip(times[order], times[3], strict=True)), 2),
            "difference": round(float(np.sqrt(np.mean((results[order] - results[3]) ** 2)) / results[3].std()), 4),
        }
        for order in splines
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="number of rounds (default: 25)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    volume = rng.normal(size=[size + 2 * EDGE for size in PATCH]).astype(np.float32)
    labels = (volume > 0.5).astype(np.uint8)
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, (one, other) in pairs(rng, volume, labels).items():
            ours.setdefault(name, []).append(milliseconds(one))
            theirs.setdefault(name, []).append(milliseconds(other))
    report = {
        name: {
            "ms": round(statistics.median(ours[name]), 2),
            "batchgenerators_ms": round(statistics.median(theirs[name]), 2),
            "ratio": round(statistics.median(b / a for a, b in zip(ours[name], theirs[name], strict=True)), 2),
        }
        for name in ours
    }
    print(json.dumps({"benchmark": "augmentation", "transforms": report, "orders": orders(options.rounds)}))


if __name__ == "__main__":
    main()
