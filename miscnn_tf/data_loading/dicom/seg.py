"""DICOM SEG: conversion of segments to masks on the grid of a series.

pydicom parses the files. highdicom's reader is not used: it refuses files without codes, algorithm type or
FrameContentSequence, which do not affect the voxels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import open_regular
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.dicom.header import SEGMENTATIONS, Header, Plane, read_header
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series_grid import LPS_TO_RAS, Grid
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
from miscnn_tf.errors import DataError, MissingExtraError

_BINARY, _FRACTIONAL, _LABEL_MAP = "BINARY", "FRACTIONAL", "LABELMAP"


def read_seg(path: Path) -> Any:
    """Read a SEG file as a pydicom dataset.

    Raises:
        DataError: If it is damaged, or the numbers of its segments are missing or ambiguous.
    """
    require_dicom()
    import pydicom

    try:
        with open_regular(path) as stream:
            dataset = pydicom.dcmread(stream, force=True)
        if dataset.get("SOPClassUID") not in SEGMENTATIONS:
            raise ValueError("SOPClassUID is not that of a segmentation")
        if "SegmentSequence" not in dataset:
            raise ValueError("SegmentSequence is missing")
        segment_names(dataset)
    except DataError:
        raise
    except Exception as error:  # damaged files may raise any error in the parser
        raise _damaged(path, error) from error
    return dataset


def segment_names(segmentation: Any) -> dict[int, str]:
    """Return the labels of the segments by number; the background of a label map is not a segment."""
    names: dict[int, str] = {}
    for item in segmentation.SegmentSequence or ():
        number, label = item.get("SegmentNumber"), str(item.get("SegmentLabel") or "")
        if number is None:
            raise ValueError(f"the segment {label!r} has no SegmentNumber")
        if names.setdefault(int(number), label) != label:
            raise ValueError(f"the segments {names[number]!r} and {label!r} have the same SegmentNumber {number}")
    if segmentation.get("SegmentationType") == _LABEL_MAP:
        names.pop(segmentation.get("PixelPaddingValue"), None)
    return names


def segment_masks(
    segmentation: Any, grid: Grid, path: Path, wanted: Collection[int] | None = None
) -> dict[int, np.ndarray]:
    """Return the voxels of segments.

    Frames are placed by their position in the patient, in any order and direction; positions without a frame are
    outside all segments. Voxels of a fractional segment count from one half on.

    Args:
        segmentation: The return value of `read_seg`.
        grid: The grid of the series.
        path: The file, for messages.
        wanted: Numbers of the segments; None for all. Each takes as much memory as a volume of bytes, and files of
            a hundred segments are usual.

    Returns:
        bool ``(slices, rows, columns)`` of each segment number.

    Raises:
        DataError: If its voxels do not match the grid, the header is ambiguous, or the pixels are damaged.
        MissingExtraError: If a compressed file needs a decoder that is not installed.

    Warns:
        UserWarning: If a part of it is outside the grid, belongs to segments that the file does not describe, or is in
            several frames.
    """
    header = read_header(path)
    if header is None:
        raise DataError(f"{path} is not a SEG; remove it, or export it again")
    planes = header.planes
    if len(planes) != header.frames:
        without = next((frame for frame, plane in enumerate(planes) if plane.frame != frame), len(planes))
        raise DataError(
            f"{path}: the SEG lacks the position, orientation or pixel spacing of some of its {header.frames} "
            f"frames, for instance of frame {without + 1} (PlanePositionSequence, PlaneOrientationSequence, "
            "PixelMeasuresSequence); export it again"
        )
    names = segment_names(segmentation)
    masks = {number: np.zeros(grid.shape, bool) for number in names if wanted is None or number in wanted}
    lost = 0
    unknown: set[int] = set()
    repeated: dict[int, int] = {}
    for frame, (number, inside) in _segments_of_frames(segmentation, header, path):
        if number not in names:
            unknown.add(number)
        elif number in masks:
            outside, again = _place(masks[number], inside, planes[frame], grid, path)
            lost += outside
            if again:
                repeated[number] = repeated.get(number, 0) + again
    if lost:
        warnings.warn(f"{path}: {lost} voxels are outside {grid.where} and left out", UserWarning, stacklevel=3)
    if unknown:
        warnings.warn(
            f"{path}: the voxels of segment {some_of(sorted(unknown))} are left out, as SegmentSequence does not "
            "describe it; export the file again",
            UserWarning,
            stacklevel=3,
        )
    for number, voxels in repeated.items():
        warnings.warn(
            f"{path}: {voxels} voxels of the segment {names[number]!r} are in several frames; a voxel counts if it is "
            "set in any of them. Check whether it was drawn on several time points",
            UserWarning,
            stacklevel=3,
        )
    return masks


def _segments_of_frames(segmentation: Any, header: Header, path: Path) -> Iterator[tuple[int, tuple[int, np.ndarray]]]:
    """Yield each frame with the number and the pixels of each segment in it."""
    try:
        kind = _kind(segmentation)
        highest = _highest(segmentation) if kind == _FRACTIONAL else None
        numbers = [] if kind == _LABEL_MAP else _segment_numbers(segmentation, header.frames)
        # 0 and the padding value are background, unless they are described as segments.
        background = {0, int(segmentation.get("PixelPaddingValue") or 0)} - set(segment_names(segmentation))
        values: set[int] = set()
        for frame, pixels in enumerate(_frames(segmentation, header)):
            if frame == header.frames:
                raise ValueError(f"PixelData holds more than {header.frames} frames")
            if kind == _LABEL_MAP:
                for number in set(np.unique(pixels).tolist()) - background:
                    yield frame, (number, pixels == number)
                continue
            if highest is None:
                values.update(np.unique(pixels[pixels > 0]).tolist())
                if len(values) > 1:
                    raise ValueError(f"the binary segmentation holds the values {some_of(sorted(values))}")
            elif pixels.max() > highest:
                raise ValueError(f"a pixel of frame {frame + 1} is above MaximumFractionalValue {highest:g}")
            inside = pixels > 0 if highest is None else pixels >= highest / 2
            if inside.any():
                yield frame, (numbers[frame], inside)
    except Exception as error:  # damaged headers and pixels may raise any error in the parser and the decoders
        if "missing dependencies" in str(error) or "missing required dependencies" in str(error):
            raise MissingExtraError(
                f"{path} is compressed, but a decoder for it is not installed: pip install 'miscnn_tf[dicom]' "
                f"({' '.join(str(error).split())})"
            ) from error
        raise _damaged(path, error) from error


def _kind(segmentation: Any) -> str:
    kind = str(segmentation.get("SegmentationType") or "")
    if not kind and segmentation.get("BitsAllocated") == 1:
        return _BINARY
    if kind not in (_BINARY, _FRACTIONAL, _LABEL_MAP):
        raise ValueError(f"SegmentationType is {kind!r}, not one of {_BINARY}, {_FRACTIONAL}, {_LABEL_MAP}")
    return kind


def _highest(segmentation: Any) -> float:
    """Return the pixel value that means 100 % of a fractional segment."""
    value = segmentation.get("MaximumFractionalValue")
    if value is None or not value > 0:
        raise ValueError(f"MaximumFractionalValue of a fractional segmentation is {value!r}, but must be above 0")
    return float(value)


def _segment_numbers(segmentation: Any, frames: int) -> list[int]:
    """Return the segment number of each frame."""
    shared = list(segmentation.get("SharedFunctionalGroupsSequence") or ())
    items = list(segmentation.get("PerFrameFunctionalGroupsSequence") or [{}] * frames)
    numbers = []
    for frame, item in enumerate(items, start=1):
        named = [group for one in [item, *shared] for group in one.get("SegmentIdentificationSequence") or ()]
        number = named[0].get("ReferencedSegmentNumber") if named else None
        if number is None:
            raise ValueError(f"frame {frame} has no ReferencedSegmentNumber")
        numbers.append(int(number))
    return numbers


def _frames(segmentation: Any, header: Header) -> Iterator[np.ndarray]:
    """Yield the stored pixels of each frame; one frame is in memory beside the file's bytes."""
    from pydicom.pixels import iter_pixels

    shape, size, bits = (header.rows, header.columns), header.rows * header.columns, segmentation.BitsAllocated
    samples = segmentation.get("SamplesPerPixel", 1)
    if segmentation.get("BitsStored", bits) != bits or samples != 1:
        raise ValueError(f"its pixels have {segmentation.get('BitsStored')} of {bits} bits, {samples} of each")
    if segmentation.get("PixelRepresentation", 0) != 0:
        raise ValueError(f"PixelRepresentation is {segmentation.PixelRepresentation!r}, not 0 (unsigned)")
    colours = segmentation.get("PhotometricInterpretation", "MONOCHROME2")
    if colours not in ("MONOCHROME2", "PALETTE COLOR"):
        raise ValueError(f"PhotometricInterpretation is {colours!r}, not MONOCHROME2 or PALETTE COLOR")
    if segmentation.file_meta.TransferSyntaxUID.is_compressed:
        yield from iter_pixels(segmentation, raw=True)
        return
    needed, stored = math.ceil(size * header.frames * bits / 8), len(segmentation.PixelData)
    # Values have an even length.
    if not needed <= stored <= needed + 1:
        raise ValueError(f"PixelData has {stored} bytes, but its {header.frames} frames need {needed}")
    if bits > 1:
        yield from iter_pixels(segmentation, raw=True)
        return
    # Frames of single bits need not begin at a byte, as pydicom's reader of single frames expects.
    packed = np.frombuffer(segmentation.PixelData, np.uint8)
    for start in range(0, size * header.frames, size):
        unpacked = np.unpackbits(packed[start // 8 : math.ceil((start + size) / 8)], bitorder="little")
        yield unpacked[start % 8 :][:size].reshape(shape)


def _place(mask: np.ndarray, inside: np.ndarray, plane: Plane, grid: Grid, path: Path) -> tuple[int, int]:
    """Set the voxels of a frame, and return how many are outside the grid, and how many were set before."""
    corner, down, along = _in_grid(plane, grid)
    rows, columns = np.nonzero(inside)
    places = corner + rows[:, np.newaxis] * down + columns[:, np.newaxis] * along
    index = np.rint(places)
    beside = float(np.abs(places - index).max())
    # Negated, so that NaN is refused, too.
    if not beside <= GRID_TOLERANCE or not _whole_steps(down, along):
        raise DataError(
            f"{path}: the voxels of the SEG do not match {grid.where} (its frame {plane.frame} is {beside:.2g} "
            "voxels off). Resample it to the series with nearest-neighbour interpolation"
        )
    within = ((index >= 0) & (index < grid.shape)).all(axis=1)
    voxels = tuple(index[within].astype(int).T)
    again = int(np.count_nonzero(mask[voxels]))
    mask[voxels] = True
    return int(np.count_nonzero(~within)), again


def _in_grid(plane: Plane, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first pixel, step to the next row and step to the next column of a frame, in voxels of the grid."""
    inverse = np.linalg.inv(LPS_TO_RAS @ grid.affine)
    corner = inverse[:3, :3] @ plane.position + inverse[:3, 3]
    down = inverse[:3, :3] @ (np.array(plane.orientation[3:]) * plane.spacing[0])
    along = inverse[:3, :3] @ (np.array(plane.orientation[:3]) * plane.spacing[1])
    return corner, down, along


def _whole_steps(down: np.ndarray, along: np.ndarray) -> bool:
    """Return True if each step in the frame is one voxel in the grid."""
    steps = np.abs(np.stack([down, along]))
    return bool(np.allclose(steps, np.rint(steps), atol=0.02) and (np.rint(steps).sum(axis=1) == 1).all())


def _damaged(path: Path, reason: object) -> DataError:
    return DataError(
        f"{path}: the SEG is truncated or damaged ({' '.join(str(reason).split())}); copy or export it again"
    )
