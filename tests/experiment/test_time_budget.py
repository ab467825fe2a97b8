"""Patch and batch for a time on a CPU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from miscnn_tf.experiment.network_plan import PRESETS, SMALLEST_EDGE, NetworkPlan, plan_data_set
from miscnn_tf.experiment.time_budget import FEW_STEPS, NARROW_STEPS, TRAINING_SHARE, fit


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


def seconds_per_voxel(step_voxels: float) -> float:
    """Time of a voxel with which ten minutes have `FEW_STEPS` steps of so many."""
    return TRAINING_SHARE * 600 / FEW_STEPS / step_voxels


def test_a_large_patch_becomes_more_and_smaller_ones():
    before = plan((999, 960), cases=20).with_levels(5)
    assert (before.patch_shape, before.batch_size) == ((896, 896), 2)
    for patches, batch in ((5.5, 5), (1.5, 2), (40, 12)):
        clock = Clock(seconds_per_voxel(patches * 128**2))
        after, budget = fit(before, 10, clock)
        assert after.batch_size == batch
        assert after.patch_shape == ((128, 128) if patches > 2 else (112, 96))
        assert budget.steps >= FEW_STEPS
        assert clock.measured == [before, after]
        assert (after.topology, after.features) == (before.topology, before.features)


def test_a_small_patch_is_reduced_only_for_a_batch_of_two():
    before = plan((36, 50, 35))
    assert (before.patch_shape, before.batch_size) == ((40, 56, 40), 4)
    voxels = 40 * 56 * 40
    for patches, patch, batch in ((3.5, (40, 56, 40), 3), (2.001, (40, 56, 40), 2), (1.999, (40, 56, 32), 2)):
        after, _ = fit(before, 10, Clock(seconds_per_voxel(patches * voxels)))
        assert (after.patch_shape, after.batch_size) == (patch, batch)


@pytest.mark.parametrize("shape", [(36, 50, 35), (999, 960), (512, 512, 600), (300, 20), (64, 64, 64)])
@pytest.mark.parametrize("seconds", [1e-7, 1e-5, 1e-2])
def test_the_patch_fits_the_strides_and_the_coarsest_level_keeps_its_voxels(shape, seconds):
    before = plan(shape)
    after, budget = fit(before, 10, Clock(seconds))
    divisors = np.array(after.topology.divisors)
    assert not np.any(np.array(after.patch_shape) % divisors)
    assert np.all(np.array(after.patch_shape) <= before.patch_shape)
    assert after.step_voxels <= before.step_voxels
    shrunk = np.array(after.patch_shape) < before.patch_shape
    assert np.all(np.array(after.patch_shape)[shrunk] >= SMALLEST_EDGE * divisors[shrunk])
    assert len(after.features) == len(after.topology.strides) == len(after.topology.kernel_sizes)
    assert len(after.features) >= min(4, len(before.features))
    assert budget.steps >= 1


def test_a_batch_for_a_gpu_is_that_of_a_cpu():
    before = plan((64, 64), cases=10_000)
    assert before.batch_size > 100
    clock = Clock(1e-12)
    after, _ = fit(before, 10, clock)
    assert (after.batch_size, clock.measured) == (12, [after])


def test_a_step_longer_than_the_time_is_one_step():
    assert fit(plan((999, 960)), 0.01, Clock(1.0))[1].steps == 1


def test_a_network_that_is_hardly_trained_is_narrower():
    """In the time of 400 steps, 8 filters had a higher Dice than 16 on three data sets."""
    before, clock = plan((36, 50, 35)), Clock(1e-3)
    after, budget = fit(before, 10, clock)
    assert after.features == tuple(size // 2 for size in before.features[: len(after.features)])
    assert budget.steps < NARROW_STEPS
    assert clock.measured[-2:] == [replace(after, features=before.features[: len(after.features)]), after]


def test_thick_slices_stay_whole():
    """The patch is reduced where it covers most, and never below what the strides need."""
    after, _ = fit(plan((12, 256, 256), (8.0, 0.8, 0.8)), 10, Clock(1e-5))
    assert after.patch_shape[0] >= SMALLEST_EDGE * after.topology.divisors[0]
    assert max(after.patch_shape[1:]) < 256
