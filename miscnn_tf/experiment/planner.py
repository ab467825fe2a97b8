"""Proposal of a configuration for a data set from its fingerprint, with a reason for each value.

Preprocessing, patch, batch and network follow nnU-Net (see `network_plan`). The reason of a value that
differs on purpose names the difference.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np

from miscnn_tf._base.messages import unknown_name
from miscnn_tf._machine.processor import graphics, has_nvidia_driver
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.fingerprint import Fingerprint
from miscnn_tf.experiment.network_plan import (
    ANISOTROPY,
    FIRST_FEATURES,
    LEAST_BATCH,
    LOW_RESOLUTION,
    PRESETS,
    NetworkPlan,
    Plans,
    plan_configurations,
    thick_axis,
)
from miscnn_tf.experiment.time_budget import CPU_BATCH, Budget, fit, seconds_to_predict
from miscnn_tf.processing.subfunctions.orientation import axis_changes
from miscnn_tf.processing.subfunctions.resampling import KEEP

#: Filters of the first level on a CPU, which computes in float32: they need the same memory as twice as many in half
#: precision, and half the time.
_CPU_FEATURES: Final = 16

_HALF: Final = "half as many as in nnU-Net"

#: Most halvings of the standard U-Net on a CPU, whose filters double at each level without an upper limit.
_CPU_DEPTH: Final = 4

#: Seconds that the prediction of an image may take with all flips, on a CPU.
_LONG_PREDICTION: Final = 30.0
#: Share of the time limit of a training that the predictions of its validation samples may take with all flips.
_PREDICTION_SHARE: Final = 0.2

#: Classes of which each has its Dice in the log of an epoch.
_MOST_METRICS: Final = 8

#: Images with values below it are CT in Hounsfield units, where air has -1000.
_AIR: Final = -500
#: Normalization of a channel by its name in lower case, as in nnU-Net; others have the z-score.
_MODES_BY_NAME: Final = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "z-score",
    "rescale_to_0_1": "minmax",
    "rgb_to_0_1": "rgb",
}
#: Share of the voxels left by cropping below which the statistics of the z-score leave out the zeros.
_CROPPED_SHARE: Final = 0.75
_ORIENTATION: Final = "RAS"
# Epochs, and steps of each, of a training without a time limit: on a CPU, and on a GPU.
_LENGTH: Final = ((50, 100), (100, 250))
# Steps of an epoch of a training with a time limit.
_STEPS_PER_MINUTE: Final = 5
_FEWEST_STEPS: Final = 10
# A validation takes at most a fifth of the time of an epoch's training steps: a batch is only predicted, which takes
# about a third of a step.
_MOST_VALIDATION_BATCHES: Final = 50
# Epochs of a training whose number of steps is known.
_EPOCHS: Final = 30
# Memory for a training step in GB: of a GPU that does not report it, and of a CPU.
_GPU_GB: Final = 8.0
_CPU_GB: Final = 4.0
# Two classes have an order along an axis if their centres have it in this share of at least so many samples, and are so
# far apart, as a part of the image.
_FEWEST_ORDERED: Final = 5
_ORDERED_SHARE: Final = 0.95
_ORDERED_DISTANCE: Final = 0.03
# Patches of each training sample above which a training is not a short one, and the share of the samples that train.
_MANY_VIEWS: Final = 75
_TRAINING_SAMPLES: Final = 0.8
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
        memory_gb: Memory for a training step. None: that of the smallest NVIDIA GPU (8 GB if it does not report it);
            without a GPU 4 GB or half of the machine's memory, whichever is less.
    """
    gpu = has_nvidia_driver()
    if memory_gb is None:
        total = system_memory().total
        memory_gb = _gpu_gb() if gpu else _CPU_GB if total is None else min(_CPU_GB, total / 2**30 / 2)
    return Machine(gpu, round(memory_gb, 1))


def _gpu_gb() -> float:
    """Return the memory of the smallest GPU, in whole GB."""
    found = [re.match(r"(\d+) MiB", card.get("memory.total", "")) for card in graphics()["cards"]]
    sizes = [int(match[1]) // 1000 for match in found if match]  # a card of 24 GB reports 24,564 MiB
    return float(min(sizes)) if sizes else _GPU_GB


@dataclass(frozen=True)
class Choice:
    """A value and the reason for it."""

    value: Any
    reason: str


#: Choices for each key of the tables of a configuration.
Plan = dict[str, dict[str, Choice]]


def make_plan(
    fingerprint: Fingerprint,
    machine: Machine,
    class_names: Sequence[str],
    minutes: float | None = None,
    preset: str = "plain",
    channel_names: Sequence[str] | None = None,
    regions: Sequence[str] = (),
    ignore: bool = False,
    measure: Callable[[Plan], float] | None = None,
    configuration: str | None = None,
) -> Plan:
    """Propose a configuration, without the table ``[data]``.

    Args:
        fingerprint: The data set.
        machine: The hardware for the training.
        class_names: Names of the classes, background first. Images are not mirrored if a name contains left or right.
        minutes: Time limit of the training, which then ends by it; None for a number of epochs.
        preset: Family of networks: a key of `network_plan.PRESETS`.
        channel_names: Names of the channels, if known. ``CT``, ``noNorm``, ``zscore``, ``rescale_to_0_1`` and
            ``rgb_to_0_1`` choose the normalization of a channel, as in nnU-Net.
        regions: Names of the overlapping regions that the network predicts instead of the classes, if there are any.
        ignore: True if there are voxels without annotation.
        measure: Returns the seconds of a training step of a plan on this machine. With it and a time limit, patch and
            batch on a CPU are reduced for more steps.
        configuration: One of nnU-Net's configurations, `network_plan.CONFIGURATIONS`: ``2d``, the slices of volumes one
            by one, ``3d_fullres``, ``3d_lowres``, or ``3d_cascade_fullres``, a second stage in full resolution after
            ``3d_lowres``. Default: volumes, or images, in full resolution.

    Returns:
        The choices.

    Raises:
        ConfigurationError: If the preset does not exist, or the configuration is not planned for these data.

    Example:
        >>> plan = make_plan(fingerprint, Machine(gpu=False, memory_gb=4), ["0", "1"])  # doctest: +SKIP
        >>> plan["preprocessing"]["patch_shape"].value  # doctest: +SKIP
        [40, 56, 40]
    """
    network = find_configurations(fingerprint, machine, len(class_names), preset).of(configuration)
    if _is_simple(network, machine):
        network = network.with_levels(_CPU_DEPTH + 1)
    split = {"validation_share": Choice(0.2, "a fifth of the samples; add groups if patients have several samples")}
    folds = {"k_fold": Choice(min(5, fingerprint.cases), "for 'miscnn-tf cross-validate'")}
    if fingerprint.cases < 2:
        split["validation_share"] = Choice(0, "there is only one sample, so none is left for validation")
        folds = {}
    masked = _masked_channels(fingerprint, channel_names)

    def planned(network: NetworkPlan, budget: Budget | None = None) -> Plan:
        plan = {
            "split": split,
            "preprocessing": _preprocessing(fingerprint, network, machine, channel_names, budget),
            "augmentation": _augmentation(fingerprint, network, class_names, machine, masked, minutes, budget),
            "network": _network(network, machine, class_names, minutes, regions, ignore, budget),
        }
        return plan | ({"cross_validation": folds} if folds else {})

    if minutes is None or measure is None or machine.gpu:
        return planned(network)
    return planned(*fit(network, minutes, lambda one: measure(planned(one))))


def find_configurations(fingerprint: Fingerprint, machine: Machine, classes: int, preset: str = "plain") -> Plans:
    """Return patch, batch and network of all configurations that nnU-Net trains on a data set.

    Args:
        fingerprint: The data set.
        machine: The hardware for the training.
        classes: Number of classes, background included.
        preset: Family of networks: a key of `network_plan.PRESETS`.

    Raises:
        ConfigurationError: If the preset does not exist.
    """
    if preset not in PRESETS:
        raise ConfigurationError(unknown_name("preset", preset, PRESETS))
    shapes, spacings = _grids(fingerprint)
    return plan_configurations(PRESETS[preset], shapes, spacings, classes, machine.memory_gb)


def _grids(fingerprint: Fingerprint) -> tuple[Sequence[Sequence[int]], Sequence[Sequence[float]] | None]:
    """Return shape and spacing of each sample as the network sees them: cropped, and in one orientation."""
    shapes: Sequence[Sequence[int]] = fingerprint.cropped_shapes or fingerprint.shapes
    spacings: Sequence[Sequence[float]] | None = fingerprint.spacings
    if not _mixed_orientations(fingerprint):
        return shapes, spacings
    assert fingerprint.orientations is not None
    orders = [axis_changes(one, _ORIENTATION)[0] for one in fingerprint.orientations]
    shapes = [[shape[axis] for axis in order] for shape, order in zip(shapes, orders, strict=True)]
    if spacings is not None:
        spacings = [[spacing[axis] for axis in order] for spacing, order in zip(spacings, orders, strict=True)]
    return shapes, spacings


def _mixed_orientations(fingerprint: Fingerprint) -> bool:
    return fingerprint.orientations is not None and len(set(fingerprint.orientations)) > 1


def _preprocessing(
    fingerprint: Fingerprint,
    network: NetworkPlan,
    machine: Machine,
    channel_names: Sequence[str] | None,
    budget: Budget | None,
) -> dict[str, Choice]:
    preprocessing: dict[str, Choice] = {}
    if _mixed_orientations(fingerprint):
        counts = Counter(fingerprint.orientations).most_common(3)
        found = ", ".join(f"{axes} {number} times" for axes, number in counts)
        preprocessing["orientation"] = Choice(_ORIENTATION, f"one for all; the axes of the files differ: {found}")
    if fingerprint.cropped_shapes is not None:
        left = f"{100 * fingerprint.cropped_share:.3g} % of the voxels are left (median)"
        preprocessing["crop"] = Choice("nonzero", f"the images have empty borders; without them {left}")
    preprocessing["normalization"] = _normalization(fingerprint, channel_names)
    spacing, reason = plan_spacing(fingerprint, network)
    if spacing is not None:
        preprocessing["spacing"] = Choice(list(spacing), reason)
    preprocessing["analysis"] = Choice(
        "patchwise-crop", "random patches in training, all patches of a grid in prediction"
    )
    preprocessing["patch_shape"] = Choice(list(network.patch_shape), _patch_reason(network, machine, budget))
    preprocessing["overlap"] = Choice(0.5, "half the patch; less is faster, but seams may be visible")
    return preprocessing


def _augmentation(
    fingerprint: Fingerprint,
    network: NetworkPlan,
    class_names: Sequence[str],
    machine: Machine,
    masked: Sequence[int],
    minutes: float | None,
    budget: Budget | None,
) -> dict[str, Choice]:
    choices: dict[str, Choice] = {}
    if machine.gpu:
        choices["recipe"] = Choice("nnunet", "the transforms of nnU-Net, with its ranges and probabilities")
        if network.axes == 3:
            choices["within_slices"] = _within_slices(network)
        if masked:
            choices["masked_channels"] = Choice(list(masked), "stay 0 where the image was empty")
    elif network.slice_axis is not None:
        choices |= {
            f"rotations_angle{'XYZ'[axis]}": Choice(
                [0.0, 0.0], f"a patch is one slice across axis {network.slice_axis}"
            )
            for axis in network.network_axes
        }
    sides = [name for name in class_names if _SIDES.search(name.lower())]
    if sides:
        reason = f"no flips, because {sides[0]!r} is on one side, and on the other side of a flipped image"
        return choices | {"mirror": Choice(False, reason)}
    if not machine.gpu:
        shown = _steps(machine, minutes, budget) * network.batch_size / (_TRAINING_SAMPLES * fingerprint.cases)
        flips = _within_patches(_flips(fingerprint, class_names, shown), network)
        return choices | flips | _flipped_predictions(network, flips, budget, fingerprint.cases)
    all_axes = Choice(True, "flips along all axes; set it to false if left and right differ")
    choices |= _within_patches({"mirror": all_axes}, network)
    views = "predictions are averaged over all flips, as in nnU-Net; false is several times faster"
    return choices | {"infaug": Choice(True, views), "infaug_all": Choice(True, "8 views in 3D, 4 in 2D")}


def _flipped_predictions(
    network: NetworkPlan, flips: dict[str, Choice], budget: Budget | None, cases: int
) -> dict[str, Choice]:
    """Plan the mean of predictions over flips: on a CPU if these do not take long."""
    if not flips["mirror"].value:
        return {"infaug": Choice(False, "no flips in predictions either")}
    axes = flips["mirror_axes"].value if "mirror_axes" in flips else network.network_axes
    views = 2 ** len(axes)
    if budget is None:
        slow = f"true averages predictions over flips, as nnU-Net does; it takes {views} times as long"
        return {"infaug": Choice(False, slow)}
    once = seconds_to_predict(network, budget)
    lasting = f"about {once * views:.2g} s instead of {once:.2g} s for an image"
    validated = max(1, round((1 - _TRAINING_SAMPLES) * cases))
    most = min(_LONG_PREDICTION, _PREDICTION_SHARE * 60 * budget.minutes / validated)
    if once * views > most:
        return {"infaug": Choice(False, f"true averages predictions over flips, as nnU-Net does; {lasting}")}
    return {
        "infaug": Choice(True, f"predictions are averaged over flips, as in nnU-Net; {lasting}"),
        "infaug_all": Choice(True, f"over all {views} combinations of flips"),
    }


def _flips(fingerprint: Fingerprint, class_names: Sequence[str], views: float) -> dict[str, Choice]:
    """Return the axes to flip: in a short training not those along which one class is always before another.

    On the MRI of the hippocampus, in which class 1 is in front of class 2, flips along all axes cost 4 points of Dice
    after 15 patches of each sample, and 1 point after 60 (``docs/accuracy.md``). After more, they are an augmentation
    that samples seen so often need.

    Args:
        fingerprint: The data set.
        class_names: Names of the classes.
        views: Patches of each training sample in the whole training.
    """
    if views > _MANY_VIEWS:
        return {"mirror": Choice(True, "flips along all axes; set it to false if left and right differ")}
    if _mixed_orientations(fingerprint):
        return {"mirror": Choice(False, "no flips, because the axes of the files differ")}
    ordered = _ordered_axes(fingerprint)
    free = [axis for axis in range(len(fingerprint.shapes[0])) if axis not in ordered]
    if not ordered:
        return {"mirror": Choice(True, "flips along all axes; set it to false if left and right differ")}
    axis, (first, second) = next(iter(ordered.items()))
    order = f"{class_names[first]!r} is before {class_names[second]!r}"
    if not free:
        reason = (
            f"no flips: along each axis a class is before another (axis {axis}: {order}), and a short training learns "
        )
        return {"mirror": Choice(False, f"{reason}such an order faster without them")}
    reason = f"not along axis {axis}, where {order}; a short training learns such an order faster without flips"
    return {"mirror": Choice(True, "flips along some axes"), **_axes_of_flips(free, reason)}


def _axes_of_flips(axes: Sequence[int], reason: str) -> dict[str, Choice]:
    views = Choice([axis + 1 for axis in axes], "the same axes, counted from 1")
    return {"mirror_axes": Choice(list(axes), reason), "infaug_flip_list": views}


def _within_patches(flips: dict[str, Choice], network: NetworkPlan) -> dict[str, Choice]:
    """Return flips without that of the axis along which a patch is a single slice."""
    if network.slice_axis is None or not flips["mirror"].value:
        return flips
    some = flips.get("mirror_axes", Choice(network.network_axes, "the axes of a slice"))
    axes = [axis for axis in some.value if axis != network.slice_axis]
    if not axes:
        return {"mirror": Choice(False, some.reason)}
    return flips | _axes_of_flips(axes, some.reason)


def _ordered_axes(fingerprint: Fingerprint) -> dict[int, tuple[int, int]]:
    """Return the axes along which one class is before another in nearly all samples, with the two classes."""
    ordered: dict[int, tuple[int, int]] = {}
    samples = fingerprint.class_centres or ()
    for first, second in permutations(range(1, len(fingerprint.class_shares)), 2):
        pairs = [(one[first], one[second]) for one in samples]
        apart = np.array([np.subtract(two, one) for one, two in pairs if one is not None and two is not None])
        if len(apart) < _FEWEST_ORDERED:
            continue
        for axis in range(apart.shape[1]):
            before = float(np.mean(apart[:, axis] > 0)) >= _ORDERED_SHARE
            if before and float(np.median(apart[:, axis])) >= _ORDERED_DISTANCE:
                ordered.setdefault(axis, (first, second))
    return ordered


def _within_slices(network: NetworkPlan) -> Choice:
    """Return the axis across thick slices, in which images are not rotated and scaled."""
    if network.slice_axis is not None:
        return Choice(network.slice_axis, "rotations and scalings within the slice that a patch is")
    patch, coarsest = network.patch_shape, int(np.argmax(network.spacing))
    if max(patch) / patch[coarsest] > ANISOTROPY:
        reason = f"rotations and scalings within the slices of axis {coarsest}, of which a patch has few"
        return Choice(coarsest, reason)
    return Choice("never", "rotations and scalings in three dimensions")


def _network(
    network: NetworkPlan,
    machine: Machine,
    class_names: Sequence[str],
    minutes: float | None,
    regions: Sequence[str],
    ignore: bool,
    budget: Budget | None,
) -> dict[str, Choice]:
    duration = _duration(machine, minutes, budget)
    return {
        "architecture": _architecture(network, machine),
        **_training(network, machine, bool(regions), ignore),
        "metrics": _metrics(class_names, regions),
        "batch_size": _batch_size(network, machine, budget),
        **duration,
        **plan_validation(duration["iterations"].value),
        "seed": Choice(0, "the same seed gives the same weights and patches"),
    }


def _metrics(class_names: Sequence[str], regions: Sequence[str]) -> Choice:
    pooled: dict[str, Any] = {"name": "PooledDice", "classes": len(regions or class_names)}
    if regions:
        pooled |= {"regions": True, "per_class": list(regions)}
    elif len(class_names) <= _MOST_METRICS:
        pooled |= {"per_class": True}
    return Choice(
        ["dice_soft", pooled], "shown for each epoch; PooledDice counts the voxels of all patches together, as nnU-Net"
    )


def plan_validation(iterations: int) -> dict[str, Choice]:
    """Return the number of batches of a validation, and the choice of the best epoch.

    Args:
        iterations: Training steps per epoch.
    """
    number = max(1, min(_MOST_VALIDATION_BATCHES, iterations // 2))
    share = "as in nnU-Net" if number == _MOST_VALIDATION_BATCHES else "half as many as training steps"
    return {
        "validation_batches": Choice(
            number, f"batches of patches per validation, {share}; one takes about a third of a training step"
        ),
        "best_by": Choice(
            "val_pooled_dice",
            "the best epoch has the highest moving average of PooledDice, as in nnU-Net; single epochs vary by chance",
        ),
    }


def _architecture(network: NetworkPlan, machine: Machine) -> Choice:
    narrow = network.features[0] < FIRST_FEATURES
    fewer = "a quarter as many as in nnU-Net, because the time allows few steps" if narrow else _HALF
    if _is_simple(network, machine):
        filters = network.features[0] * _CPU_FEATURES // FIRST_FEATURES
        return Choice(
            {
                "name": "unet_standard",
                "n_filters": filters,
                "depth": len(network.features) - 1,
                "batch_normalization": False,
                "instance_normalization": True,
            },
            f"{filters} filters, {fewer}, and pooling instead of strides and no deep supervision: more steps in the "
            "same time on a CPU; instance normalisation suits small batches",
        )
    preset, levels = network.preset, len(network.features)
    features = network.features
    if machine.gpu:
        width = f"{features[0]} to {features[-1]} filters, as in nnU-Net"
    else:
        features = tuple(size * _CPU_FEATURES // FIRST_FEATURES for size in features)
        width = f"{features[0]} to {features[-1]} filters, {fewer}{'' if narrow else ', because a CPU is slow'}"
    depth = "levels until each axis has 4 to 7 voxels; instance normalisation suits small batches"
    if network.slice_axis is not None:
        depth += f"; a 2D network: nothing is filtered across the slices, axis {network.slice_axis}"
    thick = [axis for axis in network.network_axes if network.topology.kernel_sizes[0][axis] == 1]
    if thick:
        depth += f"; axis {thick[0]} is halved and filtered only where its voxels are as long as the others"
    blocks = "blocks" if preset.architecture == "nnunet_residual" else "convolutions"
    return Choice(
        {
            "name": preset.architecture,
            "features": list(features),
            "strides": [list(stride) for stride in network.topology.strides],
            "kernel_sizes": [list(kernel) for kernel in network.topology.kernel_sizes],
            blocks: list(preset.blocks(levels)),
            "decoder_convolutions": [preset.decoder] * (levels - 1),
            "deep_supervision": levels > 2,
        },
        f"{width}; {depth}; deep supervision: the loss also sees the coarser levels",
    )


def _is_simple(network: NetworkPlan, machine: Machine) -> bool:
    """Return True if the standard U-Net serves: on a CPU, where all axes are halved alike."""
    topology = network.topology
    alike = all(len(set(level)) == 1 for level in (*topology.strides, *topology.kernel_sizes))
    return not machine.gpu and network.preset is PRESETS["plain"] and alike


def _training(network: NetworkPlan, machine: Machine, regions: bool, ignore: bool) -> dict[str, Choice]:
    """Return loss, optimizer and learning rate."""
    pooled = "of the whole batch" if network.batch_dice else "of each patch"
    loss = {"name": "nnunet_loss", "batch_dice": network.batch_dice}
    reason = f"Dice {pooled}, without the background, and cross-entropy"
    if regions:
        loss |= {"regions": True, **({"ignore": True} if ignore else {})}
        reason = f"Dice {pooled} and binary cross-entropy of overlapping regions, with a sigmoid each"
    choices = {"loss": Choice(loss, reason)}
    if _is_simple(network, machine) and not regions:
        choices["loss"] = Choice("dice_crossentropy", "Dice and cross-entropy: a good first choice")
    if machine.gpu:
        choices["optimizer"] = Choice(
            {"name": "nesterov_sgd", "momentum": 0.99, "weight_decay": 3e-5, "global_clipnorm": 12.0},
            "as in nnU-Net: momentum, weight decay, and gradients of a norm of at most 12",
        )
        choices["learning_rate"] = Choice(0.01, "initial rate, as in nnU-Net")
    else:
        choices["learning_rate"] = Choice(
            0.003, "initial rate of the optimizer Adam, which needs fewer steps than nnU-Net's SGD"
        )
    return choices | {"schedule": Choice("polynomial", "decreases to 0 at the end of the training")}


def _steps(machine: Machine, minutes: float | None, budget: Budget | None) -> int:
    """Return the expected number of training steps; 0 if it is unknown."""
    if budget is not None:
        return budget.steps
    return 0 if minutes is not None else math.prod(_LENGTH[machine.gpu])


def _duration(machine: Machine, minutes: float | None, budget: Budget | None) -> dict[str, Choice]:
    epochs, iterations = _LENGTH[machine.gpu]
    if minutes is None:
        return {
            "epochs": Choice(epochs, "number of epochs; add minutes = 60 for a limit of one hour"),
            "iterations": Choice(
                iterations,
                f"steps per epoch, {epochs * iterations} in total; more steps take longer and give better results",
            ),
        }
    limit = "time limit; the training ends by it, and the learning rate is lowered until then"
    if budget is None:
        steps, expected = round(_STEPS_PER_MINUTE * minutes * (1 if machine.gpu else 0.4)), ""
    else:
        steps = budget.steps // _EPOCHS
        expected = (
            f"; about {budget.steps} steps, since one took {budget.seconds_per_step:.2g} s when this plan was made"
        )
    # Validation and the choice of the best epoch need several epochs, also in a short training.
    steps = max(_FEWEST_STEPS, min(iterations, steps))
    return {
        "minutes": Choice(minutes, limit + expected),
        "iterations": Choice(steps, "steps per epoch; the model is validated after each epoch"),
    }


def _modes(fingerprint: Fingerprint, channel_names: Sequence[str] | None) -> list[str]:
    """Return the normalization of each channel."""
    if channel_names is not None:
        return [_MODES_BY_NAME.get(name.casefold(), "z-score") for name in channel_names]
    return ["ct"] if is_ct(fingerprint) else ["z-score"] * len(fingerprint.intensities)


def _masked_channels(fingerprint: Fingerprint, channel_names: Sequence[str] | None) -> list[int]:
    """Return the channels that are normalised by the voxels that are not 0."""
    if fingerprint.cropped_share >= _CROPPED_SHARE:
        return []
    return [channel for channel, mode in enumerate(_modes(fingerprint, channel_names)) if mode == "z-score"]


def _normalization(fingerprint: Fingerprint, channel_names: Sequence[str] | None) -> Choice:
    channels, modes = fingerprint.intensities, _modes(fingerprint, channel_names)
    arguments: dict[str, Any] = {"mode": modes[0] if len(set(modes)) == 1 else modes}
    reasons = []
    if "ct" in modes:
        arguments["statistics"] = [
            [_neat(one.percentile_00_5), _neat(one.percentile_99_5), _neat(one.mean), _neat(one.deviation)]
            for one in channels
        ]
        seems = (
            "CT in Hounsfield units" if channel_names is not None else "the images seem to be CT in Hounsfield units"
        )
        reasons.append(f"{seems}: clipped to 99 % of the foreground of the data set, scaled by its mean and deviation")
    if "z-score" in modes:
        reasons.append("mean 0 and standard deviation 1 for each channel of each image")
        if fingerprint.cropped_share < _CROPPED_SHARE:
            arguments["nonzero"] = True
            reasons[-1] += ", of the voxels that are not 0 or enclosed by these"
    if named := [mode for mode in dict.fromkeys(modes) if mode not in ("ct", "z-score")]:
        reasons.append(f"{', '.join(named)} by the names of the channels")
    return Choice(arguments["mode"] if len(arguments) == 1 else arguments, "; ".join(reasons))


def is_ct(fingerprint: Fingerprint) -> bool:
    """Return True if the images seem to be CT in Hounsfield units: one channel, in which air is far below 0."""
    return len(fingerprint.intensities) == 1 and fingerprint.intensities[0].least < _AIR


def plan_spacing(fingerprint: Fingerprint, network: NetworkPlan) -> tuple[tuple[float | str, ...] | None, str]:
    """Return the voxel size to resample to, or None, and the reason."""
    shapes, spacings = _grids(fingerprint)
    if spacings is None:
        return None, "the voxel size is unknown"
    every, axes = np.array(spacings), list(network.network_axes)
    if network.configuration == LOW_RESOLUTION:
        share = 100 * math.prod(network.patch_shape) / math.prod(network.median_shape)
        return _rounded_lengths(network), f"mm; so coarse that a patch covers {share:.0f} % of the median image"
    if np.all(np.abs(every / np.median(every, axis=0) - 1)[:, axes] < 0.01):
        return None, "all samples have the same voxel size"
    if network.slice_axis is not None:
        kept = f"{KEEP!r} leaves axis {network.slice_axis} as it is, across which the network sees one slice at a time"
        return _rounded_lengths(network), f"mm; the median of all samples; {kept}"
    reason = "mm; the median of all samples"
    thick = thick_axis(np.median(every, axis=0), np.median(np.array(shapes), axis=0))
    if thick is not None:
        reason = f"mm; the median of all samples; across the thick slices, axis {thick}, the 10 % percentile"
    return _rounded_lengths(network), reason


def _rounded_lengths(network: NetworkPlan) -> tuple[float | str, ...]:
    return tuple(
        KEEP if axis == network.slice_axis else _rounded_down(size) for axis, size in enumerate(network.spacing)
    )


def _patch_reason(network: NetworkPlan, machine: Machine, budget: Budget | None) -> str:
    multiples = f"voxels; multiples of {_times(network.topology.divisors)} for the strides of the network; "
    shape = [round(network.median_shape[axis]) for axis in network.network_axes]
    median = f"the median {'image' if network.slice_axis is None else 'slice'}, {_times(shape)}"
    if all(network.patch_shape[axis] >= full for axis, full in zip(network.network_axes, shape, strict=True)):
        return f"{multiples}{median}, fits into it"
    if budget is not None:
        return f"{multiples}a part of {median}, for more steps in {budget.minutes:g} minutes"
    return f"{multiples}as large a part of {median}, as {machine.memory_gb:g} GB of memory allow"


def _batch_size(network: NetworkPlan, machine: Machine, budget: Budget | None) -> Choice:
    share = f", and at most {100 * network.preset.share:g} % of all voxels" if network.preset.share < 1 else ""
    reason = f"patches per step; as many as the memory allows{share}"
    if network.batch_size == LEAST_BATCH:
        reason = "patches per step; the smallest for a stable training"
    elif budget is not None:
        reason = f"patches per step; as many as the time allows, and at most {CPU_BATCH} on a CPU"
    if not machine.gpu and network.batch_size > CPU_BATCH:
        return Choice(CPU_BATCH, f"patches per step; nnU-Net's {network.batch_size} would take longer on a CPU")
    return Choice(network.batch_size, reason)


def to_tables(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the tables of a configuration: the plan without the reasons."""
    return {table: {key: choice.value for key, choice in choices.items()} for table, choices in plan.items()}


def _neat(value: float) -> float:
    """Round to four digits; the others are noise."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 10 else rounded


def _rounded_down(spacing: float) -> float:
    """Round down to six digits: a spacing that is slightly too large would lose the last voxel."""
    digits = 5 - math.floor(math.log10(spacing))
    return math.floor(spacing * 10**digits + 1e-6) / 10**digits


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
