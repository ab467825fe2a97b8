"""Proposal of a configuration for a data set from its fingerprint, with a reason for each value.

The rules are simplified from nnU-Net (Isensee et al., "nnU-Net: a self-configuring method for deep learning-based
biomedical image segmentation", Nature Methods 2021): the voxel size is the median, the patch is as large as the memory
allows, and the batch uses the remaining memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from miscnn_tf._machine.processor import has_nvidia_driver
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf.data_loading.geometry import resampled_shape
from miscnn_tf.experiment.fingerprint import Fingerprint

#: Bytes that a training step needs per voxel and filter of the first level, by the number of axes. Measured with the
#: standard U-Net with instance normalisation in float32 (TensorFlow 2.21, 16 and 32 filters, depth 3 and 4).
BYTES_PER_VOXEL: Final = {2: 140, 3: 115}

#: Ratio of the coarsest to the second coarsest voxel size from which slices are thick.
ANISOTROPY: Final = 3.0

#: Images with values below it are CT in Hounsfield units, where air has -1000.
_AIR: Final = -500
_LARGEST_PATCH: Final = {2: 2048**2, 3: 256**3}
_DEEPEST: Final = 4
# Minimum size of an axis at the deepest level; not 4, because the patch is then rounded up.
_BOTTLENECK: Final = 3.5
_BATCH: Final = (2, 12)
_SHARE_OF_DATA: Final = 0.05
# Steps of an epoch of a training with a time limit.
_STEPS_PER_MINUTE: Final = 5
_FEWEST_STEPS: Final = 10
# Memory for a training step in GB, if unknown: most GPUs have 8.
_GPU_GB: Final = 8.0
_CPU_GB: Final = 4.0
_SIDES: Final = re.compile(r"(?:^|[^a-z])(?:left|right|l|r)(?:[^a-z]|$)")


@dataclass(frozen=True)
class Machine:
    """Hardware for which a training is planned.

    Attributes:
        gpu: True if there is a GPU.
        memory_gb: Memory for a training step, in GB.
    """

    gpu: bool
    memory_gb: float

    @property
    def description(self) -> str:
        """Text for users."""
        return (
            f"{'a GPU' if self.gpu else 'a CPU (no NVIDIA GPU found)'} with {self.memory_gb:g} GB for a training step"
        )


def this_machine(memory_gb: float | None = None) -> Machine:
    """Describe this machine, without TensorFlow.

    Args:
        memory_gb: Memory for a training step. None: 8 GB with an NVIDIA GPU, otherwise 4 GB or half of the machine's
            memory, whichever is less.
    """
    gpu = has_nvidia_driver()
    if memory_gb is None:
        total = system_memory().total
        memory_gb = _GPU_GB if gpu else _CPU_GB if total is None else min(_CPU_GB, total / 2**30 / 2)
    return Machine(gpu, round(memory_gb, 1))


@dataclass(frozen=True)
class Choice:
    """A value and the reason for it."""

    value: Any
    reason: str


#: Choices for each key of the tables of a configuration.
Plan = dict[str, dict[str, Choice]]


def make_plan(
    fingerprint: Fingerprint, machine: Machine, class_names: Sequence[str], minutes: float | None = None
) -> Plan:
    """Propose a configuration, without the table ``[data]``.

    Args:
        fingerprint: The data set.
        machine: The hardware for the training.
        class_names: Names of the classes, background first. Images are not mirrored if a name contains left or right.
        minutes: Time limit of the training, which then ends by it; None for a number of epochs.

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

    preprocessing: dict[str, Choice] = {}
    if is_ct(fingerprint):
        channel = fingerprint.intensities[0]
        preprocessing["clip"] = Choice(
            [_neat(channel.percentile_00_5), _neat(channel.percentile_99_5)],
            "the images seem to be CT in Hounsfield units; 99 % of the foreground is between these values",
        )
    if spacing is not None:
        preprocessing["spacing"] = Choice(list(spacing), spacing_reason)
    preprocessing["normalization"] = Choice("z-score", "mean 0 and standard deviation 1 for each channel of each image")
    preprocessing["analysis"] = Choice(
        "patchwise-crop", "random patches in training, all patches of a grid in prediction"
    )
    preprocessing["patch_shape"] = Choice(list(patch), patch_reason)
    preprocessing["overlap"] = Choice(0.5, "half the patch; less is faster, but seams may be visible")
    sides = [name for name in class_names if _SIDES.search(name.lower())]
    mirror = Choice(True, "flips along all axes; set it to false if left and right differ")
    if sides:
        mirror = Choice(
            False, f"no flips, because {sides[0]!r} is on one side, and on the other side of a flipped image"
        )
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
            f"{filters} filters {'as usual' if machine.gpu else '(no GPU found; use 32 with a GPU)'}; depth: halvings "
            "until the smallest axis has a few voxels; instance normalisation suits small batches",
        ),
        "loss": Choice("dice_crossentropy", "Dice and cross-entropy: a good first choice"),
        "metrics": Choice(metrics, "shown for each epoch; ClassDice shows the Dice of one class"),
        "batch_size": Choice(batch, batch_reason),
        "learning_rate": Choice(0.001, "initial rate of the optimizer Adam"),
        "schedule": Choice("polynomial", "decreases to 0 at the end of the training"),
        **_duration(machine, minutes),
        "seed": Choice(0, "the same seed gives the same weights and patches"),
    }
    split = {"validation_share": Choice(0.2, "a fifth of the samples; add groups if patients have several samples")}
    folds = {"k_fold": Choice(min(5, fingerprint.cases), "for 'miscnn-tf cross-validate'")}
    if fingerprint.cases < 2:
        split["validation_share"] = Choice(0, "there is only one sample, so none is left for validation")
        folds = {}
    plan = {"split": split, "preprocessing": preprocessing, "augmentation": augmentation, "network": network}
    return plan | ({"cross_validation": folds} if folds else {})


def _duration(machine: Machine, minutes: float | None) -> dict[str, Choice]:
    epochs, iterations = (100, 250) if machine.gpu else (50, 100)
    if minutes is None:
        return {
            "epochs": Choice(epochs, "number of epochs; add minutes = 60 for a limit of one hour"),
            "iterations": Choice(
                iterations,
                f"steps per epoch, {epochs * iterations} in total; more steps take longer and give better results",
            ),
        }
    # Validation and the choice of the best epoch need several epochs, also in a short training.
    steps = max(_FEWEST_STEPS, min(iterations, round(_STEPS_PER_MINUTE * minutes * (1 if machine.gpu else 0.4))))
    return {
        "minutes": Choice(minutes, "time limit; the training ends by it, and the learning rate is lowered until then"),
        "iterations": Choice(steps, "steps per epoch; the model is validated after each epoch"),
    }


def is_ct(fingerprint: Fingerprint) -> bool:
    """Return True if the images seem to be CT in Hounsfield units: one channel, in which air is far below 0."""
    return len(fingerprint.intensities) == 1 and fingerprint.intensities[0].least < _AIR


def plan_spacing(fingerprint: Fingerprint) -> tuple[tuple[float, ...] | None, str]:
    """Return the voxel size to resample to, or None, and the reason."""
    spacing = fingerprint.median_spacing
    if fingerprint.spacings is None or spacing is None:
        return None, "the voxel size is unknown"
    every = np.array(fingerprint.spacings)
    if np.all(np.abs(every / np.array(spacing) - 1) < 0.01):
        return None, "all samples have the same voxel size"
    reason = "mm; the median of all samples"
    thick = _thick_axis(spacing)
    if thick is not None:
        # As in nnU-Net for thick slices: the median would discard details of the finer samples.
        finer = float(np.percentile(every[:, thick], 10))
        finer = max(finer, min(size for axis, size in enumerate(spacing) if axis != thick))
        spacing = tuple(finer if axis == thick else size for axis, size in enumerate(spacing))
        reason = f"mm; the median of all samples; across the thick slices, axis {thick}, the 10 % percentile"
    return tuple(_rounded_down(size) for size in spacing), reason


def plan_patch(
    shape: Sequence[int], spacing: Sequence[float] | None, thick: int | None, filters: int, machine: Machine
) -> tuple[tuple[int, ...], int, str]:
    """Return the patch shape, the depth of the network, and the reason.

    The patch starts with equal lengths in mm, at most those of the image. It is reduced along the axis that covers most
    of the image, until a training step with two patches fits into the memory.
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
    reason = f"voxels; each axis is a multiple of {step}, for {depth} halvings in the network; " + (
        f"the median image, {_times(shape)}, fits into it"
        if whole
        else f"as large a part of the median image, {_times(shape)}, as {machine.memory_gb:g} GB of memory allow"
    )
    return tuple(patch), depth, reason


def plan_batch(patch: Sequence[int], filters: int, machine: Machine, voxels_of_data: float) -> tuple[int, str]:
    """Return the batch size and the reason."""
    fits = int(machine.memory_gb / training_gb(patch, filters, 1))
    enough = int(_SHARE_OF_DATA * voxels_of_data / math.prod(patch))
    batch = max(_BATCH[0], min(fits, enough, _BATCH[1]))
    needed = training_gb(patch, filters, batch)
    reason = "at most a twentieth of all voxels" if enough <= min(fits, _BATCH[1]) else "as the memory allows"
    if batch == _BATCH[1]:
        reason = "larger batches gain little"
    if batch == _BATCH[0]:
        reason = "the smallest for a stable training"
    return batch, f"patches per step: {reason}; about {needed:.1f} GB in float32, half of it in half precision"


def training_gb(patch: Sequence[int], filters: int, batch: int) -> float:
    """Estimate the memory of a training step in GB, for the standard U-Net in float32."""
    return BYTES_PER_VOXEL[len(patch)] * math.prod(patch) * filters * batch / 2**30


def to_tables(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the tables of a configuration: the plan without the reasons."""
    return {table: {key: choice.value for key, choice in choices.items()} for table, choices in plan.items()}


def _thick_axis(spacing: Sequence[float] | None) -> int | None:
    """Return the axis across thick slices, if any."""
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
    """Return the number of halvings after which each axis has a few voxels; one across thick slices."""
    within = [float(size) for axis, size in enumerate(patch) if axis != thick]
    depth = int(math.log2(max(1.0, min(within) / _BOTTLENECK)))
    return int(min(max(depth, 1), _DEEPEST))


def _neat(value: float) -> float:
    """Round to four digits; the others are noise."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 10 else rounded


def _rounded_down(spacing: float) -> float:
    """Round down to four digits: a spacing that is slightly too large would lose the last voxel."""
    digits = 3 - math.floor(math.log10(spacing))
    return math.floor(spacing * 10**digits + 1e-6) / 10**digits


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
