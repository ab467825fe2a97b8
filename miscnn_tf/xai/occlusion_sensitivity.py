"""Occlusion sensitivity: the loss of a class's probability where the image is covered."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.arguments import number as as_number
from miscnn_tf._base.arguments import sizes
from miscnn_tf._base.callable_module import make_callable
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import chosen_classes
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.assembling import maps_to_image
from miscnn_tf.processing.patching.blending import Blender
from miscnn_tf.processing.patching.grid import PatchGrid
from miscnn_tf.processing.segmenter import PatchSegmenter
from miscnn_tf.xai.regions import Region, RegionPatch, SampleRegion, check_region
from miscnn_tf.xai.results import MapWriter, each_sample

__all__ = ["occlusion_sensitivity"]


def occlusion_sensitivity(
    sample_list: Sequence[Hashable] | Hashable,
    model: PatchSegmenter,
    classes: Sequence[int] | int | None = None,
    size: Sequence[int] | int | None = None,
    stride: Sequence[int] | int | None = None,
    value: float | Sequence[float] | None = None,
    region: Region = "predicted",
    return_output: bool = False,
    output_path: str | Path | None = None,
    overlays: bool = True,
) -> list[np.ndarray] | None:
    """Compute how much the probability of a class drops when a box of the image is covered.

    Boxes of `size` voxels, `stride` voxels apart, cover the image after the subfunctions; one at a time is filled with
    `value`. The drop of a box is the mean probability of the class over a region without it, less that with it.
    A voxel of the map is the mean of all boxes that cover it: positive where the network needs the image for the class,
    negative where the image speaks against it.

    The network runs once per patch, and once per patch and box that touches it: with the defaults 17 to 26 times per
    patch in 2D, 65 to 126 times in 3D. Half the `stride` gives a finer map in four and eight times the time. The mean
    is that of the blended image, exactly.

    Args:
        sample_list: Names of the samples, or one name.
        model: The trained network.
        classes: The classes, by default all but the background (0).
        size: Voxels of a box, per axis or for all; by default a quarter of the patch.
        stride: From box to box, at most `size`; by default `size`.
        value: Value that covers the image, for all channels or one per channel, after the subfunctions; by default the
            mean of the image. In a cascade, the segmentation of the previous stage is not covered.
        region: Where the mean is taken: ``"predicted"`` (each patch's voxels that have that label when nothing is
            covered), ``"all"``, ``"truth"`` (the sample's label map), or masks by sample, ``{index: (x, y[, z])}``, on
            the original image. A class without any voxel in its region has a map of 0.
        return_output: Return the maps instead of writing them.
        output_path: Folder for the files; by default ``occlusion`` below the output path of the model's `Data_IO`.
        overlays: Draw a picture beside each file.

    Returns:
        With `return_output` a list of float32 arrays ``(x, y[, z], len(classes))`` on the original images' grids, from
        -1 to 1. Otherwise, each map is written as soon as it is made: ``<index>.occlusion.class-<number>.nii.gz`` in
        the image's geometry where that is known, else ``.npy``; and a ``.png``.

    Raises:
        ConfigurationError: If a class, region, size, stride or value is not valid, or the model is a group.

    Example:
        >>> occlusion_sensitivity(["case_00000"], model, size=8, stride=4)  # doctest: +SKIP

    Reference: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", section 4.2, arXiv 1311.2901.
    """
    scheme_of(model.preprocessor.data_io.interface).require_classes("the map of a class")
    numbers = chosen_classes(classes, model.classes)
    names = [f"class-{number}" for number in numbers]
    writer = MapWriter(model, "occlusion", names, "drop of the probability", output_path, overlays)
    axes = 3 if model.three_dim else 2
    asked_size = None if size is None else _per_axis(size, "size", axes)
    asked_stride = None if stride is None else _per_axis(stride, "stride", axes)
    cover = None if value is None else _per_channel(value, model.channels)

    def drops(sample: Sample) -> np.ndarray:
        places = SampleRegion(model, sample, region)
        image_shape = sample.img_data.shape[:-1]
        box = asked_size or tuple(max(1, voxels // 4) for voxels in places.plan.patch_shape_for(image_shape))
        box = tuple(min(pair) for pair in zip(box, image_shape, strict=True))
        step = tuple(min(pair) for pair in zip(asked_stride, box, strict=True)) if asked_stride else box
        grid = PatchGrid(image_shape, box, tuple(a - b for a, b in zip(box, step, strict=True)))
        fill = _mean(sample) if cover is None else cover
        found = _box_drops(model, places, grid, fill, numbers)
        patches = (np.broadcast_to(drop, (*box, len(numbers))) for drop in found)
        slabs = Blender(grid, len(numbers), mode="average").blend(patches)
        return maps_to_image(sample, slabs, model.preprocessor.subfunctions, len(numbers))

    def check(indices: list[Hashable]) -> None:
        check_region(region, indices)
        if asked_size and asked_stride and any(a > b for a, b in zip(asked_stride, asked_size, strict=True)):
            raise ConfigurationError(
                f"stride={asked_stride} leaves gaps between boxes of size={asked_size}; it must not be larger"
            )

    return each_sample(sample_list, model, drops, writer, return_output, check, load_seg=region == "truth")


def _box_drops(
    model: PatchSegmenter, region: SampleRegion, grid: PatchGrid, cover: np.ndarray, numbers: Sequence[int]
) -> np.ndarray:
    """Return the drop of each box, ``(boxes, classes)``, in the grid's order."""
    # A patch, and the number of the box that is covered in it; the predictor takes some ahead of its results.
    running: deque[tuple[RegionPatch, int | None]] = deque()
    # Not the channels of a cascade's previous stage.
    image = slice(0, region.sample.img_data.shape[-1])

    def images() -> Iterator[np.ndarray]:
        for patch in region.patches():
            running.append((patch, None))
            yield patch.image
            for number, inner in _boxes_in(grid, patch.start, patch.image.shape[:-1]):
                running.append((patch, number))
                covered = patch.image.copy()
                covered[(*inner, image)] = cover
                yield covered

    drops = np.zeros((len(grid), len(numbers)))
    total = np.zeros(len(numbers))
    counts: list[np.ndarray] = []
    before = np.zeros(len(numbers))
    shape = region.plan.patch_shape_for(region.sample.img_data.shape[:-1])
    number_of_runs = sum(
        1 + math.prod(map(len, _touching(grid, start, shape))) for start in region.plan.grid_starts(region.sample)
    )
    runs = tqdm(
        model.patch_predictor()(images()),
        desc="Occluding",
        unit="box",
        total=number_of_runs,
        delay=1.0,
        disable=model.verbose == 0,
    )
    for probabilities in runs:
        patch, number = running.popleft()
        if number is None:
            counts = [region.counts(patch, probabilities, each) for each in numbers]
            total += [count.sum(dtype=np.float64) for count in counts]
        mass = np.array([np.vdot(count, probabilities[..., each]) for count, each in zip(counts, numbers, strict=True)])
        if number is None:
            before = mass
        else:
            drops[number] += before - mass
    return (drops / np.where(total > 0, total, 1)).astype(np.float32)


def _boxes_in(grid: PatchGrid, start: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield the numbers of the boxes that touch a patch, and their slices of it."""
    strides = [math.prod(grid.counts[axis + 1 :]) for axis in range(len(shape))]
    for each in product(*_touching(grid, start, shape)):
        yield sum(place * step for (place, _), step in zip(each, strides, strict=True)), tuple(part for _, part in each)


def _touching(grid: PatchGrid, start: Sequence[int], shape: Sequence[int]) -> list[list[tuple[int, slice]]]:
    """Return, for each axis, the places along it of the boxes that touch a patch, and the voxels they cover."""
    axes = []
    for starts, box, first, voxels in zip(grid.starts, grid.patch_shape, start, shape, strict=True):
        ends = [(max(low - first, 0), min(low + box - first, voxels)) for low in starts]
        axes.append([(place, slice(low, high)) for place, (low, high) in enumerate(ends) if low < high])
    return axes


def _mean(sample: Sample) -> np.ndarray:
    """Return the mean of each channel; 0 where it is NaN."""
    means = [sample.img_data[..., channel].mean(dtype=np.float64) for channel in range(sample.img_data.shape[-1])]
    return np.nan_to_num(np.array(means, np.float32))


def _per_axis(values: Sequence[int] | int, argument: str, axes: int) -> tuple[int, ...]:
    result = sizes([values] * axes if isinstance(values, int | np.integer) else values, argument)
    if len(result) != axes:
        raise ConfigurationError(f"{argument}={values!r} needs {axes} numbers, one per axis, or one for all")
    return result


def _per_channel(values: float | Sequence[float], channels: int) -> np.ndarray:
    given = [values] if np.ndim(values) == 0 else list(values)  # type: ignore[arg-type]
    if len(given) not in (1, channels):
        raise ConfigurationError(f"value={values!r} needs one number, or one for each of {channels} channels")
    return np.array([as_number(each, "value") for each in given], np.float32)


make_callable(__name__)
