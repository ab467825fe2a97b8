"""The directories of a TIFF file, checked for damage that tifffile only logs, and for stacks in descriptions."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from miscnn_tf.errors import DataError

# tifffile skips tags that it cannot parse. These determine position and meaning of the samples.
_NEEDED = frozenset(
    (*range(254, 260), 262, 266, 270, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 330, 332)
    + (338, 339, 347, 530, 32997, 33445, 33628, 33629, 42112)
)
_REDUCED, _MASK = 1, 4
_MOST_PAGES = 100_000
_OME_SIZE = re.compile(r"\bSize([ZCT])\s*=\s*[\"'](\d+)[\"']")
_GDAL_SCALE = re.compile(r"role\s*=\s*[\"'](scale|offset)[\"'][^>]*>\s*([^<\s]+)")
_STRAIGHT_LINE = 0


class Tags:
    """Values of a directory's tags, checked.

    Args:
        path: The file, for messages.
        page: The directory.
    """

    def __init__(self, path: str | Path, page: tifffile.TiffPage) -> None:
        self.path = path
        self.page = page

    def numbers(self, code: int) -> tuple[int, ...]:
        """Return all values of a tag; empty if the tag is missing.

        Raises:
            DataError: If they are not whole numbers.
        """
        value = self.page.tags.valueof(code)
        if value is None:
            return ()
        values = np.ravel(np.asarray(value))
        if values.dtype.kind not in "iu":
            raise self._damaged(code, value)
        return tuple(values.tolist())

    def number(self, code: int, default: int | None = None) -> int:
        """Return the value of a tag.

        Raises:
            DataError: If it is missing and has no default, or is not one whole number.
        """
        values = self.numbers(code) or (() if default is None else (default,))
        if len(values) != 1:
            raise self._damaged(code, values)
        return values[0]

    def same(self, code: int, default: int) -> int:
        """Return the value of a tag that has one per channel.

        Raises:
            DataError: If they differ.
        """
        values = set(self.numbers(code)) or {default}
        if len(values) != 1:
            raise DataError(
                f"{self.path}: {tag_name(code)} differs between channels ({self.numbers(code)}); save the image with "
                "one depth"
            )
        return values.pop()

    def _damaged(self, code: int, value: Any) -> DataError:
        what = "is missing" if value == () else f"is {str(value)[:80]}"
        return DataError(f"{self.path}: the image is damaged: the tag {tag_name(code)} {what}; copy or save it again")


def tag_name(code: int) -> str:
    """Return name and code of a tag, ``"Orientation (274)"``."""
    return f"{tifffile.TIFF.TAGS.get(code, 'tag')} ({code})"


def page_at(tiff: tifffile.TiffFile, number: int) -> tifffile.TiffPage:
    """Return a directory of a file."""
    page = tiff.pages[number]
    assert isinstance(page, tifffile.TiffPage)  # frames only come with `useframes`
    return page


def images_of(path: str | Path, file: BinaryIO, tiff: tifffile.TiffFile) -> list[int]:
    """Find the directories of images: those that are not thumbnails, pyramid levels or masks.

    Raises:
        DataError: If there are none, or the directories are damaged.
    """
    directories = _directories(path, file, tiff)
    if len(tiff.pages) != len(directories):
        raise DataError(f"{path}: the image is damaged (directory {len(tiff.pages)}); copy or save it again")
    found = []
    for number, codes in enumerate(directories):
        page = page_at(tiff, number)
        _check_tags(path, page, codes)
        if not page.subfiletype & (_REDUCED | _MASK):
            found.append(number)
    if not found:
        raise DataError(f"{path}: NewSubfileType marks every page as a thumbnail or mask; save the image itself")
    return found


def only_image(path: str | Path, file: BinaryIO, tiff: tifffile.TiffFile) -> int:
    """Find the directory of the image: the only one that is not a thumbnail, pyramid level or mask.

    Raises:
        DataError: If there are several, or none, or the directories are damaged.
    """
    found = images_of(path, file, tiff)
    if len(found) > 1:
        raise DataError(
            f"{path}: the file holds {len(found)} pages, but a sample is one image; save each page as a sample, or the "
            "stack as NIfTI; stacks of one size are read as volumes with three_dim=True"
        )
    page = page_at(tiff, found[0])
    for child in page.pages or ():
        assert isinstance(child, tifffile.TiffPage)
        area = child.imagelength * child.imagewidth
        if not child.subfiletype & (_REDUCED | _MASK) and area >= page.imagelength * page.imagewidth:
            raise DataError(f"{path}: SubIFDs hold another image of full size; save each as a sample")
    return found[0]


def _directories(path: str | Path, file: BinaryIO, tiff: tifffile.TiffFile) -> list[list[int]]:
    """Return the tag codes of each directory.

    tifffile stops at an offset outside the file, so a truncated stack would look like a single image.
    """
    order = tiff.byteorder
    big = tiff.is_bigtiff
    count_format, offset_format, entry = (order + "Q", order + "Q", 20) if big else (order + "H", order + "I", 12)
    count_size, offset_size = struct.calcsize(count_format), struct.calcsize(offset_format)
    place = 8 if big else 4
    seen: set[int] = set()
    found: list[list[int]] = []
    while True:
        file.seek(place)
        data = file.read(offset_size)
        if len(data) < offset_size:
            break
        (offset,) = struct.unpack(offset_format, data)
        if offset == 0 and found:
            return found
        if offset in seen or len(found) > _MOST_PAGES:
            break
        seen.add(offset)
        file.seek(offset)
        data = file.read(count_size)
        if len(data) < count_size:
            break
        (count,) = struct.unpack(count_format, data)
        entries = file.read(entry * count) if 0 < count <= 4096 else b""
        if len(entries) < entry * count or not entries:
            break
        found.append([struct.unpack_from(order + "H", entries, start)[0] for start in range(0, len(entries), entry)])
        place = offset + count_size + len(entries)
    raise DataError(
        f"{path}: the image is truncated or damaged: directory {len(found)} is not in the file; copy or save it again"
    )


def _check_tags(path: str | Path, page: Any, codes: list[int]) -> None:
    for code, count in Counter(codes).items():
        if code in _NEEDED and (count > 1 or page.tags.get(code) is None):
            what = "occurs twice" if count > 1 else "cannot be parsed"
            raise DataError(f"{path}: the image is damaged: the tag {tag_name(code)} {what}; copy or save it again")


def check_one_plane(path: str | Path, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Check that one directory holds the whole image: some programs write a stack behind a single directory.

    Returns:
        Offset and factor of ImageJ's calibration of the values, by which it keeps signed integers; None without one.

    Raises:
        DataError: If there are more planes, or a scale that is not applied.
    """
    planes = {"ImageDepth": page.imagedepth, "UIC2Tag of MetaMorph": _count(page, 33629)}
    calibration = None
    for text in (page.description, getattr(page, "description1", "")):
        if not isinstance(text, str):
            continue
        if text.startswith("ImageJ="):
            values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            for key in ("images", "slices", "frames", "channels"):
                planes[f"the ImageJ description ({key}={values.get(key)})"] = int(values.get(key, "1"))
            calibration = calibration_of(path, values)
        elif text.lstrip().startswith("{") and '"shape"' in text:
            planes[f"the description {text[:60]}"] = _shaped_planes(text, page)
        elif "<OME" in text:
            planes["the OME-XML description"] = _ome_planes(text, page)
    for what, count in planes.items():
        if count != 1:
            raise DataError(
                f"{path}: the file holds {count} pages, by {what}, but a sample is one image; save each plane as a "
                "sample, or the stack as NIfTI"
            )
    for role, value in _GDAL_SCALE.findall(str(page.tags.valueof(42112, ""))):
        if value not in (("1", "1.0") if role == "scale" else ("0", "0.0")):
            raise DataError(f"{path}: GDAL_METADATA gives a {role} of {value}, which is not applied; apply it")
    if 33445 in page.tags:
        raise DataError(f"{path}: MDFileTag: the values of this gel scan are scaled; export it as plain TIFF")
    return calibration


def _count(page: tifffile.TiffPage, code: int) -> int:
    tag = page.tags.get(code)
    return 1 if tag is None else tag.count


def calibration_of(path: str | Path, values: dict[str, str]) -> tuple[float, float] | None:
    """Return offset and factor of ImageJ's calibration of the values; None without one.

    Raises:
        DataError: If it is not a straight line.
    """
    if "cf" not in values:
        return None
    try:
        function, offset, factor = int(values["cf"]), float(values["c0"]), float(values["c1"])
    except (KeyError, ValueError):
        function, offset, factor = -1, math.nan, math.nan
    if function != _STRAIGHT_LINE or not math.isfinite(offset) or not math.isfinite(factor):
        raise DataError(
            f"{path}: the ImageJ description calibrates the values by function cf={values['cf']}, which is not "
            "applied; apply it in ImageJ (convert to 32-bit, save without calibration)"
        )
    return None if (offset, factor) == (0, 1) else (offset, factor)


def _shaped_planes(text: str, page: tifffile.TiffPage) -> int:
    """Return how many planes tifffile wrote behind the directory; 1 if the description is another image's."""
    try:
        shape = [size for size in map(int, json.loads(text)["shape"]) if size != 1]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 1
    of_page = [size for size in page.shape if size != 1]
    planes = len(shape) - len(of_page)
    return math.prod(shape[:planes]) if planes > 0 and shape[planes:] == of_page else 1


def _ome_planes(text: str, page: tifffile.TiffPage) -> int:
    """Count the planes of all images; channels that are samples of one pixel are one plane."""
    images = max(1, len(re.findall(r"<(?:\w+:)?Pixels\b", text)))
    sizes = {axis: int(size) for axis, size in reversed(_OME_SIZE.findall(text))}
    channels = sizes.get("C", 1)
    if channels == page.samplesperpixel:
        channels = 1
    return images * channels * sizes.get("Z", 1) * sizes.get("T", 1)
