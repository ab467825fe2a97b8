"""Plans beside those of nnU-Net 2.8, which ``benchmarks/parity.py`` made, and their limits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.network_plan import (
    CONFIGURATIONS,
    PRESETS,
    Topology,
    feature_map_voxels,
    plan_configurations,
    plan_data_set,
    plan_network,
    plan_topology,
    target_spacing,
    thick_axis,
)

PLANS = json.loads((Path(__file__).parents[1] / "data" / "nnunet" / "plans.json").read_text())


@pytest.mark.parametrize("plan", PLANS, ids=[f"{one['kind']}, {one['preset']}, {one['memory_gb']} GB" for one in PLANS])
def test_the_plans_are_those_of_nnunet(plan) -> None:
    preset = PRESETS[plan["preset"]]
    planned = plan_configurations(preset, plan["shapes"], plan["spacings"], plan["classes"], plan["memory_gb"])
    assert set(planned.plans) == set(plan["configurations"])
    assert planned.refusals.keys() == set(CONFIGURATIONS) - set(planned.plans)
    for configuration, theirs in plan["configurations"].items():
        found = planned.of(configuration)
        axes = list(found.network_axes)
        assert found.configuration == configuration
        assert np.array(found.spacing)[axes].tolist() == pytest.approx(theirs["spacing"], rel=1e-6)
        assert np.array(found.patch_shape)[axes].tolist() == theirs["patch"]
        assert np.array(found.topology.strides)[:, axes].tolist() == theirs["strides"]
        assert np.array(found.topology.kernel_sizes)[:, axes].tolist() == theirs["kernel_sizes"]
        assert list(found.preset.blocks(len(found.features))) == theirs["blocks"]
        assert list(found.features) == theirs["features"]
        assert found.batch_size == theirs["batch"]
        assert found.batch_dice == theirs["batch_dice"]


def test_the_plans_are_of_many_kinds() -> None:
    assert len({one["kind"] for one in PLANS}) >= 20
    assert {one["preset"] for one in PLANS} == set(PRESETS)
    assert {one["memory_gb"] for one in PLANS} >= {4, 8, 24, 40, 80}
    counts = {name: sum(name in one["configurations"] for one in PLANS) for name in CONFIGURATIONS}
    assert counts["2d"] == len(PLANS)
    assert counts["3d_fullres"] >= 30
    assert 10 <= counts["3d_cascade_fullres"] == counts["3d_lowres"] < counts["3d_fullres"]


def test_slices_of_volumes_are_those_across_the_coarsest_axis() -> None:
    flat = plan_data_set(PRESETS["plain"], [(320, 24, 300)] * 50, [(0.6, 3.6, 0.7)] * 50, 3, 8, "2d")
    assert flat.slice_axis == 1
    assert flat.network_axes == (0, 2)
    assert flat.patch_shape == (320, 1, 320)
    assert (
        {stride[1] for stride in flat.topology.strides} == {kernel[1] for kernel in flat.topology.kernel_sizes} == {1}
    )


@pytest.mark.parametrize(
    ("shape", "spacing", "configuration", "message"),
    [
        ((36, 50, 35), (1, 1, 1), "3d_lowres", "a patch in full resolution covers 100 % of the median image"),
        ((512, 512, 432), None, "3d_lowres", "their voxel size is unknown"),
        ((512, 512, 432), None, "3d_cascade_fullres", "its previous stage, 3d_lowres, is not planned: .* unknown"),
        (
            (210, 210, 210),
            (1, 1, 1),
            "3d_lowres",
            "would have .* % of the voxels, and nnU-Net leaves them out above 50",
        ),
        ((300, 200), (1, 1), "3d_fullres", "the images have two axes; choose one of: 2d"),
        (
            (36, 50, 35),
            (1, 1, 1),
            "3d",
            "the configuration '3d' is unknown. Known: 2d, 3d_cascade_fullres, 3d_fullres, 3d_lowres",
        ),
    ],
)
def test_a_configuration_that_is_not_planned_is_an_error_with_the_reason(
    shape, spacing, configuration, message
) -> None:
    spacings = None if spacing is None else [spacing] * 40
    with pytest.raises(ConfigurationError, match=message):
        plan_data_set(PRESETS["plain"], [shape] * 40, spacings, 3, 8, configuration)


def test_ten_slices_are_not_padded_to_sixteen() -> None:
    """The heart of ACDC: an axis with fewer than 8 voxels left is not halved again."""
    plan = plan_data_set(PRESETS["plain"], [(256, 216, 10)] * 100, [(1.56, 1.56, 10.0)] * 100, 4, 8)
    assert plan.patch_shape[2] < 16
    assert plan.topology.divisors[2] <= 4
    assert plan.topology.kernel_sizes[0] == (3, 3, 1)
    assert plan.topology.strides[1] == (2, 2, 1)


def test_slices_are_thick_if_they_are_also_few() -> None:
    assert thick_axis((1.0, 1.0, 5.0), (200, 200, 20)) == 2
    assert thick_axis((1.0, 1.0, 5.0), (200, 200, 100)) is None  # as many millimetres as the others, or more
    assert thick_axis((1.0, 1.0, 3.0), (200, 200, 20)) is None  # not more than three times as coarse
    assert thick_axis((1.0, 5.0), (200, 20)) is None


def test_thick_slices_keep_what_the_finer_images_show() -> None:
    spacings = [(0.8, 0.8, 8.0)] * 16 + [(0.8, 0.8, 4.0)] * 4
    assert target_spacing([(256, 256, 12)] * 20, spacings) == pytest.approx((0.8, 0.8, 4.0))
    # But not finer than within the slices.
    spacings = [(0.8, 0.8, 8.0)] * 16 + [(0.8, 0.8, 0.2)] * 4
    assert target_spacing([(256, 256, 12)] * 20, spacings) == pytest.approx((0.8, 0.8, 0.80001))


def test_the_feature_maps_of_a_small_network_by_hand() -> None:
    topology = Topology(((1, 1), (2, 2)), ((3, 3), (3, 3)))
    # Two convolutions on each level; in the decoder the transposed one and two more; three classes.
    by_hand = 2 * 4 * 64 + 2 * 8 * 16 + 3 * 4 * 64 + 3 * 64
    assert feature_map_voxels(PRESETS["plain"], topology, (4, 8), (8, 8), 3) == by_hand
    # The stem, one block of two; three blocks of two and a shortcut; the transposed one and one more; three classes.
    by_hand = (1 + 2) * 4 * 64 + (3 * 2 + 1) * 8 * 16 + 2 * 4 * 64 + 3 * 64
    assert feature_map_voxels(PRESETS["residual_M"], topology, (4, 8), (8, 8), 3) == by_hand


@given(
    st.lists(st.tuples(st.integers(1, 600), st.floats(0.2, 9)), min_size=2, max_size=3),
    st.sampled_from(sorted(PRESETS)),
    st.floats(0.01, 100),
)
def test_any_plan_can_be_built(axes, preset, memory) -> None:
    shape, spacing = zip(*axes, strict=True)
    plan = plan_network(PRESETS[preset], spacing, shape, 1e9, 2, memory)
    for size, divisor in zip(plan.patch_shape, plan.topology.divisors, strict=True):
        assert size > 0
        assert size % divisor == 0
    assert len(plan.features) == len(plan.topology.strides) == len(plan.topology.kernel_sizes)
    assert plan.batch_size >= 2


def test_more_memory_never_makes_the_patch_smaller() -> None:
    sizes = []
    for memory in (0.5, 1, 2, 4, 8, 16, 64):
        plan = plan_network(PRESETS["plain"], (1.5, 1.0, 1.0), (200, 300, 300), 1e9, 2, memory)
        sizes.append(math.prod(plan.patch_shape))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_hardly_any_memory_ends_with_the_smallest_patch() -> None:
    plan = plan_network(PRESETS["plain"], (1, 1, 1), (200, 200, 200), 1e9, 2, 0.0001)
    assert max(plan.patch_shape) <= 8
    assert plan.batch_size == 2


def test_an_axis_keeps_at_least_four_voxels() -> None:
    topology, patch = plan_topology((1, 1, 1), (64, 64, 7))
    assert patch == (64, 64, 7)
    assert topology.divisors == (16, 16, 1)
