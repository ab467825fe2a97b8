"""The pixels of a series as a volume of Hounsfield units, or of whatever the rescale slope and intercept give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading.dicom.extra import require_dicom
from miscnn_tf.data_loading.dicom.grid import Grid
from miscnn_tf.data_loading.dicom.header import Header
from miscnn_tf.errors import DataError, MissingExtraError


def check_files(grid: Grid) -> None:
    """Make sure that uncompressed files hold as many pixels as their headers say.

    Raises:
        DataError: If one does not.
    """
    for header in {header.path: header for header, _ in grid.planes}.values():
        size = os.stat(header.path).st_size
        if size < header.least_size:
            raise _truncated(header.path, f"it has {size} bytes, and needs {header.least_size} for its pixels")


def read_volume(grid: Grid) -> np.ndarray:
    """Decode the slices of a grid.

    Returns:
        Array ``(slices, rows, columns)``: int16 (int32 where that is too small) if all values are whole, otherwise
        float32.

    Raises:
        DataError: If a file is truncated or damaged.
        MissingExtraError: If a compressed file needs a decoder that is not installed.
    """
    require_dicom()
    # A damaged header may ask for more memory than there is.
    check_files(grid)
    volume = np.empty(grid.shape, np.int16)
    of_file: dict[Path, list[tuple[int, int]]] = {}
    for position, (header, plane) in enumerate(grid.planes):
        of_file.setdefault(header.path, []).append((position, plane.frame))
    headers = {header.path: header for header, _ in grid.planes}
    for path, wanted in of_file.items():
        dataset, frames = _pixels(headers[path])
        for position, frame in wanted:
            values = _rescaled(frames[frame], dataset, frame, path)
            if not np.can_cast(values.dtype, volume.dtype):
                # Never float64, which int32 and float32 would come to.
                mixed = "f" in (values.dtype.kind, volume.dtype.kind)
                volume = volume.astype(np.float32 if mixed else np.int32)
            volume[position] = values
    return volume


def _pixels(header: Header) -> tuple[Any, np.ndarray]:
    """The dataset of a file, and its stored values ``(frames, rows, columns)``."""
    import pydicom

    path = header.path
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as error:  # whatever a damaged file can provoke in the parser
        raise _truncated(path, error) from error
    if "PixelData" not in dataset:
        raise _truncated(path, "it ends before its pixels")
    if "TransferSyntaxUID" not in dataset.file_meta:
        # A file without meta information is in DICOM's default.
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else pydicom.uid.ExplicitVRBigEndian
        )
    try:
        stored = dataset.pixel_array
    except Exception as error:
        if "missing dependencies" in str(error) or "missing required dependencies" in str(error):
            raise MissingExtraError(
                f"{path} is compressed ({dataset.file_meta.TransferSyntaxUID.name}), and no decoder for it is "
                f"installed: pip install 'miscnn_tf[dicom]' ({' '.join(str(error).split())})"
            ) from error
        raise _truncated(path, error) from error
    expected = (header.frames, header.rows, header.columns)
    if stored.size != np.prod(expected):
        raise _truncated(path, f"its pixels have the shape {stored.shape}, its header says {expected}")
    return dataset, stored.reshape(expected)


def _rescaled(stored: np.ndarray, dataset: Any, frame: int, path: Path) -> np.ndarray:
    """Values of a frame: ``slope * stored + intercept``, or what the look-up table says."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        values = np.asarray(apply_modality_lut(stored, dataset))
        return _compact(values) if values.dtype.kind in "iu" else values.astype(np.float32)
    slope, intercept = _rescale(dataset, frame, path)
    if stored.dtype.kind == "f":
        return (stored * slope + intercept).astype(np.float32)
    if slope.is_integer() and intercept.is_integer():
        return _compact(stored.astype(np.int64) * int(slope) + int(intercept))
    return (stored * slope + intercept).astype(np.float32)


def _rescale(dataset: Any, frame: int, path: Path) -> tuple[float, float]:
    try:
        slope, intercept, numbers = _slope_and_intercept(dataset, frame)
    except Exception as error:  # whatever a damaged header can provoke in the parser
        raise _truncated(path, error) from error
    if not np.isfinite(numbers).all() or numbers[0] == 0:
        raise DataError(
            f"{path}: the rescale slope is {slope} and the intercept {intercept}, which cannot be; correct the header"
        )
    return numbers


def _slope_and_intercept(dataset: Any, frame: int) -> tuple[Any, Any, tuple[float, float]]:
    """What the header says, and the numbers that it comes to."""
    groups = [dataset]
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
        for group in [dataset.PerFrameFunctionalGroupsSequence[frame], *shared]:
            if group.get("PixelValueTransformationSequence"):
                groups.insert(0, group.PixelValueTransformationSequence[0])
                break
    slope, intercept = groups[0].get("RescaleSlope"), groups[0].get("RescaleIntercept")
    return slope, intercept, (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))


def _compact(values: np.ndarray) -> np.ndarray:
    """Whole numbers as int16 where they fit, else as int32, else as float32."""
    low, high = int(values.min()), int(values.max())
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values.astype(np.float32)


def _truncated(path: Path, reason: object) -> DataError:
    return DataError(
        f"{path}: the file is truncated or damaged ({' '.join(str(reason).split())}); copy or export it again"
    )
