"""Detection of image stacks and scalings that TIFF files declare in descriptions instead of tags."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import tifffile

from miscnn_tf.errors import DataError

_OME_SIZE = re.compile(r"\bSize([ZCT])\s*=\s*[\"'](\d+)[\"']")
_GDAL_SCALE = re.compile(r"role\s*=\s*[\"'](scale|offset)[\"'][^>]*>\s*([^<\s]+)")
_STRAIGHT_LINE = 0


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
            calibration = _calibration(path, values)
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


def _calibration(path: str | Path, values: dict[str, str]) -> tuple[float, float] | None:
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
