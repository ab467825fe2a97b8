"""A first configuration for a data set, from its fingerprint; and why each value was chosen.

The rules are simple forms of nnU-Net's (Isensee et al., "nnU-Net: a self-configuring method for deep learning-based
biomedical image segmentation", Nature Methods 2021): the voxel size is the median, the patch is as large as the memory
allows, what memory is left goes to the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from miscnn_tf.data_loading.geometry import resampled_shape
from miscnn_tf.planning.fingerprint import Fingerprint

#: Bytes that a step of training needs per voxel and filter of the first level, by the number of axes: measured with the
#: standard U-Net with instance normalisation in float32 (TensorFlow 2.21, 16 and 32 filters, depth 3 and 4).
BYTES_PER_VOXEL: Final = {2: 140, 3: 115}

#: One axis is that much coarser than the finest: thick slices.
ANISOTROPY: Final = 3.0

#: Below this, an image is a CT in Hounsfield units: air has -1000.
_AIR: Final = -500
_LARGEST_PATCH: Final = {2: 2048**2, 3: 256**3}
_DEEPEST: Final = 4
# Voxels that are left of an axis at the deepest level; a little less, as the patch is then rounded up.
_BOTTLENECK: Final = 3.5
_BATCH: Final = (2, 12)
_SHARE_OF_DATA: Final = 0.05
_SIDES: Final = re.compile(r"(?:^|[^a-z])(?:left|right|l|r)(?:[^a-z]|$)")


@dataclass(frozen=True)
class Machine:
    """What the training is planned for.

    Attributes:
        gpu: Whether there is a graphics processor.
        memory_gb: How much memory a step of training may take.
    """

    gpu: bool
    memory_gb: float

    @property
    def description(self) -> str:
        """For people."""
        return f"{'a GPU' if self.gpu else 'a CPU (no NVIDIA GPU was seen)'} with {self.memory_gb:g} GB for a step"


@dataclass(frozen=True)
class Choice:
    """A value, and why it was chosen."""

    value: Any
    reason: str


#: Tables of a configuration: for each key the choice.
Plan = dict[str, dict[str, Choice]]


def make_plan(fingerprint: Fingerprint, machine: Machine, class_names: Sequence[str]) -> Plan:
    """Propose a configuration, without the table ``[data]``.

    Args:
        fingerprint: The data set.
        machine: What it is trained on.
        class_names: Names of the classes, background first; left and right ones keep images from being mirrored.

    Returns:
        The choices.

    Example:
        >>> plan = make_plan(fingerprint, Machine(gpu=False, memory_gb=4), ["0", "1"])  # doctest: +SKIP
        >>> plan["preprocessing"]["patch_shape"].value  # doctest: +SKIP
        [40, 56, 40]
    """
    spacing, spacing_reason = plan_spacing(fingerprint)
    shape = fingerprint.median_shape
    if spacing is not None:
        shape = _median_resampled(fingerprint, spacing)
    thick = _thick_axis(spacing or fingerprint.median_spacing)
    filters = 32 if machine.gpu else 16
    patch, depth, patch_reason = plan_patch(shape, spacing or fingerprint.median_spacing, thick, filters, machine)
    batch, batch_reason = plan_batch(patch, filters, machine, fingerprint.cases * math.prod(shape))
    epochs, iterations = (100, 250) if machine.gpu else (50, 100)

    preprocessing: dict[str, Choice] = {}
    if is_ct(fingerprint):
        channel = fingerprint.intensities[0]
        preprocessing["clip"] = Choice(
            [_neat(channel.percentile_00_5), _neat(channel.percentile_99_5)],
            "this looks like CT in Hounsfield units; 99 % of what is segmented lies between these values",
        )
    if spacing is not None:
        preprocessing["spacing"] = Choice(list(spacing), spacing_reason)
    preprocessing["normalization"] = Choice("z-score", "each channel of each image: mean 0, deviation 1")
    preprocessing["analysis"] = Choice(
        "patchwise-crop", "random patches in training, all patches of a grid in prediction"
    )
    preprocessing["patch_shape"] = Choice(list(patch), patch_reason)
    preprocessing["overlap"] = Choice(
        [size // 2 for size in patch], "half of the patch; less is faster, and shows seams sooner"
    )
    sides = [name for name in class_names if _SIDES.search(name.lower())]
    mirror = Choice(True, "flips along all axes; false where it matters on which side something is")
    if sides:
        mirror = Choice(False, f"no flips: {sides[0]!r} says on which side it is, and a flipped image shows the other")
    augmentation = {"mirror": mirror}
    metrics: list[Any] = ["dice_soft"]
    if 2 < len(class_names) <= 8:
        metrics += [{"name": "ClassDice", "label": label} for label in range(1, len(class_names))]
    network = {
        "architecture": Choice(
            {
                "name": "unet_standard",
                "n_filters": filters,
                "depth": depth,
                "batch_normalization": False,
                "instance_normalization": True,
            },
            f"{filters} filters {'as usual' if machine.gpu else '(no GPU was seen here; take 32 with one)'}; "
            "depth: halvings, until the smallest axis has a few voxels; instance normalisation suits small batches",
        ),
        "loss": Choice("dice_crossentropy", "overlap and cross-entropy together: a good first choice"),
        "metrics": Choice(metrics, "shown in each epoch; ClassDice for one class, so that a rare one is seen"),
        "batch_size": Choice(batch, batch_reason),
        "learning_rate": Choice(0.001, "of Adam"),
        "schedule": Choice("polynomial", "down to 0 until the training ends"),
        "epochs": Choice(epochs, "how long to train; minutes = 60 besides it ends it after an hour at the latest"),
        "iterations": Choice(iterations, f"steps per epoch: {epochs * iterations} in all, more is slower and better"),
        "seed": Choice(0, "the same number, the same weights and patches"),
    }
    split = {"validation_share": Choice(0.2, "a fifth of the cases; add groups where a patient has several")}
    folds = {"k_fold": Choice(min(5, fingerprint.cases), "for 'miscnn-tf cross-validate'")}
    if fingerprint.cases < 2:
        split["validation_share"] = Choice(0, "there is a single case, and nothing to validate on")
        folds = {}
    plan = {"split": split, "preprocessing": preprocessing, "augmentation": augmentation, "network": network}
    return plan | ({"cross_validation": folds} if folds else {})


def is_ct(fingerprint: Fingerprint) -> bool:
    """Whether the images seem to be CT in Hounsfield units: one channel, in which air is far below 0."""
    return len(fingerprint.intensities) == 1 and fingerprint.intensities[0].least < _AIR


def plan_spacing(fingerprint: Fingerprint) -> tuple[tuple[float, ...] | None, str]:
    """The voxel size to resample to, and why; None where there is nothing to resample."""
    spacing = fingerprint.median_spacing
    if fingerprint.spacings is None or spacing is None:
        return None, "the files do not say how large a voxel is"
    every = np.array(fingerprint.spacings)
    if np.all(np.abs(every / np.array(spacing) - 1) < 0.01):
        return None, "all cases have the same voxel size"
    reason = "mm; the median of all cases"
    thick = _thick_axis(spacing)
    if thick is not None:
        # As nnU-Net does for thick slices: the median would throw away what the finer cases show.
        finer = float(np.percentile(every[:, thick], 10))
        finer = max(finer, min(size for axis, size in enumerate(spacing) if axis != thick))
        spacing = tuple(finer if axis == thick else size for axis, size in enumerate(spacing))
        reason = f"mm; the median of all cases; across the thick slices, axis {thick}, a tenth of them are finer"
    return tuple(_rounded_down(size) for size in spacing), reason


def plan_patch(
    shape: Sequence[int], spacing: Sequence[float] | None, thick: int | None, filters: int, machine: Machine
) -> tuple[tuple[int, ...], int, str]:
    """The patch, how often the network halves it, and why.

    It begins as a box of equal lengths in mm that is not larger than the image, and is made smaller along the axis that
    covers most of the image, until a step with two of them fits the memory.
    """
    axes = len(shape)
    lengths = np.array([1.0] * axes if spacing is None else spacing)
    cube = (_LARGEST_PATCH[axes] / np.prod(1 / lengths)) ** (1 / axes)
    begin = np.minimum(np.array(shape), np.maximum(1, np.round(cube / lengths)))
    depth = _depth(begin, thick)
    step = 2**depth
    patch = [math.ceil(size / step) * step for size in begin]
    smallest = [step * (1 if axis == thick else 2) for axis in range(axes)]
    while training_gb(patch, filters, _BATCH[0]) > machine.memory_gb:
        shares = [
            size / whole if size > least else 0.0 for size, whole, least in zip(patch, shape, smallest, strict=True)
        ]
        if not any(shares):
            break
        patch[int(np.argmax(shares))] -= step
    whole = all(size >= full for size, full in zip(patch, shape, strict=True))
    reason = f"voxels; each axis a multiple of {step}, for {depth} halvings in the network; " + (
        f"the median image, {_times(shape)}, fits in"
        if whole
        else f"of the median image, {_times(shape)}, as much as {machine.memory_gb:g} GB of memory allow"
    )
    return tuple(patch), depth, reason


def plan_batch(patch: Sequence[int], filters: int, machine: Machine, voxels_of_data: float) -> tuple[int, str]:
    """How many patches a step takes, and why."""
    fits = int(machine.memory_gb / training_gb(patch, filters, 1))
    enough = int(_SHARE_OF_DATA * voxels_of_data / math.prod(patch))
    batch = max(_BATCH[0], min(fits, enough, _BATCH[1]))
    needed = training_gb(patch, filters, batch)
    why = "no more than a twentieth of all voxels" if enough <= min(fits, _BATCH[1]) else "as the memory allows"
    if batch == _BATCH[1]:
        why = "more gain little"
    if batch == _BATCH[0]:
        why = "the least that trains steadily"
    return batch, f"patches per step: {why}; about {needed:.1f} GB in float32, half of it in half precision"


def training_gb(patch: Sequence[int], filters: int, batch: int) -> float:
    """What a step of training takes, GB: an estimate, for the standard U-Net in float32."""
    return BYTES_PER_VOXEL[len(patch)] * math.prod(patch) * filters * batch / 2**30


def to_tables(plan: Plan) -> dict[str, dict[str, Any]]:
    """The plan without its reasons: the tables of a configuration."""
    return {table: {key: choice.value for key, choice in choices.items()} for table, choices in plan.items()}


def _thick_axis(spacing: Sequence[float] | None) -> int | None:
    """The axis across thick slices, if there is one."""
    if spacing is None or len(spacing) < 3:
        return None
    coarsest = int(np.argmax(spacing))
    others = [size for axis, size in enumerate(spacing) if axis != coarsest]
    return coarsest if spacing[coarsest] >= ANISOTROPY * max(others) else None


def _median_resampled(fingerprint: Fingerprint, spacing: Sequence[float]) -> tuple[int, ...]:
    assert fingerprint.spacings is not None
    shapes = [
        resampled_shape(shape, old, spacing)
        for shape, old in zip(fingerprint.shapes, fingerprint.spacings, strict=True)
    ]
    return tuple(round(float(size)) for size in np.median(np.array(shapes), axis=0))


def _depth(patch: np.ndarray, thick: int | None) -> int:
    """How often it can be halved so that a few voxels remain of each axis; across thick slices one is enough."""
    within = [float(size) for axis, size in enumerate(patch) if axis != thick]
    depth = int(math.log2(max(1.0, min(within) / _BOTTLENECK)))
    return int(min(max(depth, 1), _DEEPEST))


def _neat(value: float) -> float:
    """Three or four digits: what lies behind is chance."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 10 else rounded


def _rounded_down(spacing: float) -> float:
    """Four digits, and no less than all voxels: a spacing that is a little too large would cost the last one."""
    digits = 3 - math.floor(math.log10(spacing))
    return math.floor(spacing * 10**digits + 1e-6) / 10**digits


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
