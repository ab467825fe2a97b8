"""Augmentation beside nnU-Net's: results with given values, distributions of the draws, and the order."""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Comparison
from scipy import stats

from miscnn_tf.processing.augmentation.drawn_augmentation import Augmentation
from miscnn_tf.processing.augmentation.intensity import Brightness, Contrast, Noise
from miscnn_tf.processing.augmentation.linear_spatial import LinearSpatial
from miscnn_tf.processing.augmentation.nnunet_intensity import Blur, KeptGamma, LowResolution
from miscnn_tf.processing.nnunet_augmentation import NnUNetAugmentation

DRAWS = 4000
#: In nnU-Net's order of axes, (z, y, x); 0 for the third axis of 2D patches.
PATCHES = ((24, 20, 28), (6, 24, 20), (24, 20, 0), (40, 20, 0))
NAMES: dict[type, str] = {
    Noise: "GaussianNoiseTransform",
    Blur: "GaussianBlurTransform",
    Brightness: "MultiplicativeBrightnessTransform",
    Contrast: "ContrastTransform",
    LowResolution: "SimulateLowResolutionTransform",
    KeptGamma: "GammaTransform",
}
#: A difference of this many standard deviations has a probability below 1e-6.
DEVIATIONS = 5.0


def compare(python: str) -> list[Comparison]:
    """Compare each transform with given values, and what is drawn for four shapes of patches.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {
        "draws": DRAWS,
        "patches": np.array(PATCHES),
        "factors": np.array([0.76, 1.24], np.float32),
        "exponents": np.array([0.71, 1.45], np.float32),
    }
    for name, shape in (("2D", (30, 23)), ("3D", (20, 15, 24))):
        given[f"{name}.image"] = rng.normal(0.5, 2, (2, *shape)).astype(np.float32)
        given[f"{name}.sigmas"] = rng.uniform(0.5, 1, (2, len(shape)))
        factors = [(0.5, 0.99), (0.613, 0.75), (0.83, 0.9)]
        given[f"{name}.scales"] = np.array([[[one] * len(shape) for one in pair] for pair in factors], np.float32)
    # Without points exactly between two voxels: there, rounding in float32 decides which one is the nearest.
    transforms = {
        "3D, three angles": LinearSpatial((16, 14, 12), (0.4, -0.3, 0.2), 1.3),
        "3D, one angle": LinearSpatial((15, 14, 12), (0.0, 0.5, 0.0), 0.83),
        "3D, scaling": LinearSpatial((16, 14, 12), (), 0.75),
        "2D, one angle": LinearSpatial((22, 17), (2.6,), 0.9),
        "within slices": LinearSpatial((22, 17, 4), (1.1,), 1.2, slices_along=2),
    }
    given["spatial"] = np.array(list(transforms))
    for name, transform in transforms.items():
        given |= _spatial_case(name, transform, rng)
    with tempfile.TemporaryDirectory() as folder:
        source, done = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **given)
        reference = Path(__file__).with_name("_reference_augmentation.py")
        subprocess.run([python, str(reference), str(source), str(done)], check=True)
        theirs = dict(np.load(done))
    found = _values(given, theirs)
    for name, transform in transforms.items():
        found += _moved(name, transform, given, theirs)
    for number, patch in enumerate(PATCHES):
        shape = tuple(size for size in patch[::-1] if size)
        drawn = {
            key.removeprefix(f"{number}.drawn."): value
            for key, value in theirs.items()
            if key.startswith(f"{number}.drawn.")
        }
        found += _draws(shape, drawn)
        limit, flat = theirs[f"{number}.choice"]
        ours = NnUNetAugmentation()
        wrong = abs(ours.rotation_limit(shape) - limit) + abs((ours.slice_axis(shape) is not None) - flat)
        found.append(Comparison(f"rotation and slices of {shape}", float(wrong), 1e-12))
    return [*found, _order(list(theirs["order"]))]


def _reversed(image: np.ndarray) -> np.ndarray:
    """Convert between ``(x, y[, z])`` and ``([z, ]y, x)``."""
    return image.transpose()


def _values(given: dict[str, Any], theirs: dict[str, np.ndarray]) -> list[Comparison]:
    cases: dict[str, Callable[[str], Any]] = {
        "blur": lambda axes: Blur(tuple(tuple(one[::-1]) for one in given[f"{axes}.sigmas"].tolist())),
        "contrast": lambda axes: Contrast(tuple(given["factors"].tolist())),
        "gamma False": lambda axes: KeptGamma(tuple(given["exponents"].tolist())),
        "gamma True": lambda axes: KeptGamma(tuple(given["exponents"].tolist()), invert=True),
    }
    for number in range(3):
        cases[f"low resolution {number}"] = lambda axes, number=number: LowResolution(
            tuple(map(tuple, given[f"{axes}.scales"][number].tolist()))
        )
    found = []
    for axes in ("2D", "3D"):
        for name, make in cases.items():
            image = np.ascontiguousarray(_reversed(given[f"{axes}.image"]))
            make(axes)(image)
            if name == "blur":
                expected = np.stack([_reversed(theirs[f"{axes}.blur {channel}"]) for channel in range(2)], axis=-1)
            else:
                expected = _reversed(theirs[f"{axes}.{name}"])
            difference = np.abs(image - expected).max()
            found.append(Comparison(f"{name}, {axes}", float(difference), 1e-5))
    return found


def _spatial_case(name: str, transform: LinearSpatial, rng: np.random.Generator) -> dict[str, Any]:
    """Return a region of random voxels and blocks of labels, as nnU-Net's function gets it."""
    _, shape = transform.region()
    labels = rng.integers(0, 4, [-(-size // 3) for size in shape]).repeat(3, 0).repeat(3, 1)
    labels = labels.repeat(3, 2) if len(shape) == 3 else labels
    labels = np.ascontiguousarray(labels[tuple(map(slice, shape))]).astype(np.int16)
    image = rng.normal(size=shape).astype(np.float32)
    across = transform.slices_along
    patch = transform.patch_shape
    if across is not None:
        # nnU-Net makes channels of the slices.
        inner = slice(1, -1)
        image, labels, patch = image[..., inner], labels[..., inner], patch[:-1]
    # Reversing the axes reverses the sense of all rotations.
    angles = [-angle for angle in transform.angles[::-1]] or [0.0] * len(patch)
    first = (slice(None),) if across is not None else (np.newaxis,)
    return {
        f"{name}.image": np.ascontiguousarray(_reversed(image)[first]),
        f"{name}.labels": np.ascontiguousarray(_reversed(labels)[first]),
        f"{name}.patch": np.array(patch[::-1]),
        f"{name}.angles": np.array(angles),
        f"{name}.scale": transform.scale,
    }


def _moved(
    name: str, transform: LinearSpatial, given: dict[str, Any], theirs: dict[str, np.ndarray]
) -> list[Comparison]:
    image, labels = (given[f"{name}.{what}"] for what in ("image", "labels"))
    expected, expected_labels = (theirs[f"{name}.{what}"] for what in ("image", "labels"))
    if transform.slices_along is None:
        image, labels, expected, expected_labels = (one[0] for one in (image, labels, expected, expected_labels))
        region, label_region = _reversed(image), _reversed(labels)
    else:
        rim = [(0, 0), (0, 0), (1, 1)]
        region, label_region = np.pad(_reversed(image), rim), np.pad(_reversed(labels), rim)
    moved = transform.image(region[..., np.newaxis])[..., 0]
    other = transform.labels(label_region) != _reversed(expected_labels)
    return [
        Comparison(f"rotation and scaling, {name}: image", float(np.abs(moved - _reversed(expected)).max()), 1e-4),
        Comparison(f"rotation and scaling, {name}: share of other labels", float(other.mean()), 1e-3),
    ]


def _draws(shape: tuple[int, ...], theirs: dict[str, np.ndarray]) -> list[Comparison]:
    augmentation, rng = NnUNetAugmentation(), np.random.default_rng(1)
    ours: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        _record(augmentation.draw(rng, shape, 2), ours)
    if set(ours) != set(theirs):
        raise AssertionError(f"{shape}: ours draws {sorted(ours)}, nnU-Net {sorted(theirs)}")
    found, worst = [], ("", 0.0)
    for name, expected in theirs.items():
        mine = np.array(ours[name])
        # Counts of events differ by at most a deviation of sqrt(count + count); several values come together.
        deviation = abs(len(mine) - len(expected)) / math.sqrt(len(mine) + len(expected))
        values_per_event = {"GaussianBlurTransform": 2 * len(shape)}.get(name, 2)
        worst = max(worst, (name, deviation / math.sqrt(values_per_event)), key=lambda one: one[1])
        if np.ptp(expected) > 0:
            surprise = -math.log10(max(stats.ks_2samp(mine, expected).pvalue, 1e-300))
            found.append(Comparison(f"{name} drawn for {shape}: -log10(p) of Kolmogorov-Smirnov", surprise, 4.0))
    return [*found, Comparison(f"frequencies for {shape}, in deviations; most: {worst[0]}", worst[1], DEVIATIONS)]


def _record(drawn: Augmentation, found: dict[str, list[float]]) -> None:
    def add(name: str, *values: float) -> None:
        found.setdefault(name, []).extend(values)

    spatial = drawn.spatial
    if isinstance(spatial, LinearSpatial):
        turned = [axis for axis in range(len(spatial.patch_shape)) if axis != spatial.slices_along]
        matrix = spatial.matrix[np.ix_(turned, turned)] / spatial.scale
        if spatial.angles:
            add("rotation", float(np.trace(matrix)))
            if len(turned) == 3:
                # Reversed axes: this entry is nnU-Net's [0, 1].
                add("rotation, one entry", float(matrix[2, 1]))
        if spatial.scale != 1:
            add("scaling", spatial.scale)
    for axis in drawn.mirror:
        add(f"mirror {len(drawn.patch_shape) - 1 - axis}", 1)
    for one in drawn.intensity:
        name = NAMES[type(one)]
        match one:
            case Noise(sigma=sigma):
                values = [sigma]
            case Blur(sigmas=sigmas):
                values = [value for each in sigmas if each for value in each]
            case LowResolution(scales=scales):
                values = [min(each) for each in scales if each]
            case KeptGamma(exponents=exponents, invert=invert):
                name, values = f"{name} {invert}", list(exponents)
            case Brightness(factors=factors) | Contrast(factors=factors):
                values = list(factors)
        add(f"{name} happens", 1)
        if values:
            add(name, *values)


def _order(theirs: list[str]) -> Comparison:
    """Compare the order in which the transforms are applied."""
    augmentation, rng = NnUNetAugmentation(), np.random.default_rng(2)
    before: dict[tuple[str, bool], set[tuple[str, bool]]] = {}
    for _ in range(DRAWS):
        drawn = [
            (NAMES[type(one)], isinstance(one, KeptGamma) and one.invert)
            for one in augmentation.draw(rng, (8, 8, 8), 1).intensity
        ]
        for number, one in enumerate(drawn):
            before.setdefault(one, set()).update(drawn[:number])
    intensity = [name for name, _ in sorted(before, key=lambda one: len(before[one]))]
    # `Augmentation` applies the spatial transform first, and with `mirror_last` the mirror last. The last transform of
    # nnU-Net makes voxels outside of the image background, which ours are at once.
    ours = ["SpatialTransform", *intensity, "MirrorTransform", "RemoveLabelTransform"]
    return Comparison("order of the transforms", float(ours != theirs), 0)


if __name__ == "__main__":
    import sys

    for comparison in compare(sys.argv[1]):
        print(comparison.line)
