"""TIFF files, read with tifffile: tags that are applied, and tags for which a file is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.formats._pictures.picture import Picture, Stored, checked_orientation, has_colours
from miscnn_tf.data_loading.formats._pictures.tiff_directories import Tags, check_one_plane, only_image, page_at
from miscnn_tf.data_loading.formats._pictures.tiff_segments import (
    LOSSLESS,
    check_compression,
    check_segments,
    read_segments,
)
from miscnn_tf.errors import DataError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _COLOR_MAP, _INK_SET, _EXTRA, _FORMAT = 274, 277, 284, 320, 332, 338, 339

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_OTHER_PHOTOMETRIC = {
    4: "TransparencyMask",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "CFA",
    32844: "LogL",
    32845: "LogLuv",
    34892: "LinearRaw",
    51177: "Depth",
}
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_BITS_OF_FORMAT = {1: (1, 2, 4, 8, 10, 12, 14, 16, 32, 64), 2: (8, 16, 32, 64), 3: (16, 32, 64)}
_ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class PageLayout:
    """Meaning of the samples of one directory.

    Attributes:
        photometric: PhotometricInterpretation.
        compression: Compression.
        bits: Bits per sample.
        alpha: Kind of alpha that follows the colours, if any.
        palette: Colours of the indices, if any.
    """

    photometric: int
    compression: int
    bits: int
    alpha: int | None
    palette: np.ndarray | None

    @property
    def channels(self) -> int:
        """Samples of a pixel without alpha."""
        return _CHANNELS[self.photometric]


def open_tiff(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a TIFF file.

    Raises:
        DataError: If it is damaged, holds several images, or a tag gives it a meaning that is not applied.
    """
    with tifffile.TiffFile(file, name=str(path)) as tiff:
        index = only_image(path, file, tiff)
        page = page_at(tiff, index)
        tag = Tags(path, page)
        layout = check_page(path, page, file.seek(0, 2))
        calibration = check_one_plane(path, page)
        orientation = checked_orientation(path, tag.number(_ORIENTATION, 1))
        software = page.software if isinstance(page.software, str) and page.software else None
        size = (tag.number(_LENGTH), tag.number(_WIDTH))

    def read() -> Stored:
        with open_regular(path) as again, tifffile.TiffFile(again, name=str(path)) as reopened:
            samples = read_segments(path, page_at(reopened, index))
        channels = layout.channels
        alpha = samples[..., channels] if layout.alpha is not None else None
        colours = samples[..., 0] if channels == 1 else samples[..., :channels]
        return Stored(
            colours,
            {_PALETTE: "palette", _CMYK: "cmyk"}.get(layout.photometric, "grey" if channels == 1 else "rgb"),
            layout.bits,
            white_is_zero=layout.photometric == _WHITE_IS_ZERO,
            palette=layout.palette,
            alpha=alpha,
            premultiplied=layout.alpha == _ASSOCIATED,
            calibration=calibration,
        )

    coloured = has_colours(layout.palette) if layout.palette is not None else layout.channels > 1
    lossy = lossy_compression(layout)
    return Picture(size, orientation, coloured, read, lossy=lossy, software=software, palette=layout.palette)


def lossy_compression(layout: PageLayout) -> str | None:
    """Return the compression of a directory if it changes values."""
    if layout.compression in LOSSLESS:
        return None
    return "JPEG" if layout.compression == 7 else f"lossily (Compression {layout.compression})"


def check_page(path: str | Path, page: tifffile.TiffPage, file_size: int) -> PageLayout:
    """Check the tags of one directory, and that its samples are in the file.

    Raises:
        DataError: If it is damaged, or of a kind that is not read.
    """
    tag = Tags(path, page)
    photometric, compression = tag.number(_PHOTOMETRIC), tag.number(_COMPRESSION, 1)
    bits, sample_format = tag.same(_BITS, 1), tag.same(_FORMAT, 1)
    if photometric in _OTHER_PHOTOMETRIC or photometric not in _CHANNELS:
        raise DataError(
            f"{path}: PhotometricInterpretation {photometric} ({_OTHER_PHOTOMETRIC.get(photometric, 'unknown')}) "
            "cannot be read; save the image in grey or RGB"
        )
    if bits not in _BITS_OF_FORMAT.get(sample_format, ()) or (bits < 8 and photometric not in (0, 1, 3)):
        raise DataError(
            f"{path}: BitsPerSample {bits} with SampleFormat {sample_format} cannot be read here; save the image "
            "with 8 or 16 bits, or as float32"
        )
    if photometric in (_PALETTE, _CMYK, _YCBCR) and (sample_format != 1 or bits > 16):
        raise DataError(f"{path}: PhotometricInterpretation {photometric} needs integers of at most 16 bits")
    if photometric == _YCBCR and compression != 7:
        raise DataError(
            f"{path}: PhotometricInterpretation YCbCr without JPEG compression cannot be read; save it as RGB"
        )
    if photometric == _CMYK and (tag.number(_INK_SET, 1) != 1 or compression == 7):
        raise DataError(f"{path}: these CMYK inks cannot be turned into colours (InkSet); save the image as RGB")
    if tag.number(_PLANAR, 1) not in (1, 2):
        raise DataError(f"{path}: PlanarConfiguration {tag.number(_PLANAR, 1)} is not defined; save it again")
    check_compression(path, page)
    check_segments(path, page, file_size)
    extra = tag.numbers(_EXTRA)
    kind = _alpha_kind(path, tag.number(_SAMPLES, 1), _CHANNELS[photometric], extra)
    palette = _palette(path, tag.numbers(_COLOR_MAP), bits) if photometric == _PALETTE else None
    return PageLayout(photometric, compression, bits, kind, palette)


def _alpha_kind(path: str | Path, samples: int, channels: int, extra: tuple[int, ...]) -> int | None:
    """Return the kind of alpha that follows the colours, if any."""
    if samples == channels:
        return None
    if samples == channels + 1 and extra in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        return extra[0]
    raise DataError(
        f"{path}: PhotometricInterpretation explains {channels} of {samples} samples per pixel; ExtraSamples is "
        f"{extra or 'missing'}, and only an alpha channel (1 or 2) can be left out. Save the channels as NIfTI, or "
        "as RGB"
    )


def _palette(path: str | Path, entries: tuple[int, ...], bits: int) -> np.ndarray:
    """Return the colours of a ColorMap ``(n, 3)``, as uint8 if they fit."""
    if len(entries) != 3 * 2**bits or max(entries, default=0) > 2**16 - 1:
        raise DataError(
            f"{path}: the image is damaged: ColorMap has {len(entries)} numbers, not {3 * 2**bits}; save it again"
        )
    colours = np.array(entries, np.uint16).reshape(3, -1).T
    high, low = colours >> 8, colours & 255
    if not high.any():
        # Old writers stored 8-bit values unscaled; libtiff detects them in the same way.
        return low.astype(np.uint8)
    return high.astype(np.uint8) if not low.any() or (low == high).all() else colours
