"""Patch, batch and network for a data set and a memory, by the rules of nnU-Net.

The rules are those of Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 2021, and of its residual presets in Isensee et al., "nnU-Net Revisited", MICCAI 2024,
arXiv 2404.09556. ``benchmarks/parity.py`` compares the plans with those of nnU-Net itself.

Axes stay in their order: nnU-Net moves the axis of the thickest slices to the front, which changes nothing in a network
whose kernels and strides are given for each axis. Its rules are followed in its order of the axes, because ties are
decided by that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from miscnn_tf._base.messages import unknown_name
from miscnn_tf.errors import ConfigurationError

#: An axis is halved while at least this many voxels remain.
SMALLEST_EDGE: Final = 4
#: Ratio of the coarsest to the second coarsest voxel size above which slices are thick; also of the sizes in voxels.
ANISOTROPY: Final = 3.0
#: Filters of the first level, and the largest number of any level by the number of axes.
FIRST_FEATURES: Final = 32
MOST_FEATURES: Final = {2: 512, 3: 320}
#: Share of the voxels of the median image below which the patch is supplemented by a training on coarser images.
_LOW_RESOLUTION_SHARE: Final = 0.25
_COARSER: Final = 1.03
_LARGEST_PATCH: Final = {2: 2048**2, 3: 256**3}
#: Smallest batch.
LEAST_BATCH: Final = 2

#: nnU-Net's configurations: slices, volumes in full resolution, volumes of coarser voxels, and volumes in full
#: resolution together with the segmentation that networks on coarser ones made.
SLICES: Final = "2d"
FULL_RESOLUTION: Final = "3d_fullres"
LOW_RESOLUTION: Final = "3d_lowres"
CASCADE: Final = "3d_cascade_fullres"
CONFIGURATIONS: Final = (SLICES, FULL_RESOLUTION, LOW_RESOLUTION, CASCADE)

PerAxis = tuple[int, ...]


@dataclass(frozen=True)
class Preset:
    """Family of networks, and the size of its feature maps that fits a memory.

    Args:
        architecture: Name in the registry of architectures.
        encoder: Convolutions or residual blocks of each level of the encoder; the last number repeats.
        decoder: Convolutions of each level of the decoder.
        voxels: Values of all feature maps for one patch that fit into `gigabytes`, by the number of axes.
        gigabytes: Memory for which `voxels` was measured.
        batches: Batch size of that measurement, by the number of axes.
        smallest_batch: The patch is reduced until a batch of `LEAST_BATCH` fits, otherwise until one of `batches` does.
        share: Largest share of the voxels of the data set in one batch.
    """

    architecture: str
    encoder: tuple[int, ...]
    decoder: int
    voxels: dict[int, float]
    gigabytes: float
    batches: dict[int, int]
    smallest_batch: bool
    share: float

    def blocks(self, levels: int) -> tuple[int, ...]:
        """Return the convolutions or blocks of each level of the encoder."""
        return (self.encoder + self.encoder[-1:] * levels)[:levels]


_BATCHES: Final = {2: 12, 3: 2}
_RESIDUAL: Final = (1, 3, 4, 6)

#: nnU-Net's planners by name: the default, and the residual encoders.
PRESETS: Final = {
    "plain": Preset("nnunet_plain", (2,), 2, {2: 85e6, 3: 560e6}, 8, _BATCHES, True, 0.05),
    "residual_M": Preset("nnunet_residual", _RESIDUAL, 1, {2: 135e6, 3: 680e6}, 8, _BATCHES, False, 1),
    "residual_L": Preset("nnunet_residual", _RESIDUAL, 1, {2: 380e6, 3: 2100e6}, 24, _BATCHES, False, 1),
    "residual_XL": Preset("nnunet_residual", _RESIDUAL, 1, {2: 560e6, 3: 3600e6}, 40, _BATCHES, False, 1),
}


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of the levels of a U-Net, finest first.

    Args:
        strides: Stride of each level and axis; the first level has 1.
        kernel_sizes: Kernel of each level and axis.
    """

    strides: tuple[PerAxis, ...]
    kernel_sizes: tuple[PerAxis, ...]

    @property
    def divisors(self) -> PerAxis:
        """Divisor of each axis of a patch."""
        return tuple(math.prod(along) for along in zip(*self.strides, strict=True))


@dataclass(frozen=True)
class NetworkPlan:
    """Patch, batch and network.

    Args:
        preset: The family of networks.
        spacing: Voxel size of each axis, mm.
        median_shape: Median size of the resampled images.
        patch_shape: Size of a patch.
        batch_size: Patches per step.
        topology: Strides and kernels.
        features: Filters of each level.
        low_resolution: True if nnU-Net also trains on coarser images, because the patch covers a small part.
        configuration: The one of `CONFIGURATIONS`.
        slice_axis: Axis across the slices of volumes that a 2D network sees one by one: patches have one voxel there,
            and voxels keep their size.
    """

    preset: Preset
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    patch_shape: PerAxis
    batch_size: int
    topology: Topology
    features: tuple[int, ...]
    low_resolution: bool = False
    configuration: str = FULL_RESOLUTION
    slice_axis: int | None = None

    @property
    def axes(self) -> int:
        """Number of spatial axes of the images."""
        return len(self.patch_shape)

    @property
    def step_voxels(self) -> int:
        """Voxels of a batch."""
        return self.batch_size * math.prod(self.patch_shape)

    def with_levels(self, levels: int) -> NetworkPlan:
        """Return the plan without the coarsest levels of the network, so that it has at most `levels`."""
        topology = Topology(self.topology.strides[:levels], self.topology.kernel_sizes[:levels])
        return replace(self, topology=topology, features=self.features[:levels])

    @property
    def batch_dice(self) -> bool:
        """True if nnU-Net computes the Dice of the loss over the batch: in 2D, and for small parts of volumes."""
        return self.configuration == SLICES or self.low_resolution

    @property
    def network_axes(self) -> tuple[int, ...]:
        """Axes along which the network filters."""
        return tuple(axis for axis in range(self.axes) if axis != self.slice_axis)


@dataclass(frozen=True)
class Plans:
    """Plans of all configurations that nnU-Net trains on a data set.

    Args:
        plans: The plans by the names of the configurations, at least one.
        refusals: Reason why nnU-Net does not train a configuration, by its name.
    """

    plans: dict[str, NetworkPlan]
    refusals: dict[str, str]

    @property
    def default(self) -> str:
        """Configuration in full resolution."""
        return FULL_RESOLUTION if FULL_RESOLUTION in self.plans else SLICES

    def of(self, configuration: str | None = None) -> NetworkPlan:
        """Return the plan of a configuration; by default in full resolution.

        Raises:
            ConfigurationError: If the name is unknown, or nnU-Net does not train it on these data.
        """
        name = self.default if configuration is None else configuration
        if name not in CONFIGURATIONS:
            raise ConfigurationError(unknown_name("configuration", name, CONFIGURATIONS))
        if name not in self.plans:
            raise ConfigurationError(
                f"configuration {name!r} is not planned for this data set: {self.refusals[name]}; choose one of: "
                f"{', '.join(self.plans)}"
            )
        return self.plans[name]


def plan_data_set(
    preset: Preset,
    shapes: Sequence[Sequence[int]],
    spacings: Sequence[Sequence[float]] | None,
    classes: int,
    memory_gb: float,
    configuration: str | None = None,
) -> NetworkPlan:
    """Plan a training.

    Args:
        preset: The family of networks.
        shapes: Spatial shape of each training image, after cropping.
        spacings: Voxel size of each image, mm; None if unknown: all voxels count as equally long then.
        classes: Output channels.
        memory_gb: Memory for a training step, in GB.
        configuration: One of `CONFIGURATIONS`; by default volumes, or images, in full resolution.

    Raises:
        ConfigurationError: If nnU-Net does not train the configuration on these data.

    Example:
        >>> plan = plan_data_set(PRESETS["plain"], [(36, 50, 35)] * 100, None, 3, 8)
        >>> plan.patch_shape, plan.batch_size
        ((40, 56, 40), 4)
    """
    return plan_configurations(preset, shapes, spacings, classes, memory_gb).of(configuration)


def plan_configurations(
    preset: Preset,
    shapes: Sequence[Sequence[int]],
    spacings: Sequence[Sequence[float]] | None,
    classes: int,
    memory_gb: float,
) -> Plans:
    """Plan all configurations that nnU-Net trains on a data set.

    Args:
        preset: The family of networks.
        shapes: Spatial shape of each training image, after cropping.
        spacings: Voxel size of each image, mm; None if unknown: all voxels count as equally long then.
        classes: Output channels.
        memory_gb: Memory for a training step, in GB.

    Example:
        >>> planned = plan_configurations(PRESETS["plain"], [(36, 50, 35)] * 100, None, 3, 8)
        >>> sorted(planned.plans), planned.of("2d").patch_shape
        (['2d', '3d_fullres'], (40, 56, 1))
    """
    lengths = [(1.0,) * len(shapes[0])] * len(shapes) if spacings is None else [tuple(map(float, s)) for s in spacings]
    spacing = target_spacing(shapes, lengths)
    resampled = [_resampled(shape, old, spacing) for shape, old in zip(shapes, lengths, strict=True)]
    median = np.median(np.array(resampled), axis=0)
    voxels = float(np.prod(median)) * len(shapes)
    order = _order_of_nnunet(spacing)
    ordered_spacing, ordered_shape = [spacing[axis] for axis in order], [median[axis] for axis in order]

    def plan(least: int) -> NetworkPlan:
        return plan_network(preset, ordered_spacing[least:], ordered_shape[least:], voxels, classes, memory_gb)

    if len(order) == 2:
        flat = _in_file_order(replace(plan(0), configuration=SLICES), order)
        only = "the images have two axes"
        return Plans({SLICES: flat}, dict.fromkeys(CONFIGURATIONS[1:], only))
    full = plan(0)
    coarse = coarser_plan(full, classes, memory_gb, len(shapes))
    refusals = {}
    if isinstance(coarse, str):
        refusals[LOW_RESOLUTION] = coarse
    elif spacings is None:
        refusals[LOW_RESOLUTION] = "images are resampled for it, but their voxel size is unknown"
    plans = {SLICES: _of_slices(plan(1), full), FULL_RESOLUTION: full}
    if isinstance(coarse, NetworkPlan):
        plans[FULL_RESOLUTION] = replace(full, low_resolution=True)
        plans |= {} if refusals else {LOW_RESOLUTION: coarse}
    if LOW_RESOLUTION in plans:
        plans[CASCADE] = replace(plans[FULL_RESOLUTION], configuration=CASCADE)
    else:
        refusals[CASCADE] = f"its previous stage, {LOW_RESOLUTION}, is not planned: {refusals[LOW_RESOLUTION]}"
    return Plans({name: _in_file_order(one, order) for name, one in plans.items()}, refusals)


def _of_slices(flat: NetworkPlan, full: NetworkPlan) -> NetworkPlan:
    """Return the plan of a 2D network as one for volumes whose slices, across the first axis, it sees one by one."""
    return replace(
        flat,
        spacing=full.spacing,
        median_shape=full.median_shape,
        patch_shape=(1, *flat.patch_shape),
        topology=Topology(
            tuple((1, *stride) for stride in flat.topology.strides),
            tuple((1, *kernel) for kernel in flat.topology.kernel_sizes),
        ),
        configuration=SLICES,
        slice_axis=0,
    )


def _in_file_order(plan: NetworkPlan, order: Sequence[int]) -> NetworkPlan:
    """Return the plan with the axes in the order of the files."""
    back = tuple(int(axis) for axis in np.argsort(order))
    return replace(
        plan,
        spacing=_ordered(plan.spacing, back),
        median_shape=_ordered(plan.median_shape, back),
        patch_shape=_ordered(plan.patch_shape, back),
        topology=Topology(
            tuple(_ordered(stride, back) for stride in plan.topology.strides),
            tuple(_ordered(kernel, back) for kernel in plan.topology.kernel_sizes),
        ),
        slice_axis=None if plan.slice_axis is None else order[plan.slice_axis],
    )


def target_spacing(shapes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the voxel size to which the images are resampled: the median of each axis.

    Across thick slices the median would discard what the finer images show, and interpolate few slices; it is the
    10 % percentile there, but not finer than the other axes. Slices are thick if their axis is `ANISOTROPY` times as
    coarse as every other axis, and has so many times fewer voxels.

    Args:
        shapes: Spatial shape of each image.
        spacings: Voxel size of each image.
    """
    every = np.array(spacings, float)
    target, sizes = np.percentile(every, 50, axis=0), np.percentile(np.array(shapes), 50, axis=0)
    thick = thick_axis(target, sizes)
    if thick is not None:
        others = max(size for axis, size in enumerate(target) if axis != thick)
        finer = np.percentile(every[:, thick], 10)
        # The small number is nnU-Net's.
        target[thick] = finer if finer >= others else others + 1e-5
    return tuple(float(size) for size in target)


def thick_axis(spacing: Sequence[float] | np.ndarray, shape: Sequence[float] | np.ndarray) -> int | None:
    """Return the axis across thick slices of volumes, if any: much coarser, and with much fewer voxels."""
    if len(spacing) < 3:
        return None
    # Ties are decided in nnU-Net's order of the axes, which is the reverse.
    coarsest = len(spacing) - 1 - int(np.argmax(np.asarray(spacing)[::-1]))
    others = [axis for axis in range(len(spacing)) if axis != coarsest]
    coarse = spacing[coarsest] > ANISOTROPY * max(spacing[axis] for axis in others)
    few = shape[coarsest] * ANISOTROPY < min(shape[axis] for axis in others)
    return coarsest if coarse and few else None


def _order_of_nnunet(spacing: Sequence[float]) -> tuple[int, ...]:
    """Return our axes in the order in which nnU-Net plans: reversed, the coarsest axis of volumes first."""
    order = list(range(len(spacing)))[::-1]
    if len(order) == 3:
        coarsest = order[int(np.argmax([spacing[axis] for axis in order]))]
        order.sort(key=lambda axis: axis != coarsest)  # stable
    return tuple(order)


def _ordered(values: Sequence[Any], order: Sequence[int]) -> tuple[Any, ...]:
    return tuple(values[axis] for axis in order)


def _resampled(shape: Sequence[int], old: Sequence[float], new: Sequence[float]) -> list[int]:
    return [round(before / after * size) for size, before, after in zip(shape, old, new, strict=True)]


def plan_topology(spacing: Sequence[float], patch_shape: Sequence[float]) -> tuple[Topology, PerAxis]:
    """Return strides and kernels for a patch, and the patch rounded up to the divisors.

    An axis is halved while it keeps `SMALLEST_EDGE` voxels, and while its voxels are less than twice as long as the
    shortest ones; thick slices are therefore halved only at the deeper levels, and kernels across them are 1 until
    then.

    Args:
        spacing: Voxel size of each axis.
        patch_shape: Voxels of each axis.

    Example:
        >>> topology, patch = plan_topology((5.0, 1.0, 1.0), (12, 100, 100))
        >>> topology.strides[:3], topology.kernel_sizes[0], patch
        (((1, 1, 1), (1, 2, 2), (1, 2, 2)), (1, 3, 3), (12, 112, 112))
    """
    axes = range(len(spacing))
    lengths, sizes = [float(size) for size in spacing], [float(size) for size in patch_shape]
    strides: list[PerAxis] = [(1,) * len(spacing)]
    kernels: list[PerAxis] = []
    kernel = [1] * len(spacing)
    while halved := _halved_axes(lengths, sizes):
        shortest = min(lengths)
        kernel = [3 if lengths[axis] / shortest < 2 else kernel[axis] for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            lengths[axis] *= 2
            sizes[axis] = math.ceil(sizes[axis] / 2)
    kernels.append((3,) * len(spacing))
    topology = Topology(tuple(strides), tuple(kernels))
    rounded = tuple(
        math.ceil(size / divisor) * divisor for size, divisor in zip(patch_shape, topology.divisors, strict=True)
    )
    return topology, rounded


def _halved_axes(lengths: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """Return the axes that the next level halves."""
    large = [axis for axis, size in enumerate(sizes) if size >= 2 * SMALLEST_EDGE]
    if not large:
        return []
    shortest = min(lengths[axis] for axis in large)
    halved = [axis for axis in large if lengths[axis] / shortest < 2]
    # A level for one axis alone needs more voxels.
    return [] if len(halved) == 1 and sizes[halved[0]] < 3 * SMALLEST_EDGE else halved


def feature_map_voxels(
    preset: Preset, topology: Topology, features: Sequence[int], patch_shape: Sequence[int], classes: int
) -> int:
    """Return the number of values of all feature maps of the convolutions, for one patch.

    It is proportional to the memory of a training step.

    Args:
        preset: The family of networks.
        topology: Strides and kernels.
        features: Filters of each level.
        patch_shape: Voxels of each axis.
        classes: Output channels.
    """
    sizes, shape = [], tuple(patch_shape)
    for stride in topology.strides:
        shape = tuple(size // step for size, step in zip(shape, stride, strict=True))
        sizes.append(math.prod(shape))
    levels = len(sizes)
    blocks = preset.blocks(levels)
    if preset.architecture == "nnunet_residual":
        # The stem, two convolutions per block, and one in the shortcut where size or width change.
        values = features[0] * sizes[0]
        for level in range(levels):
            convolutions = 2 * blocks[level] + (level > 0)
            values += convolutions * features[level] * sizes[level]
    else:
        values = sum(blocks[level] * features[level] * sizes[level] for level in range(levels))
    # The decoder has the transposed convolution besides.
    values += sum((preset.decoder + 1) * features[level] * sizes[level] for level in range(levels - 1))
    return int(values + classes * sizes[0])


def plan_network(
    preset: Preset,
    spacing: Sequence[float],
    median_shape: Sequence[float],
    data_voxels: float,
    classes: int,
    memory_gb: float,
) -> NetworkPlan:
    """Plan patch, batch and network for images of one voxel size.

    The patch starts with equal lengths in mm and at most the median image. It is reduced along the axis of which it
    covers the largest part, until a step fits into the memory.

    Args:
        preset: The family of networks.
        spacing: Voxel size of each axis.
        median_shape: Median size of the resampled images.
        data_voxels: Voxels of all resampled training images.
        classes: Output channels.
        memory_gb: Memory for a training step, in GB.

    Returns:
        The plan. If hardly any memory is given, the patch is the smallest possible one, which may need more.

    Example:
        >>> plan = plan_network(PRESETS["plain"], (1, 1, 1), (36, 50, 35), 6.3e6, 3, 8)
        >>> plan.patch_shape, plan.batch_size
        ((40, 56, 40), 4)
    """
    axes = len(spacing)
    inverse = 1 / np.asarray(spacing, float)
    cube = inverse * (_LARGEST_PATCH[axes] / np.prod(inverse)) ** (1 / axes)
    start = [min(round(float(edge)), size) for edge, size in zip(cube, median_shape, strict=True)]
    topology, patch = plan_topology(spacing, start)
    reference = preset.voxels[axes] * memory_gb / preset.gigabytes
    limit = reference * (preset.batches[axes] / LEAST_BATCH if preset.smallest_batch else 1)

    def needed() -> int:
        return feature_map_voxels(preset, topology, _features(topology, axes), patch, classes)

    while needed() > limit:
        smaller = _reduced(spacing, patch, topology, median_shape)
        if smaller is None:
            break
        topology, patch = plan_topology(spacing, smaller)
    batch = round(reference / needed() * preset.batches[axes])
    batch = max(min(batch, round(data_voxels * preset.share / math.prod(patch))), LEAST_BATCH)
    return NetworkPlan(
        preset,
        tuple(map(float, spacing)),
        tuple(map(float, median_shape)),
        patch,
        batch,
        topology,
        _features(topology, axes),
    )


def _features(topology: Topology, axes: int) -> tuple[int, ...]:
    return tuple(min(MOST_FEATURES[axes], FIRST_FEATURES * 2**level) for level in range(len(topology.strides)))


def _reduced(
    spacing: Sequence[float], patch: Sequence[int], topology: Topology, median_shape: Sequence[float]
) -> list[int] | None:
    """Return a smaller patch, or None if there is none."""
    covered = [size / whole for size, whole in zip(patch, median_shape, strict=True)]
    for axis in sorted(range(len(patch)), key=lambda axis: (covered[axis], axis), reverse=True):
        smaller = list(patch)
        smaller[axis] -= topology.divisors[axis]
        if smaller[axis] < 1:
            continue
        # A smaller patch may be halved less often, so that it needs to be reduced less.
        step = plan_topology(spacing, smaller)[0].divisors[axis]
        return [size - step if number == axis else size for number, size in enumerate(patch)]
    return None


def coarser_plan(plan: NetworkPlan, classes: int, memory_gb: float, cases: int) -> NetworkPlan | str:
    """Return nnU-Net's plan for images of a lower resolution, or the reason why there is none.

    There is one if the patch covers less than a quarter of the voxels of the median image. The voxels are enlarged
    until it does not, the finer axes of anisotropic ones first; the coarser images must have at most half as many.

    Args:
        plan: The plan for the full resolution, of volumes.
        classes: Output channels.
        memory_gb: Memory for a training step, in GB.
        cases: Number of training samples.
    """
    whole = voxels = math.prod(plan.median_shape)
    covered, spacing = math.prod(plan.patch_shape), np.array(plan.spacing)
    if covered / whole >= _LOW_RESOLUTION_SHARE:
        return (
            f"a patch in full resolution covers {min(100, 100 * covered / whole):.0f} % of the median image, and only "
            f"below {100 * _LOW_RESOLUTION_SHARE:.0f} % nnU-Net adds a lower resolution"
        )
    coarser = plan
    while covered / voxels < _LOW_RESOLUTION_SHARE:
        finer = spacing.max() / spacing > 2
        spacing[finer if finer.any() else slice(None)] *= _COARSER
        shape = np.array(plan.spacing) / spacing * np.array(plan.median_shape)
        voxels = float(np.prod(shape))
        rounded = [round(float(size)) for size in shape]
        coarser = plan_network(plan.preset, spacing.tolist(), rounded, voxels * cases, classes, memory_gb)
        covered = math.prod(coarser.patch_shape)
    if whole / voxels < 2:
        return (
            f"images of a lower resolution would have {100 * voxels / whole:.0f} % of the voxels, and nnU-Net leaves "
            "them out above 50 %"
        )
    return replace(coarser, configuration=LOW_RESOLUTION)
