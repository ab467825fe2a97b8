"""Decoding of the pixels of a series to a volume of Hounsfield units or other rescaled values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.dicom.header import Header
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series_grid import Grid
from miscnn_tf.errors import DataError, MissingExtraError

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_RLE = "1.2.840.10008.1.2.5"


def check_files(grid: Grid) -> None:
    """Check that files are large enough for the pixels that their headers declare.

    Raises:
        DataError: If one is not.
    """
    for header in {header.path: header for header, _ in grid.planes}.values():
        size = os.stat(header.path).st_size
        if size >= header.least_size:
            continue
        if header.compressed:
            raise _truncated(header.path, f"it has {size} bytes, its header declares {header.decoded_size} of pixels")
        raise _truncated(header.path, f"it has {size} bytes, but needs {header.least_size} for its pixels")


def read_volume(grid: Grid) -> np.ndarray:
    """Decode the slices of a grid.

    The values of a radiograph that is stored as MONOCHROME1 are inverted, so that large values are always bright.

    Returns:
        Array ``(slices, rows, columns)``: int16 (int32 where that is too small) if all values are whole, otherwise
        float32.

    Raises:
        DataError: If a file is truncated or damaged, or a tag changes the values in a way that is not supported.
        MissingExtraError: If a compressed file needs a decoder that is not installed.
    """
    require_dicom()
    # A damaged header may declare more pixels than memory can hold.
    check_files(grid)
    volume = np.empty(grid.shape, np.int16)
    of_file: dict[Path, list[tuple[int, int]]] = {}
    for position, (header, plane) in enumerate(grid.planes):
        of_file.setdefault(header.path, []).append((plane.frame, position))
    headers = {header.path: header for header, _ in grid.planes}
    for path, wanted in of_file.items():
        frames, positions = zip(*sorted(wanted), strict=True)
        for position, values in zip(positions, _values(headers[path], frames, grid.placed), strict=True):
            if not np.can_cast(values.dtype, volume.dtype):
                # Avoid float64, to which numpy would promote int32 and float32.
                mixed = "f" in (values.dtype.kind, volume.dtype.kind)
                volume = volume.astype(np.float32 if mixed else np.int32)
            volume[position] = values
    return volume


def _values(header: Header, frames: Sequence[int], placed: bool) -> Iterator[np.ndarray]:
    """Yield the values of some frames of a file, one by one."""
    path = header.path
    dataset = _dataset(path)
    with _damage_named(path):
        _check_length(dataset, header)
    for frame, decoded in zip(frames, _decoded(header, dataset, frames), strict=True):
        with _damage_named(path):
            stored = stored_values(decoded, dataset, path)
            if not placed and header.photometric == "MONOCHROME1":
                stored = inverted(stored, dataset, path)
            values = _rescaled(stored, dataset, frame, path)
        yield values


def _dataset(path: Path) -> Any:
    import pydicom

    with _damage_named(path), open_regular(path) as stream:
        dataset = pydicom.dcmread(stream, force=True)
    if not any(name in dataset for name in _PIXELS):
        raise _truncated(path, "it ends before its pixels")
    if "TransferSyntaxUID" not in dataset.file_meta:
        # A file without meta information has DICOM's default transfer syntax.
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else pydicom.uid.ExplicitVRBigEndian
        )
    return dataset


def _check_length(dataset: Any, header: Header) -> None:
    """Refuse pixels that contradict the header, even if they can be decoded."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    pixels = dataset[next(name for name in _PIXELS if name in dataset)]
    if pixels.is_undefined_length:
        raise _truncated(header.path, "its pixels are compressed, but TransferSyntaxUID is an uncompressed one")
    more = len(pixels.value or b"") - header.decoded_size
    if header.decoded_size and more >= header.decoded_size // header.frames:
        raise _truncated(header.path, f"it holds {more} bytes of pixels more than its header declares")


def _decoded(header: Header, dataset: Any, frames: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield frames from the decoder, with all allocated bits."""
    from pydicom.pixels import iter_pixels

    path, expected = header.path, (header.rows, header.columns)
    try:
        for decoded in iter_pixels(dataset, indices=frames, raw=True, correct_unused_bits=False):
            if decoded.shape != expected:
                raise ValueError(f"its pixels have the shape {decoded.shape}, but its header declares {expected}")
            yield decoded
    except Exception as error:
        reason = str(error)
        if "missing dependencies" in reason or "missing required dependencies" in reason:
            syntax = dataset.file_meta.TransferSyntaxUID.name
            advice = (
                "pip install 'miscnn_tf[dicom]'"
                if "gdcm" in reason
                else "install one of the following, or decompress the file with another program, such as gdcmconv --raw"
            )
            raise MissingExtraError(
                f"{path} is compressed ({syntax}), but a decoder for it is not installed: {advice} "
                f"({' '.join(reason.split())})"
            ) from error
        if "does not support" in reason:
            raise DataError(
                f"{path}: its compression ({dataset.file_meta.TransferSyntaxUID.name}) is not supported "
                f"({' '.join(reason.split())}); decompress the file with another program, such as gdcmconv --raw"
            ) from error
        raise _truncated(path, error) from error


def _rescaled(stored: np.ndarray, dataset: Any, frame: int, path: Path) -> np.ndarray:
    """Convert the stored values of a frame by ``slope * stored + intercept``, or by the look-up table."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        values = np.asarray(apply_modality_lut(stored, dataset))
        return _whole(values, 1, 0, path) if values.dtype.kind in "iu" else values.astype(np.float32)
    slope, intercept = _slope_and_intercept(dataset, frame, path)
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        return _whole(stored, int(slope), int(intercept), path)
    return _fractions(stored, slope, intercept, path)


def _slope_and_intercept(dataset: Any, frame: int, path: Path) -> tuple[float, float]:
    groups = [dataset]
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
        groups = [dataset.PerFrameFunctionalGroupsSequence[frame], *shared, dataset]
    of_modality = [
        group.PixelValueTransformationSequence[0] for group in groups if group.get("PixelValueTransformationSequence")
    ]
    for group in [*of_modality, dataset]:
        if group.get("RescaleSlope") is not None or group.get("RescaleIntercept") is not None:
            break
    else:
        return 1.0, 0.0
    stated_slope, stated_intercept = group.get("RescaleSlope"), group.get("RescaleIntercept")
    slope = 1.0 if stated_slope is None else float(stated_slope)
    intercept = 0.0 if stated_intercept is None else float(stated_intercept)
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise DataError(
            f"{path}: the rescale slope is {stated_slope} and the intercept {stated_intercept}, but both must be "
            "finite and the slope not 0; correct the header"
        )
    return slope, intercept


def _whole(stored: np.ndarray, slope: int, intercept: int, path: Path) -> np.ndarray:
    """Convert to int16 if the values fit, else to int32, else to float32."""
    ends = [int(end) * slope + intercept for end in (stored.min(), stored.max())]
    low, high = min(ends), max(ends)
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max and max(abs(slope), abs(intercept)) <= limits.max:
            return (stored.astype(np.int64) * slope + intercept).astype(kind)
    return _fractions(stored, float(slope), float(intercept), path)


def _fractions(stored: np.ndarray, slope: float, intercept: float, path: Path) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    if (np.isfinite(stored) & ~np.isfinite(values)).any():
        raise DataError(
            f"{path}: values overflow float32 with the rescale slope {slope:g} and the intercept {intercept:g}; "
            "correct the header"
        )
    return values


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Convert any error of the parser into an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise _truncated(path, error) from error


def _truncated(path: Path, reason: object) -> DataError:
    text = " ".join(str(reason).split()) or type(reason).__name__
    return DataError(f"{path}: the file is truncated or damaged ({text}); copy or export it again")


def stored_values(decoded: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Extract the numbers in the lowest BitsStored bits, signed according to PixelRepresentation.

    The bits above them may hold overlays or other data (DICOM PS3.5, 8.1.1).

    Args:
        decoded: A frame from the decoder, with all allocated bits.
        dataset: The file's content.
        path: The file, for messages.

    Raises:
        DataError: If HighBit is not BitsStored - 1.
    """
    if decoded.dtype.kind not in "iu":
        return decoded
    stored, syntax = int(dataset.BitsStored), dataset.file_meta.TransferSyntaxUID
    # Codecs other than RLE return the number alone, independent of its position.
    placed = not syntax.is_compressed or syntax == _RLE
    if placed and int(dataset.get("HighBit", stored - 1)) != stored - 1:
        # Allowed by ACR-NEMA, and read differently by different programs.
        raise DataError(
            f"{path}: HighBit is {dataset.HighBit} and BitsStored {stored}, but only HighBit {stored - 1} is "
            "supported; correct the header if it is wrong, or export the file again"
        )
    size = decoded.dtype.itemsize
    unused = 8 * size - stored
    if unused <= 0:
        return decoded
    # Shift to the left end and back, which extends the sign.
    bits = decoded.astype(decoded.dtype.newbyteorder("="), copy=False).view(f"u{size}") << np.uint8(unused)
    return bits.view(f"{'i' if int(dataset.PixelRepresentation) == 1 else 'u'}{size}") >> np.uint8(unused)


def inverted(stored: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Invert the values of a MONOCHROME1 image, so that large values are bright.

    Raises:
        DataError: If the image has a look-up table or fractional values.
    """
    if dataset.get("ModalityLUTSequence") or stored.dtype.kind not in "iu":
        raise DataError(
            f"{path}: PhotometricInterpretation MONOCHROME1 with ModalityLUTSequence or fractional values is not "
            "supported; export the image as MONOCHROME2"
        )
    highest = -1 if int(dataset.PixelRepresentation) == 1 else 2 ** int(dataset.BitsStored) - 1
    return highest - stored.astype(np.int64)
