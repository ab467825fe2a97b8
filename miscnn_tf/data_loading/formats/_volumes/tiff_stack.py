"""Stacks of TIFF pages as volumes, with the voxel size that ImageJ and OME-TIFF store.

The axes are (column, row, page), as ITK reads them, and point left, posterior and superior if the voxel size is known.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile

from miscnn_tf._base.files import atomic_path, open_regular
from miscnn_tf.data_loading.formats._pictures.meaning import calibrated
from miscnn_tf.data_loading.formats._pictures.picture import check_claim, checked_orientation
from miscnn_tf.data_loading.formats._pictures.tiff import check_page, lossy_compression
from miscnn_tf.data_loading.formats._pictures.tiff_directories import Tags, calibration_of, images_of, page_at
from miscnn_tf.data_loading.formats._pictures.tiff_segments import LOSSLESS, read_segments
from miscnn_tf.data_loading.formats._volumes.volume_format import VolumeFormat, lps_grid
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo, VoxelGrid
from miscnn_tf.errors import DataError, RepeatedWarning

_BLACK_IS_ZERO, _RGB, _PALETTE = 1, 2, 3
_ORIENTATION, _UNCOMPRESSED = 274, 1
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^>]*)>")
_ATTRIBUTE = re.compile(r"\b(\w+)\s*=\s*[\"']([^\"']*)[\"']")
_IN_MILLIMETRES = {
    **dict.fromkeys(("nm", "nanometer"), 1e-6),
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer"), 1e-3),
    **dict.fromkeys(("mm", "millimeter"), 1.0),
    **dict.fromkeys(("cm", "centimeter"), 10.0),
    **dict.fromkeys(("m", "meter"), 1e3),
    **dict.fromkeys(("in", "inch"), 25.4),
}
#: ImageJ shows at most this number of channels in colours; more are slices that a program declared as channels.
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class _Axes:
    """Meaning of the planes: their numbers, and the voxel size in mm along x, y, z, if known."""

    slices: int
    channels: int = 1
    channels_fastest: bool = True
    spacing: tuple[float, float, float] | None = None
    calibration: tuple[float, float] | None = None


@dataclass(frozen=True)
class StackInfo(VolumeInfo):
    """Header of a stack.

    Attributes:
        stored_dtype: Type of the samples.
        pages: Numbers of the directories; a single one if the planes follow each other behind it.
        channels_fastest: Whether the channels of a slice follow each other.
        calibration: Offset and factor from samples to values.
    """

    stored_dtype: np.dtype
    pages: tuple[int, ...]
    channels_fastest: bool
    calibration: tuple[float, float] | None

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that `read` returns: the file's integer type, otherwise float32."""
        dtype = np.dtype(np.uint8) if self.stored_dtype == np.bool_ else self.stored_dtype
        if self.calibration is not None:
            return calibrated(np.zeros(1, dtype), *self.calibration).dtype
        return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")

    def check(self) -> None:
        """Do nothing: the positions and sizes of all pages were checked when the header was read."""

    def read(self) -> np.ndarray:
        """Read all pages, in Fortran order."""
        volume = np.empty(self.shape, self.dtype, order="F")
        slices = self.shape[2]
        channels = self.shape[3] if len(self.shape) > 3 else 1
        with open_regular(self.path) as file, tifffile.TiffFile(file, name=str(self.path)) as tiff:
            first = page_at(tiff, self.pages[0])
            colours = first.samplesperpixel > 1
            for number in range(slices if colours else slices * channels):
                plane = self._plane(tiff, first, number)
                if self.calibration is not None:
                    plane = calibrated(plane, *self.calibration)
                if colours:
                    volume[:, :, number] = plane.swapaxes(0, 1)
                    continue
                by_channel = divmod(number, channels) if self.channels_fastest else divmod(number, slices)[::-1]
                place = (..., *by_channel) if len(self.shape) > 3 else (..., number)
                volume[place] = plane[..., 0].T
        return volume

    def _plane(self, tiff: tifffile.TiffFile, first: tifffile.TiffPage, number: int) -> np.ndarray:
        """Return samples ``(rows, columns, channels)``."""
        if len(self.pages) > 1 or number == 0:
            try:
                return read_segments(self.path, page_at(tiff, self.pages[number]))
            except DataError:
                raise
            except Exception as error:  # decoders may raise any error for damaged data
                raise DataError(f"{self.path}: page {number} is damaged ({error}); copy or save it again") from error
        size = first.imagelength * first.imagewidth * self.stored_dtype.itemsize
        tiff.filehandle.seek(first.dataoffsets[0] + number * size)
        data = tiff.filehandle.read(size)
        if len(data) < size:
            raise DataError(f"{self.path}: the file is truncated: page {number} is not in it; copy or save it again")
        plane = np.frombuffer(data, self.stored_dtype.newbyteorder(tiff.byteorder))
        return plane.reshape(first.imagelength, first.imagewidth, 1).astype(self.stored_dtype)


def read_info(path: Path) -> StackInfo:
    """Read the header of a stack.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, of a kind that is not read, or the pages do not fit together.
    """
    with open_regular(path) as file:
        try:
            with tifffile.TiffFile(file, name=str(path)) as tiff:
                return _stack(path, file, tiff)
        except DataError:
            raise
        except Exception as error:  # damaged headers may raise any error in the parser
            raise DataError(f"{path}: the image is truncated or damaged ({error}); copy or save it again") from error


def is_stack(path: Path) -> bool:
    """Return True if a TIFF file holds several pages of one volume; False for files that cannot be read."""
    try:
        with open_regular(path) as file, tifffile.TiffFile(file, name=str(path)) as tiff:
            pages = images_of(path, file, tiff)
            axes = _described(path, page_at(tiff, pages[0]), warn=False)
            return axes.slices > 1 if axes is not None else len(pages) > 1
    except Exception:  # the reader of single images reports what is wrong
        return False


def write(path: Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array as a stack with the metadata of ImageJ, or of OME-TIFF for types that ImageJ does not have.

    Only the voxel size is stored; see `VolumeFormat`.
    """
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    planes = np.ascontiguousarray(array.transpose((2, 1, 0) if array.ndim == 3 else (2, 3, 1, 0)))
    axes = "ZYX" if array.ndim == 3 else "ZCYX"
    spacing = facts.get("spacing")
    sizes = None if spacing is None else [*map(float, spacing), 1.0][:3]
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "software": "miscnn_tf"}
    with atomic_path(path) as temporary:
        if planes.dtype in (np.uint8, np.uint16, np.float32):
            known = {} if sizes is None else {"spacing": sizes[2], "unit": "mm"}
            resolution = None if sizes is None else (1 / sizes[0], 1 / sizes[1])
            metadata = {"axes": axes, **known}
            tifffile.imwrite(temporary, planes, imagej=True, resolution=resolution, metadata=metadata, **options)
            return
        planes = planes.astype(np.int32) if planes.dtype == np.int64 else planes
        known = {}
        for letter, size in zip("XYZ", sizes or (), strict=False):
            known |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "mm"}
        tifffile.imwrite(temporary, planes, ome=True, metadata={"axes": axes, **known}, **options)


FORMAT: Final[VolumeFormat] = VolumeFormat(
    "TIFF stack", (".tif", ".tiff"), ".tif", read_info, write, recognises=is_stack
)


def _stack(path: Path, file: Any, tiff: tifffile.TiffFile) -> StackInfo:
    file_size = file.seek(0, 2)
    pages = images_of(path, file, tiff)
    first = page_at(tiff, pages[0])
    layout = check_page(path, first, file_size)
    if layout.photometric not in (_BLACK_IS_ZERO, _RGB, _PALETTE) or layout.alpha is not None:
        raise DataError(
            f"{path}: PhotometricInterpretation {layout.photometric} is not read in stacks; save the stack in grey "
            "(BlackIsZero) or RGB, without alpha"
        )
    lossy = lossy_compression(layout)
    if lossy is not None:
        raise DataError(f"{path}: the stack is {lossy}-compressed, which changes values; save it without loss")
    if checked_orientation(path, Tags(path, first).number(_ORIENTATION, 1)) != 1:
        raise DataError(f"{path}: the Orientation tag is not read in stacks; turn the pages upright and save them")
    axes = _described(path, first) or _Axes(len(pages))
    planes = axes.slices * axes.channels
    samples = first.samplesperpixel
    if samples > 1 and axes.channels > 1:
        raise DataError(f"{path}: the stack has {axes.channels} channels of RGB pages; save one axis of channels only")
    page_bytes = first.imagelength * first.imagewidth * samples * max(layout.bits, 8) // 8
    if len(pages) == 1 and planes > 1:
        run = [offset + held for offset, held in zip(first.dataoffsets, first.databytecounts, strict=True)]
        whole = layout.compression == _UNCOMPRESSED and layout.bits >= 8 and samples == 1 and not first.is_tiled
        if not whole or run[:-1] != list(first.dataoffsets[1:]) or run[-1] - first.dataoffsets[0] != page_bytes:
            raise DataError(f"{path}: the description names {planes} pages, the file holds one; save the stack again")
        if first.dataoffsets[0] + planes * page_bytes > file_size:
            raise DataError(
                f"{path}: the file is truncated: {planes} pages need {planes * page_bytes} bytes, the file has "
                f"{file_size}; copy or save it again"
            )
    elif len(pages) != planes:
        raise DataError(
            f"{path}: the description names {axes.slices} slices of {axes.channels} channels, but the file holds "
            f"{len(pages)} pages; save the stack again"
        )
    for number in pages[1:]:
        page = page_at(tiff, number)
        other = check_page(path, page, file_size)
        if (page.shape, page.dtype, other.photometric) != (first.shape, first.dtype, layout.photometric):
            raise DataError(
                f"{path}: page {number} is {page.shape} of {page.dtype}, the first one {first.shape} of {first.dtype}; "
                "the pages of a volume have one size and type"
            )
    size = (first.imagelength, first.imagewidth)
    check_claim(path, size, planes * page_bytes, file_size, LOSSLESS[layout.compression])
    channels = samples if samples > 1 else axes.channels
    shape = (size[1], size[0], axes.slices, *([channels] if channels > 1 else []))
    dtype = np.dtype(first.dtype).newbyteorder("=")
    return StackInfo(path, shape, _grid(axes, path), dtype, tuple(pages), axes.channels_fastest, axes.calibration)


def _grid(axes: _Axes, path: Path) -> VoxelGrid:
    if axes.spacing is None:
        return VoxelGrid(None, None)
    return lps_grid(np.diag(axes.spacing), [0.0] * 3, path, "the voxel sizes of the description")


def _described(path: Path, page: tifffile.TiffPage, *, warn: bool = True) -> _Axes | None:
    """Return the meaning of the pages by the metadata of ImageJ, OME-TIFF or tifffile; None without any."""
    for text in (page.description, page.description1):
        if text.startswith("ImageJ="):
            return _imagej(path, page, text, warn)
        if "<OME" in text or "<Pixels" in text:
            return _ome(path, text, warn)
        if text.lstrip().startswith("{") and (shape := re.search(r'"shape"\s*:\s*\[([\d\s,]*)\]', text)):
            sizes = [int(size) for size in shape[1].split(",") if size.strip()]
            inner = [size for size in page.shape if size != 1]
            outer = sizes[: len(sizes) - len(inner)]
            if len(outer) == 1 and [size for size in sizes[1:] if size != 1] == inner:
                return _Axes(outer[0])
    return None


def _imagej(path: Path, page: tifffile.TiffPage, text: str, warn: bool) -> _Axes:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    counts = {key: int(values.get(key, "1")) for key in ("channels", "slices", "frames")}
    if max(counts.values()) == 1 and "images" in values:
        counts["slices"] = int(values["images"])
    unit = _IN_MILLIMETRES.get(values.get("unit", "").replace("\\u00B5", "µ").strip())
    resolution = [_rational(page.tags.valueof(code)) for code in (282, 283)]
    spacing = None
    if unit is not None and resolution[0] and resolution[1]:
        spacing = (unit / resolution[0], unit / resolution[1], unit * abs(float(values.get("spacing", "1"))))
    return _axes(path, counts, True, spacing, calibration_of(path, values), warn)


def _ome(path: Path, text: str, warn: bool) -> _Axes:
    images = _PIXELS.findall(text)
    if len(images) != 1:
        raise DataError(f"{path}: the OME-XML describes {len(images)} images; save each as a file")
    values = dict(_ATTRIBUTE.findall(images[0]))
    counts = {name: int(values.get(f"Size{axis}", "1")) for axis, name in zip("CZT", _AXES, strict=True)}
    counts["channels"] //= int((re.findall(r"SamplesPerPixel\s*=\s*[\"'](\d+)", text) or ["1"])[0]) or 1
    sizes = [
        float(values[f"PhysicalSize{axis}"]) * _unit_of(values.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "XYZ"
        if f"PhysicalSize{axis}" in values
    ]
    spacing = (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 and all(map(math.isfinite, sizes)) else None
    order = values.get("DimensionOrder", "XYCZT")
    return _axes(path, counts, order.find("C") < order.find("Z"), spacing, None, warn)


_AXES = ("channels", "slices", "frames")


def _unit_of(name: str) -> float:
    return _IN_MILLIMETRES.get(name.replace("&#181;", "µ").replace("&#xB5;", "µ"), math.nan)


def _axes(
    path: Path,
    counts: Mapping[str, int],
    channels_fastest: bool,
    spacing: tuple[float, float, float] | None,
    calibration: tuple[float, float] | None,
    warn: bool,
) -> _Axes:
    channels, slices, frames = (counts[name] for name in _AXES)
    if slices == 1 and (frames > 1) != (channels > _MOST_CHANNELS) and (frames == 1 or channels == 1):
        what, slices = ("frames", frames) if frames > 1 else ("channels", channels)
        if warn:
            warnings.warn(
                RepeatedWarning(
                    f"{path}: the description names {slices} {what} and one slice; they are read as {slices} slices. "
                    "Image > Properties in ImageJ corrects it",
                    key="pages of TIFF stacks",
                ),
                stacklevel=2,
            )
        channels = frames = 1
    if frames > 1:
        raise DataError(f"{path}: the stack has {frames} frames (time points); save each as a file")
    return _Axes(slices, channels, channels_fastest, spacing, calibration)


def _rational(value: Any) -> float:
    """Return the value of a resolution tag; 0 if it is missing or damaged."""
    try:
        number = value[0] / value[1]
    except (TypeError, IndexError, ZeroDivisionError):
        return 0.0
    return float(number) if math.isfinite(number) and number > 0 else 0.0
