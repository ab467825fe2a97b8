"""Selection of the files below a folder that form the volume of a sample, and of its annotation."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.dicom.header import Header, read_header
from miscnn_tf.data_loading.dicom.series_grid import Grid, make_grid
from miscnn_tf.errors import DataError, MissingDataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """DICOM files below a folder.

    Attributes:
        folder: The folder.
        series: Files of each series of images, by SeriesInstanceUID.
        annotations: RTSTRUCT and SEG files.
        others: Files that are neither: dose reports, plans, slices that lost their image.
    """

    folder: Path
    series: dict[str, list[Header]]
    annotations: list[Header]
    others: list[Header]


def scan_folder(folder: str | Path) -> Scan:
    """Read the headers of all files below a folder; files other than DICOM images and annotations are left out.

    Raises:
        DataError: If a DICOM file is damaged.

    Warns:
        UserWarning: If a file that is not DICOM is named like the slices in the same folder.
    """
    folder = Path(folder)
    files = {path: read_header(path) for path in _files(folder)}
    headers = [header for header in files.values() if header is not None]
    slices = {(header.path.parent, header.path.suffix.lower()) for header in headers if header.is_scan}
    strange = [path for path in files if files[path] is None and (path.parent, path.suffix.lower()) in slices]
    if strange := [path for path in strange if path.name.upper() != "DICOMDIR"]:
        warnings.warn(
            f"{some_of(strange, 3)}: not DICOM and left out, but named like the slices in the same folder. If it is a "
            "slice, copy or export it again",
            UserWarning,
            stacklevel=2,
        )
    return sort_headers(folder, headers)


def sort_headers(folder: Path, headers: Sequence[Header]) -> Scan:
    """Sort headers into series and annotations.

    Raises:
        DataError: If a file of a series has another modality, so that it would be left out.
    """
    series: dict[str, list[Header]] = {}
    annotations: list[Header] = []
    others: list[Header] = []
    for header in headers:
        kept = annotations if header.is_annotation else others
        (series.setdefault(header.series, []) if header.is_scan else kept).append(header)
    for header in others:
        logger.info("%s is left out: %s is not an image of a scan", header.path, header.modality or "this")
        first = series.get(header.series, [header])[0]
        if first.sop_class == header.sop_class and first.modality != header.modality:
            raise DataError(
                f"{header.path} and {first.path} belong to the same series, but their modalities are "
                f"{header.modality} and {first.modality}; export the series again"
            )
    return Scan(folder, series, annotations, others)


def holds_images(folder: str | Path, nested: bool = True) -> bool:
    """Return True if a folder, or one below it, contains a DICOM image.

    Screen captures and reports, which have no position, do not count.
    """
    for path in _files(Path(folder), nested):
        try:
            header = read_header(path)
        except DataError:
            # The damage is reported when the file is read.
            return True
        if header is not None and header.is_scan and (header.planes or not header.is_converted):
            return True
    return False


def choose_series(
    scan: Scan, series: str | None = None, annotation_tag: str | None = None, *, modality: str | None = None
) -> list[Header]:
    """Choose the series that is the image of a sample, and return its files.

    Overview images, images without a position (radiographs, screen captures, dose reports) and images of an unspecific
    modality (OT, SC) are ignored if there are images of a scan.

    Args:
        scan: The files of the sample.
        series: Regular expression that the series' whole description or UID must match; None takes the only one,
            or the one on which the annotation was drawn.
        annotation_tag: Part of the name of the annotation's folder or file; see `choose_annotation`.
        modality: Modality of the series: "CT", "MR", ….

    Raises:
        MissingDataError: If it is missing.
        DataError: If there are several; the message lists them.

    Warns:
        UserWarning: If files without an image or position are left out that could be slices of the series.
    """
    found = scan.series
    if series is not None:
        expression = re.compile(series)
        found = {
            uid: headers
            for uid, headers in found.items()
            if expression.fullmatch(uid) or any(expression.fullmatch(header.description) for header in headers)
        }
    if modality is not None:
        found = {uid: headers for uid, headers in found.items() if headers[0].modality.upper() == modality.upper()}
    best = min((_rank(headers) for headers in found.values()), default=0)
    for uid, headers in found.items():
        if _rank(headers) > best:
            logger.info("%s: series %s (%s) is left out beside the scan", scan.folder, uid, headers[0].description)
    found = {uid: headers for uid, headers in found.items() if _rank(headers) == best}
    if len(found) > 1:
        drawn_on = {
            uid for annotation in _tagged(scan, annotation_tag) for uid in annotation.referenced_series if uid in found
        }
        if len(drawn_on) == 1:
            found = {uid: found[uid] for uid in drawn_on}
    if not found:
        given = {"series": series, "modality": modality}
        which = " and ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        there = f" (found: {describe_series(scan)})" if scan.series else ""
        raise MissingDataError(
            f"{scan.folder} holds no DICOM series{which and f' that matches {which}'}{there}; check the folder"
        )
    if len(found) > 1:
        modalities = sorted({headers[0].modality for headers in found.values()})
        or_modality = f', by its modality, e.g. modality="{modalities[0]}"' if len(modalities) > 1 else ""
        raise DataError(
            f"{scan.folder} holds {len(found)} series, of which one must be chosen: {describe_series(scan)}. "
            f'Choose one by its description or UID, e.g. DICOM_interface(series="…"){or_modality}, or move the others '
            "away"
        )
    chosen = next(iter(found.values()))
    _warn_of_lost_slices(scan, chosen)
    return chosen


def _warn_of_lost_slices(scan: Scan, chosen: Sequence[Header]) -> None:
    """Warn of files that may be slices: one at the end of a series is not missed when its header is damaged."""
    image = chosen[0]
    elsewhere = [header for headers in scan.series.values() if headers is not chosen for header in headers]
    size = (image.modality, image.rows, image.columns)
    for lost, fault in (
        (
            [one for one in elsewhere if not one.planes and (one.modality, one.rows, one.columns) == size],
            "without a position, but of its modality and size",
        ),
        ([one for one in scan.others if one.modality == image.modality], "without an image, but of its modality"),
    ):
        if lost:
            warnings.warn(
                f"{scan.folder}: {some_of([one.path.name for one in lost], 3)} left out beside the series: {fault}. If "
                "these are slices with a damaged header, copy or export them again",
                UserWarning,
                stacklevel=3,
            )


def choose_annotation(scan: Scan, grid: Grid, annotation_tag: str | None = None) -> Header:
    """Choose the RTSTRUCT or SEG that was drawn on a series.

    Args:
        scan: The files of the sample.
        grid: The grid of the series.
        annotation_tag: Part of the name of its folder (any below the sample's) or file; None considers all.

    Raises:
        MissingDataError: If it is missing.
        DataError: If there are several, or it is in another coordinate system.

    Warns:
        UserWarning: If it does not reference the series, but is in its coordinate system.
    """
    image = grid.planes[0][0]
    tagged = _tagged(scan, annotation_tag)
    which = "" if annotation_tag is None else f" whose folder or file name contains {annotation_tag!r}"
    if not tagged:
        others = [str(header.path.relative_to(scan.folder)) for header in scan.annotations]
        raise MissingDataError(
            f"{scan.folder} holds no RTSTRUCT or SEG{which} (found: {some_of(others)}); add it, correct "
            "annotation_tag, or leave this sample out of training"
        )
    fitting = [header for header in tagged if image.series in header.referenced_series]
    if not fitting:
        fitting = [
            header
            for header in tagged
            if not header.referenced_frames
            or not image.frame_of_reference
            or image.frame_of_reference in header.referenced_frames
        ]
        if not fitting:
            first = tagged[0]
            raise DataError(
                f"{first.path} was drawn in another coordinate system than {grid.where}: its frame of reference is "
                f"{some_of(sorted(first.referenced_frames))}, that of the images is {image.frame_of_reference}. Find "
                "the annotation of this series, or register it first"
            )
        warnings.warn(
            f"{fitting[0].path} does not reference the series {image.series}, but has the same frame of reference; "
            "using it",
            UserWarning,
            stacklevel=3,
        )
    if len(fitting) > 1:
        names = [str(header.path.relative_to(scan.folder)) for header in fitting]
        raise DataError(
            f"{scan.folder} holds {len(fitting)} annotations{which} of one series: {some_of(names)}. Choose one by a "
            'part of its folder or file name, e.g. DICOM_interface(annotation_tag="…"), or move the others away'
        )
    chosen = fitting[0]
    if chosen.referenced_frames and image.frame_of_reference not in {"", *chosen.referenced_frames}:
        raise DataError(
            f"{chosen.path} references {grid.where}, but is in another coordinate system: its frame of reference is "
            f"{some_of(sorted(chosen.referenced_frames))}, that of the images is {image.frame_of_reference}. Export "
            "both again"
        )
    return chosen


def grid_of_files(files: Sequence[str | Path], *, frames: Mapping[str, Any] | None = None) -> Grid:
    """Build the grid of the images in a list of files, or below a folder that is the only entry.

    Args:
        files: The files or the folder.
        frames: Images to select if several have the same position; see `make_grid`.

    Raises:
        MissingDataError: If the image is missing.
        DataError: If they do not form a volume.
    """
    paths = [Path(path) for path in files]
    if len(paths) == 1 and paths[0].is_dir():
        return make_grid(choose_series(scan_folder(paths[0])), frames=frames)
    headers = [header for path in paths if (header := read_header(path)) is not None]
    return make_grid(choose_series(sort_headers(paths[0].parent, headers)), frames=frames)


def describe_series(scan: Scan) -> str:
    """List the series, for a message."""
    return some_of(
        (
            f"{headers[0].modality or 'unknown'} {headers[0].description!r} of {len(headers)} file(s) in "
            f"{headers[0].path.parent.relative_to(scan.folder)} ({uid})"
            for uid, headers in scan.series.items()
        ),
        8,
    )


def describe_files(folder: str | Path) -> str | None:
    """List the kinds of DICOM files below a folder, for a message; None without DICOM files."""
    kinds: Counter[str] = Counter()
    for path in _files(Path(folder)):
        header = read_header(path)
        if header is not None:
            lacks = "" if header.planes or not header.is_scan else f" without {header.missing[0]}"
            kinds[f"{header.modality or 'unknown modality'}{lacks}"] += 1
    return some_of((f"{number} of {kind}" for kind, number in kinds.most_common()), 8) if kinds else None


def _rank(headers: Sequence[Header]) -> int:
    """Rank a series by how likely it is the image of the sample; 0 is a scan, higher ranks are less likely."""
    planes = [plane for header in headers for plane in header.planes]
    if any(not plane.localizer for plane in planes):
        return 1 if all(header.is_other for header in headers) else 0
    if planes:
        return 2  # overview images
    return 4 if all(header.is_converted for header in headers) else 3


def _tagged(scan: Scan, annotation_tag: str | None) -> list[Header]:
    if annotation_tag is None:
        return scan.annotations
    return [
        header
        for header in scan.annotations
        if any(annotation_tag in part for part in header.path.relative_to(scan.folder).parts)
    ]


def _files(folder: Path, nested: bool = True) -> list[Path]:
    """List all visible files in a folder, or below it.

    Broken links are included: they may have been slices.
    """
    return sorted(
        path
        for path in (folder.rglob("*") if nested else folder.iterdir())
        if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
