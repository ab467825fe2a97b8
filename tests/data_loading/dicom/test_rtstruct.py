"""Contours of an RTSTRUCT on the voxels of its series."""

from __future__ import annotations

import logging
import shutil
import warnings

import numpy as np
import pytest
from dicom_series import ORIENTATIONS, group, make_rtstruct, make_series, random_volume, save_series, square
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from skimage.draw import polygon2mask

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.dicom.rtstruct import read_rtstruct, roi_mask, roi_names
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.interfaces import DICOM_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError

SHAPE = (6, 20, 24)


def written(folder, rng, contours, orientation=ORIENTATIONS["axial"], drawn_on=None, **how):
    """The mask of a structure that is drawn on a series."""
    series = make_series(random_volume(rng, SHAPE), orientation, **how)
    save_series(folder / "ct", series)
    rtstruct = make_rtstruct(drawn_on or series, {"Body": [(0, square(0, 19))], "Heart": contours})
    (path,) = save_series(folder / "rt", [rtstruct])
    dataset = read_rtstruct(path)
    assert roi_names(dataset) == {7: "Body", 8: "Heart"}
    return roi_mask(dataset, 8, grid_of_files([folder / "ct"]), path)


def block(*parts):
    mask = np.zeros(SHAPE, bool)
    for slices, rows, columns in parts:
        mask[slices, rows, columns] = True
    return mask


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_contours_lie_where_the_standard_puts_them_in_any_direction(tmp_path, rng, name):
    box = [(2.5, 4.5), (2.5, 9.5), (8.5, 9.5), (8.5, 4.5)]
    mask = written(tmp_path, rng, [(1, box), (2, box)], ORIENTATIONS[name])
    np.testing.assert_array_equal(mask, block((slice(1, 3), slice(3, 9), slice(5, 10))))


def test_contours_follow_the_slices_of_a_tilted_gantry(tmp_path, rng):
    box = [(2.5, 4.5), (2.5, 9.5), (8.5, 9.5), (8.5, 4.5)]
    with pytest.warns(UserWarning, match="gantry was tilted"):
        mask = written(tmp_path, rng, [(n, box) for n in range(6)], shift=(0, 0.7, 0))
    np.testing.assert_array_equal(mask, block((slice(0, 6), slice(3, 9), slice(5, 10))))


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_holes_are_no_part_of_it(tmp_path, rng, kind):
    contours = [(3, square(1.5, 15.5), kind), (3, square(5.5, 9.5), kind)]
    mask = written(tmp_path, rng, contours)
    wanted = block((3, slice(2, 16), slice(2, 16)))
    wanted[3, 6:10, 6:10] = False
    np.testing.assert_array_equal(mask, wanted)


def test_keyholes_are_holes(tmp_path, rng):
    outer, hole = square(1.5, 15.5), square(5.5, 9.5)
    keyhole = [*outer, outer[0], hole[0], *hole[::-1], outer[0]]
    mask = written(tmp_path, rng, [(3, keyhole)])
    wanted = block((3, slice(2, 16), slice(2, 16)))
    wanted[3, 6:10, 6:10] = False
    np.testing.assert_array_equal(mask, wanted)


def test_points_and_open_contours_are_left_out_with_a_note(tmp_path, rng, caplog):
    caplog.set_level(logging.INFO)
    contours = [(2, [(3, 3)], "POINT"), (2, square(4, 8), "OPEN_PLANAR"), (1, square(3.5, 5.5))]
    with pytest.warns(
        UserWarning, match=r"'Heart': 1 contour\(s\) left out, .*OPEN_PLANAR.*\(slice 2, z = 125.25 mm\)"
    ):
        mask = written(tmp_path, rng, contours)
    np.testing.assert_array_equal(mask, block((1, slice(4, 6), slice(4, 6))))
    assert "1 contour(s) of the kind POINT have no area" in caplog.text


def test_a_structure_of_points_alone_is_told(tmp_path, rng):
    with pytest.warns(
        UserWarning, match=r"'Heart': 2 contour\(s\) left out, as .* POINT .*\(z = 125.25 mm, z = 127.75 mm"
    ):
        mask = written(tmp_path, rng, [(2, [(3, 3)], "POINT"), (3, [(3, 3)], "POINT")])
    assert not mask.any()


def test_a_contour_between_two_slices_belongs_to_the_nearer(tmp_path, rng):
    mask = written(tmp_path, rng, [(2.4, square(3.5, 5.5)), (3.7, square(3.5, 5.5))])
    np.testing.assert_array_equal(mask, block(([2, 4], slice(4, 6), slice(4, 6))))


@pytest.mark.parametrize("noise", [0, 0.001])
def test_contours_halfway_between_the_slices_leave_none_out(tmp_path, rng, noise):
    at = [0.5 - noise, 1.5 + noise, 2.5 - noise, 3.5 + noise]
    mask = written(tmp_path, rng, [(depth, square(3.5, 5.5)) for depth in at])
    np.testing.assert_array_equal(mask, block((slice(1, 5), slice(4, 6), slice(4, 6))))


def test_contours_of_one_plane_may_differ_in_the_last_digit(tmp_path, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = written(tmp_path, rng, [(2.0049, square(3.5, 5.5)), (2.0051, square(10.5, 12.5))])
    np.testing.assert_array_equal(mask, block((2, slice(4, 6), slice(4, 6)), (2, slice(11, 13), slice(11, 13))))


def test_contours_on_thinner_slices_do_not_cancel_each_other(tmp_path, rng):
    contours = [(number / 2, square(3.5, 5.5 + number % 2)) for number in range(2, 8)]
    with pytest.warns(UserWarning, match="drawn on thinner slices"):
        mask = written(tmp_path, rng, contours)
    # Those on whole numbers are nearer than those between.
    np.testing.assert_array_equal(mask[1:4], block((slice(1, 4), slice(4, 6), slice(4, 6)))[1:4])


def test_contours_on_thicker_slices_are_told(tmp_path, rng):
    with pytest.warns(UserWarning, match="about one in 2 slices"):
        written(tmp_path, rng, [(number, square(3.5, 5.5)) for number in (0, 2, 4)])


def test_contours_outside_the_volume_are_told_and_left_out(tmp_path, rng):
    longer = make_series(np.zeros((12, 20, 24)))
    series = longer[:6]
    save_series(tmp_path / "ct", series)
    rtstruct = make_rtstruct(longer, {"Heart": [(3, square(3.5, 5.5)), (5.6, square(3.5, 5.5)), (9, square(1, 8))]})
    (path,) = save_series(tmp_path / "rt", [rtstruct])
    with pytest.warns(UserWarning, match=r"'Heart' has 2 contour\(s\) outside"):
        mask = roi_mask(read_rtstruct(path), 7, grid_of_files([tmp_path / "ct"]), path)
    np.testing.assert_array_equal(mask, block((3, slice(4, 6), slice(4, 6))))


def test_contours_across_the_slices_are_refused(tmp_path, rng):
    sagittal = make_series(random_volume(rng, (6, 6, 6)), ORIENTATIONS["sagittal"], origin=(-38, -50, 133))
    with pytest.raises(DataError, match=r"'Heart' has contours across the slices"):
        written(tmp_path, rng, [(2, square(0.5, 4.5))], drawn_on=sagittal)


def test_what_pydicom_ships_is_read():
    path = get_testdata_file("rtstruct.dcm", download=False)
    names = roi_names(read_rtstruct(path))
    assert names == {1: "patient", 2: "Isocenter 1", 3: "Isocenter 2"}


@pytest.mark.parametrize("keep", [0.4, 0.8, 0.99])
def test_a_truncated_file_is_named(tmp_path, rng, keep):
    series = make_series(random_volume(rng, SHAPE))
    (path,) = save_series(tmp_path, [make_rtstruct(series, {"Heart": [(n, square(1, 9)) for n in range(6)]})])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"000000\.dcm: the RTSTRUCT is truncated or damaged"):
        read_rtstruct(path)


def test_a_damaged_number_is_an_error_that_names_the_file(tmp_path, rng):
    series = make_series(random_volume(rng, SHAPE))
    rtstruct = make_rtstruct(series, {"Heart": [(1, square(3.5, 5.5))]})
    rtstruct.ROIContourSequence[0].ReferencedROINumber = 987654
    (path,) = save_series(tmp_path, [rtstruct])
    path.write_bytes(path.read_bytes().replace(b"987654", b"987\xd954"))
    with pytest.raises(DataError, match=r"000000\.dcm: the RTSTRUCT is truncated or damaged"):
        read_rtstruct(path)


def test_another_kind_of_file_is_refused(tmp_path):
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), tmp_path / "rt.dcm")
    with pytest.raises(DataError, match="truncated or damaged"):
        read_rtstruct(tmp_path / "rt.dcm")


# ---------------------------------------------------------------- contours that are easily read wrong

BOX = [(2.5, 2.5), (2.5, 12.5), (12.5, 12.5), (12.5, 2.5)]


def text_of(points):
    """Points in DICOM's mm on slice 3 of the axial series, as text."""
    return "\\".join(f"{v:g}" for r, c in points for v in (-40 + 0.6 * c, -55.5 + 0.8 * r, 120.25 + 3 * 2.5))


def set_data(contour, text, count=None):
    """Whatever text, which pydicom itself would not write."""
    data = text.encode() + b" " * (len(text) % 2)
    contour[0x30060050] = RawDataElement(Tag(0x30060050), "DS", len(data), data, 0, False, True, True)
    if count is not None:
        contour.NumberOfContourPoints = count


def sample(folder, rng, change=lambda rtstruct: None, contours=((3, BOX), (4, BOX)), orientation=ORIENTATIONS["axial"]):
    """A data set of one sample, whose RTSTRUCT is changed; and the RTSTRUCT's path."""
    series = make_series(random_volume(rng, SHAPE), orientation)
    save_series(folder / "data" / "a" / "ct", series)
    rtstruct = make_rtstruct(series, {"Body": [(2, square(0.5, 18.5))], "Heart": list(contours)})
    change(rtstruct)
    (path,) = save_series(folder / "data" / "a" / "rt", [rtstruct])
    return Data_IO(DICOM_interface(classes=3, structure_dict={"Body": 1, "Heart": 2}), folder / "data"), path


def heart(data_io):
    """The slices of the heart, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = data_io.interface.load_segmentation("a")
    return labels == 2, [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def first(rtstruct):
    return rtstruct.ROIContourSequence[1].ContourSequence[0]


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("other", [BOX, BOX[2:] + BOX[:2], BOX[::-1], [*BOX, BOX[0]], [*BOX[::-1], BOX[-1]]])
def test_rtstruct_with_one_polygon_twice_rolled_reversed_or_closed_is_drawn_once(tmp_path, rng, kind, other):
    data_io, _ = sample(tmp_path, rng, contours=[(3, BOX, kind), (3, other, kind)])
    mask, told = heart(data_io)
    np.testing.assert_array_equal(mask, block((3, slice(3, 13), slice(3, 13))))
    # By the letter, exclusive-or would remove it.
    assert [("same contour more than once (slice 3, z = 127.75 mm)" in one) for one in told] == (
        [] if kind == "CLOSED_PLANAR" else [True]
    )


def test_rtstruct_with_crossing_closed_planar_contours_is_their_union_with_a_warning(tmp_path, rng):
    other = [(7.5, 7.5), (7.5, 20.5), (17.5, 20.5), (17.5, 7.5)]
    data_io, path = sample(tmp_path, rng, contours=[(3, BOX), (3, other), (4, BOX)])
    mask, told = heart(data_io)
    assert mask[3].sum() == 100 + 130 - 25
    np.testing.assert_array_equal(mask[3], polygon2mask(SHAPE[1:], BOX) | polygon2mask(SHAPE[1:], other))
    (warned,) = told
    assert warned.startswith(
        f"{path}: the structure 'Heart' has contours that overlap in part (slice 3, z = 127.75 mm); they are united, "
        "but other programs"
    )
    assert warned in [finding.message for finding in verify(data_io).findings]


def test_rtstruct_with_crossing_closedplanar_xor_contours_keeps_the_exclusive_rule(tmp_path, rng):
    other = [(7.5, 7.5), (7.5, 20.5), (17.5, 20.5), (17.5, 7.5)]
    data_io, _ = sample(tmp_path, rng, contours=[(3, BOX, "CLOSEDPLANAR_XOR"), (3, other, "CLOSEDPLANAR_XOR")])
    mask, told = heart(data_io)
    np.testing.assert_array_equal(mask[3], polygon2mask(SHAPE[1:], BOX) ^ polygon2mask(SHAPE[1:], other))
    assert told == []


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_crossing_contours_are_united_in_any_direction(tmp_path, rng, name):
    other = [(7.5, 7.5), (7.5, 20.5), (17.5, 20.5), (17.5, 7.5)]
    data_io, _ = sample(tmp_path, rng, contours=[(3, BOX), (3, other)], orientation=ORIENTATIONS[name])
    mask, told = heart(data_io)
    assert mask.sum() == mask[3].sum() == 100 + 130 - 25
    assert "(slice 3, z = " in told[0]


def test_a_contour_that_surrounds_an_area_twice_is_told(tmp_path, rng):
    inner = [(5.5, 5.5), (5.5, 9.5), (9.5, 9.5), (9.5, 5.5)]
    data_io, _ = sample(tmp_path, rng, contours=[(3, [*BOX, BOX[0], *inner, inner[0], BOX[0]])])
    mask, told = heart(data_io)
    assert mask.sum() == 100 - 16
    assert "'Heart' has contours that surround an area twice (slice 3, z = 127.75 mm)" in told[0]


LEFT_OUT = {
    "NaN": (lambda one: set_data(one, "nan" + text_of(BOX)[5:]), "not all of its coordinates are finite"),
    "1e400": (lambda one: set_data(one, "1e400" + text_of(BOX)[5:]), "not all of its coordinates are finite"),
    "-inf": (lambda one: set_data(one, "-inf" + text_of(BOX)[5:]), "not all of its coordinates are finite"),
    "1e300": (lambda one: set_data(one, "1e300" + text_of(BOX)[5:]), "more than a kilometre"),
    "two points": (lambda one: set_data(one, text_of(BOX[:2]), 2), "fewer than three distinct points"),
    "one point": (lambda one: set_data(one, text_of(BOX[:1]), 1), "fewer than three distinct points"),
    "one point many times": (lambda one: set_data(one, text_of(BOX[:1] * 4)), "fewer than three distinct points"),
    "two points closed": (lambda one: set_data(one, text_of([*BOX[:2], BOX[0], BOX[1]])), "fewer than three distinct"),
    "OPEN_PLANAR": (lambda one: setattr(one, "ContourGeometricType", "OPEN_PLANAR"), "OPEN_PLANAR surrounds no area"),
    "OPEN_NONPLANAR": (lambda one: setattr(one, "ContourGeometricType", "OPEN_NONPLANAR"), "OPEN_NONPLANAR surrounds"),
    "another type": (lambda one: setattr(one, "ContourGeometricType", "CIRCLE"), "ContourGeometricType 'CIRCLE'"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_rtstruct_contour_that_is_left_out_is_told_with_structure_slice_and_reason(tmp_path, rng, what):
    change, reason = LEFT_OUT[what]
    data_io, path = sample(tmp_path, rng, lambda rtstruct: change(first(rtstruct)))
    mask, told = heart(data_io)
    np.testing.assert_array_equal(mask, block((4, slice(3, 13), slice(3, 13))))
    (warned,) = told
    assert warned.startswith(f"{path}: the structure 'Heart': 1 contour(s) left out, as ")
    assert reason in warned
    assert "(slice 3, z = 127.75 mm)" in warned
    assert [finding.message for finding in verify(data_io).findings if "left out" in finding.message] == [warned]


def test_a_contour_without_any_finite_number_is_told_too(tmp_path, rng):
    data_io, _ = sample(tmp_path, rng, lambda rtstruct: set_data(first(rtstruct), "\\".join(["nan"] * 12)))
    assert "finite numbers (position unknown)" in heart(data_io)[1][0]


@pytest.mark.parametrize("empty", [False, True])
def test_rtstruct_contour_without_contourgeometrictype_is_drawn_as_closed_with_a_warning(tmp_path, rng, empty):
    def change(rtstruct):
        del first(rtstruct).ContourGeometricType
        if empty:
            first(rtstruct).ContourGeometricType = ""

    data_io, _ = sample(tmp_path, rng, change)
    mask, told = heart(data_io)
    np.testing.assert_array_equal(mask, block((slice(3, 5), slice(3, 13), slice(3, 13))))
    (warned,) = told
    assert "'Heart' has 1 contour(s) without ContourGeometricType (slice 3, z = 127.75 mm)" in warned
    assert warned in [finding.message for finding in verify(data_io).findings]


@pytest.mark.parametrize("number", [99, None])
def test_rtstruct_contours_of_a_roi_that_is_not_listed_are_told(tmp_path, rng, number):
    def change(rtstruct):
        item = Dataset()
        if number is not None:
            item.ReferencedROINumber = number
        item.ContourSequence = rtstruct.ROIContourSequence[1].ContourSequence[:1]
        rtstruct.ROIContourSequence.append(item)

    data_io, path = sample(tmp_path, rng, change)
    mask, told = heart(data_io)
    np.testing.assert_array_equal(mask, block((slice(3, 5), slice(3, 13), slice(3, 13))))
    roi = "the structure 99" if number else "a structure without ReferencedROINumber"
    assert any(
        one.startswith(
            f"{path}: 1 contour of {roi} left out, as StructureSetROISequence does not list it (z = 127.75 mm)"
        )
        for one in told
    )
    assert sum("does not list" in finding.message for finding in verify(data_io).findings) == 1


def test_rtstruct_without_roicontoursequence_has_no_contours_and_says_so(tmp_path, rng):
    data_io, path = sample(tmp_path, rng, lambda rtstruct: delattr(rtstruct, "ROIContourSequence"))
    mask, told = heart(data_io)
    assert not mask.any()
    assert told == [f"{path} has no ROIContourSequence: its structures have no contours"]
    assert told[0] in [finding.message for finding in verify(data_io).findings]


def test_rtstruct_structure_without_contoursequence_has_no_contours_and_the_others_are_drawn(tmp_path, rng):
    data_io, _ = sample(tmp_path, rng, lambda rtstruct: delattr(rtstruct.ROIContourSequence[1], "ContourSequence"))
    labels = data_io.interface.load_segmentation("a")
    assert (labels == 1).sum() == 18 * 18
    assert not (labels == 2).any()


@pytest.mark.parametrize("count", [None, 0])
@pytest.mark.parametrize("missing", [True, False])
def test_rtstruct_contour_without_points_is_told_and_the_others_are_drawn(tmp_path, rng, missing, count):
    def change(rtstruct):
        del first(rtstruct).NumberOfContourPoints
        if count is not None:
            first(rtstruct).NumberOfContourPoints = count
        if missing:
            del first(rtstruct).ContourData
        else:
            set_data(first(rtstruct), "")

    mask, told = heart(sample(tmp_path, rng, change)[0])
    np.testing.assert_array_equal(mask, block((4, slice(3, 13), slice(3, 13))))
    assert "'Heart': 1 contour(s) left out, as it has fewer than three distinct points (position unknown)" in told[0]


DAMAGED = {
    "a number that is none": (lambda rt: set_data(first(rt), "1,5" + text_of(BOX)[3:]), "'Heart'.*1,5"),
    "an underscore": (lambda rt: set_data(first(rt), "1_5" + text_of(BOX)[3:]), "'Heart'.*1_5"),
    "an empty number": (lambda rt: set_data(first(rt), "\\" + text_of(BOX)), "'Heart'.*could not convert"),
    "11 numbers": (
        lambda rt: set_data(first(rt), text_of(BOX).rpartition("\\")[0]),
        "'Heart'.*11 numbers.*multiple of 3",
    ),
    "another number of points": (
        lambda rt: set_data(first(rt), text_of(BOX), 5),
        "'Heart'.*NumberOfContourPoints is 5",
    ),
    "points without data": (lambda rt: delattr(first(rt), "ContourData"), "'Heart'.*NumberOfContourPoints is 4"),
    "an offset": (lambda rt: setattr(first(rt), "ContourOffsetVector", [0, 0, 2.5]), "'Heart'.*ContourOffsetVector"),
    "two structures of one number": (
        lambda rt: setattr(rt.StructureSetROISequence[0], "ROINumber", 8),
        "'Body' and 'Heart' have the same ROINumber 8",
    ),
    "no number": (lambda rt: delattr(rt.StructureSetROISequence[1], "ROINumber"), "'Heart' has no ROINumber"),
    "an empty ROINumber": (lambda rt: setattr(rt.StructureSetROISequence[1], "ROINumber", None), "'Heart' has no ROIN"),
    "no list": (lambda rt: delattr(rt, "StructureSetROISequence"), "StructureSetROISequence is missing"),
    "another frame of reference": (
        lambda rt: setattr(rt.StructureSetROISequence[1], "ReferencedFrameOfReferenceUID", "1.2.3"),
        "'Heart' was drawn in another coordinate system.*ReferencedFrameOfReferenceUID is 1.2.3",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_rtstruct_that_contradicts_itself_is_refused_with_file_and_structure(tmp_path, rng, what):
    change, reason = DAMAGED[what]
    data_io, path = sample(tmp_path, rng, change)
    with pytest.raises(DataError, match=reason) as caught:
        data_io.interface.load_segmentation("a")
    assert str(path) in str(caught.value)
    assert "a" in verify(data_io).bad


def test_an_offset_of_zero_changes_nothing(tmp_path, rng):
    data_io, _ = sample(tmp_path, rng, lambda rt: setattr(first(rt), "ContourOffsetVector", [0, 0, 0]))
    assert heart(data_io)[0].sum() == 200


def test_a_structure_that_is_listed_twice_in_the_same_way_is_one(tmp_path, rng):
    def change(rtstruct):
        rtstruct.StructureSetROISequence.append(rtstruct.StructureSetROISequence[1])

    assert heart(sample(tmp_path, rng, change)[0])[0].sum() == 200


def test_contours_of_one_structure_in_two_items_are_drawn_together(tmp_path, rng):
    def change(rtstruct):
        item = Dataset()
        item.ReferencedROINumber, item.ContourSequence = 8, [rtstruct.ROIContourSequence[1].ContourSequence.pop()]
        rtstruct.ROIContourSequence.append(item)

    assert heart(sample(tmp_path, rng, change)[0])[0].sum() == 200


def test_a_structure_without_a_name_is_read_as_such(tmp_path, rng):
    data_io, _ = sample(tmp_path, rng, lambda rt: setattr(rt.StructureSetROISequence[0], "ROIName", ""))
    assert data_io.interface.get_ROI_names("a") == [[7, ""], [8, "Heart"]]
    assert any("structure 7 (without a name)" in one for one in heart(data_io)[1])


def test_contours_beside_the_image_are_told_and_those_across_its_edge_are_cut(tmp_path, rng):
    beside = [(2.5, 30.5), (2.5, 40.5), (9.5, 40.5), (9.5, 30.5)]
    across = [(-5.5, -5.5), (-5.5, 3.5), (3.5, 3.5), (3.5, -5.5)]
    mask, told = heart(sample(tmp_path, rng, contours=[(3, across), (4, beside)])[0])
    np.testing.assert_array_equal(mask, block((3, slice(0, 4), slice(0, 4))))
    (warned,) = told
    assert "'Heart' has 1 contour(s) outside" in warned
    assert "(slice 4, z = 130.25 mm); they are left out" in warned


def test_a_contour_on_two_slices_is_refused(tmp_path, rng):
    def change(rtstruct):
        set_data(first(rtstruct), text_of(BOX[:2]) + "\\" + text_of(BOX[2:]).replace("127.75", "130.25"))

    data_io, _ = sample(tmp_path, rng, change)
    with pytest.raises(DataError, match=r"'Heart' has contours across the slices \(over 2.0 of them, at slice"):
        heart(data_io)


def test_contours_written_with_few_decimals_touch_without_a_word(tmp_path, rng):
    left, right = [(2, 2), (2, 9), (12, 9), (12, 2)], [(5, 9.0004), (5, 17), (15, 17), (15, 8.9996)]
    mask, told = heart(sample(tmp_path, rng, contours=[(3, left), (3, right)])[0])
    assert told == []
    np.testing.assert_array_equal(mask, block((3, slice(2, 13), slice(2, 10)), (3, slice(5, 16), slice(9, 18))))


def test_a_point_beside_the_plane_does_not_move_the_contour_off_its_slice(tmp_path, rng):
    def change(rtstruct):
        set_data(first(rtstruct), text_of(BOX).replace("127.75", "128.75", 1))

    mask, told = heart(sample(tmp_path, rng, change, contours=[(3, BOX), (3, square(14.5, 17.5))])[0])
    assert told == []
    np.testing.assert_array_equal(mask, block((3, slice(3, 13), slice(3, 13)), (3, slice(15, 18), slice(15, 18))))


def test_the_types_of_structures_are_read_and_damaged_ones_ignored(tmp_path, rng):
    series = make_series(random_volume(rng, (3, 8, 8)))
    dataset = make_rtstruct(series, {"Heart": [(1, square(1.5, 5.5))], "Outline": [(1, square(0.5, 6.5))]})
    dataset.RTROIObservationsSequence = [
        group(ObservationNumber=1, ReferencedROINumber=8, RTROIInterpretedType="EXTERNAL")[0],
        group(ObservationNumber=2, ReferencedROINumber=7, RTROIInterpretedType="")[0],
        group(ObservationNumber=3, RTROIInterpretedType="ORGAN")[0],
        group(ObservationNumber=4, ReferencedROINumber=77, RTROIInterpretedType="ORGAN")[0],
    ]
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    path = tmp_path / "rt.dcm"
    assert read_rtstruct(path).kinds == {8: "EXTERNAL", 77: "ORGAN"}
    assert read_rtstruct(path).names == {7: "Heart", 8: "Outline"}
    stored = path.read_bytes()
    assert stored.count(b"\x84\x00IS\x02\x0077") == 1
    path.write_bytes(stored.replace(b"\x84\x00IS\x02\x0077", b"\x84\x00IS\x02\x00xx"))
    assert read_rtstruct(path).kinds == {8: "EXTERNAL"}
