"""Contours of an RTSTRUCT on the voxels of its series."""

from __future__ import annotations

import logging
import shutil
import warnings

import numpy as np
import pytest
from dicom_series import ORIENTATIONS, make_rtstruct, make_series, random_volume, save_series, square
from pydicom.data import get_testdata_file

from miscnn_tf.data_loading.dicom.rtstruct import read_rtstruct, roi_mask, roi_names
from miscnn_tf.data_loading.dicom.series import grid_of_files
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
    mask = written(tmp_path, rng, [(2, [(3, 3)], "POINT"), (2, square(4, 8), "OPEN_PLANAR"), (1, square(3.5, 5.5))])
    np.testing.assert_array_equal(mask, block((1, slice(4, 6), slice(4, 6))))
    assert "1 contour(s) of the kind POINT surround no area" in caplog.text


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
    with pytest.warns(UserWarning, match="one of about 2 slices"):
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
