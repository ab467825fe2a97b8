"""Damaged RTSTRUCT files: the voxels that pydicom and matplotlib find in them, or one error."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import shapely
from damaged_dicom import UIDS, altered_files, collected_warnings, content, write_blank_series
from dicom_series import DISTANCE, ORIGIN, SPACING, make_rtstruct, square
from fuzzing import fuzz, how_many, mutations, truncations
from matplotlib.path import Path as Polygon

from miscnn_tf.data_loading.dicom.rtstruct import read_rtstruct, roi_mask, roi_names

SHAPE = (4, 14, 12)
CENTRES = np.stack(np.indices(SHAPE[1:]), axis=-1).reshape(-1, 2)
NAME = "rt.dcm"


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_blank_series(tmp_path_factory.mktemp("series"), SHAPE)


@pytest.fixture(scope="module")
def rtstruct(series):
    return make_rtstruct(
        series[0],
        {
            "Heart": [(0, square(1.5, 7.5)), (1, square(1.3, 9.4)), (1, square(3.6, 6.5)), (2, square(2.2, 5.5))],
            "Lung": [(1, square(2.5, 8.5)), (1, square(6.5, 10.5)), (2, square(1.5, 4.5), "OPEN_PLANAR")],
            "Nodules": [(3, square(1.5, 4.5), "CLOSEDPLANAR_XOR"), (3, square(5.5, 9.5), "CLOSEDPLANAR_XOR")],
        },
        **UIDS | {"SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.5"},
    )


def reader(grid):
    def read(path: Path):
        with collected_warnings() as messages:
            structures = read_rtstruct(path)
            masks = {number: roi_mask(structures, number, grid, path) for number in roi_names(structures)}
        return roi_names(structures), masks, messages

    return read


def judge(path: Path, result) -> str | None:
    """Compare the masks with those of another parser of the numbers and another test of points in polygons."""
    names, masks, messages = result
    dataset = pydicom.dcmread(path, force=True)
    listed = {int(item.ROINumber): str(item.get("ROIName") or "") for item in dataset.StructureSetROISequence}
    if listed != names:
        return f"the names are {names}, not {listed}"
    for number in names:
        slices: dict[int, list[np.ndarray]] = {}
        left_out = 0
        for item in dataset.get("ROIContourSequence") or ():
            referenced = item.get("ReferencedROINumber")
            if referenced in (None, "") or int(referenced) != number:
                continue
            for contour in item.get("ContourSequence") or ():
                points = points_of(contour)
                kind = text_of(contour, "ContourGeometricType").upper() or "CLOSED_PLANAR"
                if isinstance(points, str):
                    return points
                if kind == "POINT":
                    continue
                drawn = kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") and len(set(map(tuple, points))) > 2
                # Comparisons with NaN are false.
                if not drawn or not np.abs(points).max() <= 1e6:
                    left_out += 1
                else:
                    x, y, z = points.T
                    depth = (z - ORIGIN[2]) / DISTANCE
                    if np.ptp(depth) > 0.501:
                        return "a contour that is in no plane was drawn"
                    rows, columns = (y - ORIGIN[1]) / SPACING[0], (x - ORIGIN[0]) / SPACING[1]
                    middle = float(np.median(depth))
                    if abs(middle - round(middle)) > 0.01:
                        return None  # of contours on several planes the nearest is drawn, with a warning
                    slices.setdefault(round(middle), []).append(np.stack([rows, columns], axis=1))
        if left_out and not any("left out" in one and repr(names[number]) in one for one in messages):
            return f"{left_out} contours are left out of {names[number]!r} without a warning: {messages}"
        for position in range(SHAPE[0]):
            if complaint := wrong_pixels(masks[number][position], slices.get(position, [])):
                return f"structure {number}, slice {position}: {complaint}"
    return None


def points_of(contour) -> np.ndarray | str:
    try:
        numbers, claimed = numbers_of(contour, "ContourData"), numbers_of(contour, "NumberOfContourPoints")
        if claimed and 3 * claimed[0] != len(numbers):
            return "another number of points was accepted"
        if any(numbers_of(contour, "ContourOffsetVector")):
            return "an offset was accepted"
        return np.array(numbers).reshape(-1, 3)
    except ValueError as error:
        return f"numbers that are none were accepted: {error}"


def numbers_of(contour, keyword: str) -> list[float]:
    text = text_of(contour, keyword)
    return [float(one.replace("_", "?")) for one in text.split("\\")] if text else []


def text_of(contour, keyword: str) -> str:
    """Return a value as in the file, regardless of its type."""
    return (contour.get_item(keyword).value or b"").decode("latin-1").strip(" \0") if keyword in contour else ""


def wrong_pixels(mask: np.ndarray, contours: list[np.ndarray]) -> str | None:
    if not contours:
        return f"{mask.sum()} pixels without a contour" if mask.any() else None
    lines = shapely.multilinestrings([shapely.linestrings(np.concatenate([one, one[:1]])) for one in contours])
    clear = shapely.distance(lines, shapely.points(CENTRES)) > 0.02
    times = sum(Polygon(np.concatenate([one, one[:1]])).contains_points(CENTRES).astype(int) for one in contours)
    # What two contours surround depends on how they are nested, which other tests look at.
    wrong = clear & (times < 2) & (mask.ravel() != times)
    return f"{wrong.sum()} pixels are not those of matplotlib" if wrong.any() else None


@how_many
def test_damaged_bytes_give_the_voxels_of_matplotlib_or_an_error(tmp_path, series, rtstruct, number):
    fuzzed = fuzz(reader(series[1]), mutations(content(rtstruct), number, 11), tmp_path, NAME, judge=judge)
    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10


@how_many
def test_missing_and_other_elements_give_the_voxels_of_matplotlib_or_an_error(tmp_path, series, rtstruct, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzed = fuzz(reader(series[1]), altered_files(rtstruct, number, 12), tmp_path, NAME, judge=judge)
    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10


def test_every_truncation_is_an_error_or_gives_all_contours(tmp_path, series, rtstruct):
    whole = content(rtstruct)
    (tmp_path / NAME).write_bytes(whole)
    names, masks, _ = reader(series[1])(tmp_path / NAME)

    def same(path, result):
        # Cut between two elements of the file itself, it is a file without the later ones, and a warning says so.
        if any("no ROIContourSequence" in one for one in result[2]):
            return None
        equal = result[0] == names and all(np.array_equal(result[1][one], masks[one]) for one in names)
        return None if equal else "contours are missing without a warning"

    fuzzed = fuzz(reader(series[1]), truncations(whole), tmp_path / "cut", NAME, judge=same)
    assert not fuzzed.failures, "\n".join(fuzzed.failures[:20])
    assert fuzzed.refused > 0.9 * len(whole)
