"""Which of the files below a folder make the volume of a sample, and which of them are its annotation."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miscnn_tf.data_loading.dicom.grid import Grid, make_grid
from miscnn_tf.data_loading.dicom.header import Header, read_header
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.messages import some_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """What lies below a folder.

    Attributes:
        folder: The folder.
        series: The files of each series of images, by SeriesInstanceUID.
        annotations: RTSTRUCT and SEG files.
    """

    folder: Path
    series: dict[str, list[Header]]
    annotations: list[Header]


def scan_folder(folder: str | Path) -> Scan:
    """Look at all files below a folder; what is no DICOM image or annotation is left out.

    Raises:
        DataError: If a DICOM file is damaged.
    """
    folder = Path(folder)
    return sort_headers(folder, [header for path in _files(folder) if (header := read_header(path)) is not None])


def sort_headers(folder: Path, headers: Sequence[Header]) -> Scan:
    """Headers, sorted into series and annotations."""
    series: dict[str, list[Header]] = {}
    annotations = []
    for header in headers:
        if header.is_annotation:
            annotations.append(header)
        elif header.is_scan:
            series.setdefault(header.series, []).append(header)
        else:
            logger.info("%s is left out: %s is no image of a scan", header.path, header.modality or "this")
    return Scan(folder, series, annotations)


def holds_images(folder: str | Path, nested: bool = True) -> bool:
    """Whether there is a DICOM image in a folder, or below it; looks until one is found."""
    for path in _files(Path(folder)) if nested else sorted(Path(folder).iterdir()):
        try:
            header = read_header(path) if path.is_file() else None
        except DataError:
            # Something is there, and will be complained about when it is read.
            return True
        if header is not None and header.is_scan:
            return True
    return False


def choose_series(scan: Scan, series: str | None = None, annotation_tag: str | None = None) -> list[Header]:
    """The files of the series that is the image of a sample.

    Args:
        scan: What there is.
        series: Regular expression that the series' description or UID must match as a whole; None takes the only one,
            or the one on which the annotation was drawn.
        annotation_tag: What the folder or file of the annotation is called; see `choose_annotation`.

    Raises:
        MissingDataError: If there is none.
        DataError: If there are several; the message lists them.
    """
    found = scan.series
    if series is not None:
        expression = re.compile(series)
        found = {
            uid: headers
            for uid, headers in found.items()
            if expression.fullmatch(uid) or any(expression.fullmatch(header.description) for header in headers)
        }
    else:
        # An overview image beside the volume is no volume of its own.
        real = {uid: headers for uid, headers in found.items() if not _is_localizer(headers)}
        found = real or found
    if len(found) > 1:
        drawn_on = {
            uid for annotation in _tagged(scan, annotation_tag) for uid in annotation.referenced_series if uid in found
        }
        if len(drawn_on) == 1:
            found = {uid: found[uid] for uid in drawn_on}
    if not found:
        which = "" if series is None else f" that series={series!r} matches"
        there = f" (found: {describe_series(scan)})" if scan.series else ""
        raise MissingDataError(f"{scan.folder} holds no DICOM series{which}{there}; check the folder")
    if len(found) > 1:
        raise DataError(
            f"{scan.folder} holds {len(found)} series, and nothing says which one is meant: {describe_series(scan)}. "
            'Choose one by its description or UID, e.g. DICOM_interface(series="…"), or move the others away'
        )
    return next(iter(found.values()))


def choose_annotation(scan: Scan, grid: Grid, annotation_tag: str | None = None) -> Header:
    """The RTSTRUCT or SEG that was drawn on a series.

    Args:
        scan: What there is.
        grid: The grid of the series.
        annotation_tag: A part of the name of its folder (any below the sample's) or file; None: all are looked at.

    Raises:
        MissingDataError: If there is none.
        DataError: If there are several, or it lies in another coordinate system.

    Warns:
        UserWarning: If it does not name the series, but lies in its coordinate system.
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
            f"{fitting[0].path} does not name the series {image.series} as the one that it was drawn on, but lies in "
            "its coordinate system; it is used",
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
            f"{chosen.path} names {grid.where}, but lies in another coordinate system: its frame of reference is "
            f"{some_of(sorted(chosen.referenced_frames))}, that of the images is {image.frame_of_reference}. Export "
            "both again"
        )
    return chosen


def grid_of_files(files: Sequence[str | Path]) -> Grid:
    """The grid of the images in a list of files, or below a folder that is the only entry.

    Raises:
        MissingDataError: If there is no image.
        DataError: If they make no volume.
    """
    paths = [Path(path) for path in files]
    if len(paths) == 1 and paths[0].is_dir():
        return make_grid(choose_series(scan_folder(paths[0])))
    for path in paths:
        if not path.is_file():
            raise MissingDataError(f"{path}: there is no such file; check the path")
    headers = [header for path in paths if (header := read_header(path)) is not None]
    return make_grid(choose_series(sort_headers(paths[0].parent, headers)))


def describe_series(scan: Scan) -> str:
    """The series that there are, for a message."""
    return some_of(
        (
            f"{headers[0].modality or 'unknown'} {headers[0].description!r} of {len(headers)} file(s) in "
            f"{headers[0].path.parent.relative_to(scan.folder)} ({uid})"
            for uid, headers in scan.series.items()
        ),
        8,
    )


def _is_localizer(headers: Sequence[Header]) -> bool:
    planes = [plane for header in headers for plane in header.planes]
    return bool(planes) and all(plane.localizer for plane in planes)


def _tagged(scan: Scan, annotation_tag: str | None) -> list[Header]:
    if annotation_tag is None:
        return scan.annotations
    return [
        header
        for header in scan.annotations
        if any(annotation_tag in part for part in header.path.relative_to(scan.folder).parts)
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
