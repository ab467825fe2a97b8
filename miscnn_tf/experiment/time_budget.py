"""Patch, batch and width for a training that a time limits.

nnU-Net's patch is as large as the memory allows, for a training of 250,000 steps. A few minutes on a CPU are better
spent on more and smaller patches, and a narrower network: ``docs/accuracy.md`` has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from miscnn_tf.experiment.network_plan import LEAST_BATCH, SMALLEST_EDGE, NetworkPlan, PerAxis

#: Steps below which patch and batch are reduced, those that a reduced plan has if possible, and those below which its
#: network has half the filters.
ENOUGH_STEPS: Final = 4000
FEW_STEPS: Final = 1500
NARROW_STEPS: Final = 800
#: Voxels at the coarsest level to which the patch is reduced before the batch.
WIDE_EDGE: Final = 8
#: Largest batch on a CPU, on which a larger one takes as much more time as it has patches.
CPU_BATCH: Final = 12
#: Levels of the network that it keeps.
_FEWEST_LEVELS: Final = 4
#: Share of the time for training steps; the rest is validation and the start of the program.
TRAINING_SHARE: Final = 0.85
#: Time of a prediction in that of a training step of the same patches.
_FORWARD_SHARE: Final = 1 / 3


@dataclass(frozen=True)
class Budget:
    """Time of a training, and the steps in it.

    Args:
        minutes: The time.
        seconds_per_step: Measured time of a training step of the plan.
    """

    minutes: float
    seconds_per_step: float

    @property
    def steps(self) -> int:
        """Expected number of training steps."""
        return max(1, int(TRAINING_SHARE * 60 * self.minutes / self.seconds_per_step))


def seconds_to_predict(plan: NetworkPlan, budget: Budget) -> float:
    """Return the expected time of the prediction of an image of median size, in patches that overlap by half."""
    patches = math.prod(
        1 + math.ceil(max(0.0, size - patch) / (patch - patch // 2))
        for size, patch in zip(plan.median_shape, plan.patch_shape, strict=True)
    )
    return patches * _FORWARD_SHARE * budget.seconds_per_step / plan.batch_size


def fit(plan: NetworkPlan, minutes: float, measure: Callable[[NetworkPlan], float]) -> tuple[NetworkPlan, Budget]:
    """Reduce patch and batch for more steps, if the time allows fewer than `ENOUGH_STEPS`.

    The patch is reduced first, along the axis of which it covers the largest part, while `WIDE_EDGE` voxels remain at
    the coarsest level of the network: many small patches of a batch show more of the data than a few large ones. Then
    the batch is chosen for `FEW_STEPS` steps. If even two patches take too long, the patch is reduced further, down to
    `SMALLEST_EDGE` voxels at the coarsest level, and the network loses this level if no axis can be reduced. A step is
    assumed to take time in proportion to its voxels. If the reduced plan has fewer than `NARROW_STEPS` steps all the
    same, the network gets half the filters: a narrow network that is trained longer is better than a wide one.

    Args:
        plan: The plan for the memory.
        minutes: Time of the training.
        measure: Returns the seconds of a training step of a plan, on this machine.

    Returns:
        The plan, and its time.

    Example:
        >>> from miscnn_tf.experiment.network_plan import PRESETS, plan_data_set
        >>> plan = plan_data_set(PRESETS["plain"], [(36, 50, 35)] * 100, None, 3, memory_gb=4)
        >>> smaller, budget = fit(plan, 10, lambda plan: 5e-6 * plan.step_voxels)
        >>> (plan.patch_shape, plan.batch_size), (smaller.patch_shape, smaller.batch_size), budget.steps
        (((40, 56, 40), 4), ((32, 32, 32), 2), 1556)
    """
    plan = replace(plan, batch_size=min(plan.batch_size, CPU_BATCH))
    budget = Budget(minutes, measure(plan))
    if budget.steps >= ENOUGH_STEPS:
        return plan, budget
    seconds_per_voxel = budget.seconds_per_step / plan.step_voxels
    # Of a step that is made `FEW_STEPS` times; never more than those of the plan.
    voxels = min(plan.step_voxels, Budget(minutes, seconds_per_voxel).steps / FEW_STEPS)
    smaller = plan
    while (patch := _smaller_patch(smaller, WIDE_EDGE)) is not None:
        smaller = replace(smaller, patch_shape=patch)
    smaller = _with_batch(smaller, voxels)
    while smaller.step_voxels > voxels:
        patch = _smaller_patch(smaller, SMALLEST_EDGE)
        if patch is not None:
            smaller = _with_batch(replace(smaller, patch_shape=patch), voxels)
        elif len(smaller.features) > _FEWEST_LEVELS:
            smaller = smaller.with_levels(len(smaller.features) - 1)
        else:
            break
    budget = Budget(minutes, measure(smaller))
    if budget.steps < NARROW_STEPS:
        smaller = replace(smaller, features=tuple(size // 2 for size in smaller.features))
        budget = Budget(minutes, measure(smaller))
    return smaller, budget


def _with_batch(plan: NetworkPlan, voxels: float) -> NetworkPlan:
    """Return the plan with as many patches as have these voxels, within the limits."""
    return replace(plan, batch_size=max(LEAST_BATCH, min(CPU_BATCH, int(voxels / math.prod(plan.patch_shape)))))


def _smaller_patch(plan: NetworkPlan, edge: int) -> PerAxis | None:
    """Return the patch with one step less along an axis that keeps `edge` voxels at the coarsest level, or None."""
    divisors, patch = plan.topology.divisors, plan.patch_shape
    covered = [size / whole for size, whole in zip(patch, plan.median_shape, strict=True)]
    for axis in sorted(range(len(patch)), key=lambda axis: (covered[axis], axis), reverse=True):
        if patch[axis] - divisors[axis] >= edge * divisors[axis]:
            return tuple(size - divisors[axis] * (number == axis) for number, size in enumerate(patch))
    return None
