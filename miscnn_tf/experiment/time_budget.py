"""Patch and batch for a training that a time limits.

nnU-Net's patch is as large as the memory allows, for a training of 250,000 steps. A few minutes on a CPU are better
spent on more steps with smaller patches: ``docs/accuracy.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from miscnn_tf.experiment.network_plan import LEAST_BATCH, SMALLEST_EDGE, NetworkPlan, PerAxis

#: Steps below which patch and batch are reduced.
ENOUGH_STEPS: Final = 4000
#: Levels of the network that it keeps.
_FEWEST_LEVELS: Final = 4
#: Share of the time for training steps; the rest is validation and the start of the program.
TRAINING_SHARE: Final = 0.85


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


def fit(plan: NetworkPlan, minutes: float, measure: Callable[[NetworkPlan], float]) -> tuple[NetworkPlan, Budget]:
    """Reduce batch and patch until the time allows `ENOUGH_STEPS` steps, or neither can be smaller.

    The batch is reduced first, then the patch, along the axis of which it covers the largest part. It keeps
    `SMALLEST_EDGE` voxels at the coarsest level of the network, which loses this level if no axis can be reduced. The
    time of a step is assumed to be proportional to its voxels.

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
        (((40, 56, 40), 3), ((32, 48, 32), 2), 1037)
    """
    budget = Budget(minutes, measure(plan))
    if budget.steps >= ENOUGH_STEPS:
        return plan, budget
    per_voxel = budget.seconds_per_step / plan.step_voxels
    smaller = replace(plan, batch_size=min(plan.batch_size, LEAST_BATCH))
    while Budget(minutes, per_voxel * smaller.step_voxels).steps < ENOUGH_STEPS:
        patch = _smaller_patch(smaller)
        if patch is not None:
            smaller = replace(smaller, patch_shape=patch)
        elif len(smaller.features) > _FEWEST_LEVELS:
            smaller = smaller.with_levels(len(smaller.features) - 1)
        else:
            break
    return smaller, Budget(minutes, measure(smaller))


def _smaller_patch(plan: NetworkPlan) -> PerAxis | None:
    """Return the patch with one step less along an axis, or None if there is none."""
    divisors, patch = plan.topology.divisors, plan.patch_shape
    covered = [size / whole for size, whole in zip(patch, plan.median_shape, strict=True)]
    for axis in sorted(range(len(patch)), key=lambda axis: (covered[axis], axis), reverse=True):
        if patch[axis] - divisors[axis] >= SMALLEST_EDGE * divisors[axis]:
            return tuple(size - divisors[axis] * (number == axis) for number, size in enumerate(patch))
    return None
