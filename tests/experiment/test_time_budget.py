"""Patch and batch for a time on a CPU."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miscnn_tf.experiment.network_plan import PRESETS, SMALLEST_EDGE, NetworkPlan, plan_data_set
from miscnn_tf.experiment.time_budget import ENOUGH_STEPS, TRAINING_SHARE, fit


class Clock:
    """A machine on which each voxel takes the same time; notes the plans whose step was measured."""

    def __init__(self, seconds_per_voxel: float) -> None:
        self.seconds_per_voxel = seconds_per_voxel
        self.measured: list[NetworkPlan] = []

    def __call__(self, plan: NetworkPlan) -> float:
        self.measured.append(plan)
        return self.seconds_per_voxel * plan.batch_size * math.prod(plan.patch_shape)


def plan(shape, spacing=None, memory_gb=4.0, cases=100) -> NetworkPlan:
    return plan_data_set(
        PRESETS["plain"], [shape] * cases, None if spacing is None else [spacing] * cases, 2, memory_gb
    )


def test_a_fast_machine_keeps_the_plan():
    clock, before = Clock(1e-9), plan((36, 50, 35))
    after, budget = fit(before, 10, clock)
    assert after == before
    assert clock.measured == [before]
    assert budget.steps == int(TRAINING_SHARE * 600 / clock(before))


def test_first_the_batch_is_reduced_then_the_patch():
    before = plan((36, 50, 35))
    assert (before.patch_shape, before.batch_size) == ((40, 56, 40), 4)
    voxels = 40 * 56 * 40
    # Time for just enough steps of two whole patches, and for a few less.
    for share, patch in ((1.001, (40, 56, 40)), (0.999, (40, 56, 32))):
        clock = Clock(TRAINING_SHARE * 600 / ENOUGH_STEPS / (2 * voxels) * share**-1)
        after, budget = fit(before, 10, clock)
        assert (after.patch_shape, after.batch_size) == (patch, 2)
        assert budget.steps >= ENOUGH_STEPS
        assert clock.measured == [before, after]
        assert (after.topology, after.features) == (before.topology, before.features)


@pytest.mark.parametrize("shape", [(36, 50, 35), (999, 960), (512, 512, 600), (300, 20), (64, 64, 64)])
@pytest.mark.parametrize("seconds_per_voxel", [1e-7, 1e-5, 1e-2])
def test_the_patch_fits_the_strides_and_the_coarsest_level_keeps_its_voxels(shape, seconds_per_voxel):
    before = plan(shape)
    after, budget = fit(before, 10, Clock(seconds_per_voxel))
    divisors = np.array(after.topology.divisors)
    assert not np.any(np.array(after.patch_shape) % divisors)
    assert np.all(np.array(after.patch_shape) <= before.patch_shape)
    shrunk = np.array(after.patch_shape) < before.patch_shape
    assert np.all(np.array(after.patch_shape)[shrunk] >= SMALLEST_EDGE * divisors[shrunk])
    assert len(after.features) == len(after.topology.strides) == len(after.topology.kernel_sizes)
    assert len(after.features) >= min(4, len(before.features))
    assert budget.steps >= 1


def test_a_step_longer_than_the_time_is_one_step():
    assert fit(plan((999, 960)), 0.01, Clock(1.0))[1].steps == 1


def test_thick_slices_stay_whole():
    """The patch is reduced where it covers most, and never below what the strides need."""
    after, _ = fit(plan((12, 256, 256), (8.0, 0.8, 0.8)), 10, Clock(1e-5))
    assert after.patch_shape[0] >= SMALLEST_EDGE * after.topology.divisors[0]
    assert max(after.patch_shape[1:]) < 256
