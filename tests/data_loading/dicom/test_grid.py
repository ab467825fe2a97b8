"""Slices to a grid: order, distance, directions, and everything that keeps them from being one."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import AXIAL, ORIENTATIONS, make_series, random_volume, save_series

from miscnn_tf.data_loading.dicom.grid import make_grid
from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.errors import DataError


def grid_of(folder, series, **how):
    return make_grid([read_header(path) for path in save_series(folder, series, **how)])


def read_by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_voxels_lie_where_simpleitk_finds_them(tmp_path, rng, name):
    grid = grid_of(tmp_path, make_series(random_volume(rng), ORIENTATIONS[name]))
    image = read_by_itk(tmp_path)
    assert grid.shape == image.GetSize()[::-1]
    np.testing.assert_allclose(grid.spacing, image.GetSpacing()[::-1], rtol=1e-6)
    for index in np.ndindex(2, 2, 2):
        index = np.array(index) * (5, 8, 6)
        point = np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]))
        np.testing.assert_allclose((grid.affine @ (*index, 1))[:3], point * (-1, -1, 1), atol=1e-4)
        np.testing.assert_allclose((grid.to_index @ (*point, 1))[:3], index, atol=1e-4)


def test_the_distance_is_that_of_the_positions_whatever_the_thickness(tmp_path, rng):
    series = make_series(random_volume(rng), distance=1.25, SliceThickness=5, SpacingBetweenSlices=3)
    assert grid_of(tmp_path, series).spacing.tolist() == [1.25, 0.8, 0.6]


def test_file_names_and_instance_numbers_say_nothing_of_the_order(tmp_path, rng):
    series = make_series(random_volume(rng))
    for one in series:
        one.InstanceNumber = 1
    grid = grid_of(tmp_path, series)
    wanted = [one.SOPInstanceUID for one in series]
    assert [header.sop_instance for header, _ in grid.planes] == wanted


def test_positions_of_few_digits_are_even(tmp_path, rng):
    series = make_series(random_volume(rng, (40, 4, 4)), distance=1.25)
    for one in series:
        one.ImagePositionPatient = [round(float(value), 1) for value in one.ImagePositionPatient]
    assert grid_of(tmp_path, series).spacing[0] == pytest.approx(1.25, abs=0.005)


def test_one_slice_is_as_thick_as_it_says(tmp_path, rng):
    grid = grid_of(tmp_path, make_series(random_volume(rng, (1, 5, 6)), SliceThickness=3))
    assert grid.shape == (1, 5, 6)
    assert grid.spacing.tolist() == [3, 0.8, 0.6]


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path, rng):
    series = make_series(random_volume(rng, (9, 4, 4)))
    del series[4]
    with pytest.raises(DataError, match=r"has gaps.*2\.5 mm apart.*1 between 000003\.dcm and 000004\.dcm \(5 mm\)"):
        grid_of(tmp_path, series, order=range(8))


def test_uneven_slices_are_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    x, y, z = series[2].ImagePositionPatient
    series[2].ImagePositionPatient = [x, y, float(z) + 0.9]
    with pytest.raises(DataError, match=r"uneven distances, 1\.6 to 3\.4 mm"):
        grid_of(tmp_path, series)


def test_a_slice_beside_the_others_is_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    x, y, z = series[3].ImagePositionPatient
    series[3].ImagePositionPatient = [float(x) + 4, y, z]
    with pytest.raises(DataError, match=r"000003\.dcm lies 4 mm beside the line"):
        grid_of(tmp_path, series, order=range(6))


def test_a_copy_of_a_file_is_left_out_with_a_warning(tmp_path, rng):
    series = make_series(random_volume(rng))
    with pytest.warns(UserWarning, match=r"000006\.dcm is a copy of .*000002\.dcm"):
        grid = grid_of(tmp_path, [*series, series[2]], order=range(7))
    assert grid.shape[0] == 6


def test_many_copies_are_one_warning(tmp_path, rng):
    series = make_series(random_volume(rng))
    with pytest.warns(UserWarning, match="is a copy of") as told:
        grid = grid_of(tmp_path, [*series, *series], order=range(12))
    assert (grid.shape[0], len(told)) == (6, 1)


def test_images_of_one_uid_at_different_places_are_no_copies(tmp_path, rng):
    series = make_series(random_volume(rng), SOPInstanceUID="1.2.3")
    with pytest.raises(DataError, match="the same SOPInstanceUID, but lie at different places"):
        grid_of(tmp_path, series)


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("AcquisitionNumber", 2, "differ in acquisitions"),
        ("EchoTime", 80, "differ in echoes"),
        (None, 0, "a volume has"),
    ],
)
def test_two_images_of_one_place_are_refused_with_what_tells_them_apart(tmp_path, rng, attribute, value, told):
    series = make_series(random_volume(rng))
    again = make_series(random_volume(rng), SeriesInstanceUID=series[0].SeriesInstanceUID)
    for one in again if attribute else []:
        setattr(one, attribute, value)
    with pytest.raises(DataError, match=rf"images at the same place.*{told}"):
        grid_of(tmp_path, [*series, *again])


def test_overview_images_in_the_series_are_left_out(tmp_path, rng):
    series = make_series(random_volume(rng))
    scout = make_series(
        random_volume(rng, (1, 30, 40)), ORIENTATIONS["coronal"], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    scout[0].SeriesInstanceUID = series[0].SeriesInstanceUID
    assert grid_of(tmp_path, series + scout).shape == (6, 9, 7)


@pytest.mark.parametrize(
    "other", [{"orientation": ORIENTATIONS["sagittal"]}, {"spacing": (1.1, 1.1)}, {"shape": (6, 9, 8)}]
)
def test_images_of_another_kind_in_the_series_are_refused(tmp_path, rng, other):
    series = make_series(random_volume(rng))
    more = make_series(
        random_volume(rng, other.pop("shape", (6, 9, 7))), **{"orientation": AXIAL, "origin": (0, 0, 900), **other}
    )
    for one in more:
        one.SeriesInstanceUID = series[0].SeriesInstanceUID
    with pytest.raises(DataError, match=r"do not lie on one grid: 6 of .*; 6 of "):
        grid_of(tmp_path, series + more)


def test_images_without_a_place_or_with_colours_are_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    del series[1].ImagePositionPatient
    with pytest.raises(DataError, match=r"000001\.dcm: the header does not say where"):
        grid_of(tmp_path / "a", series, order=range(6))
    series = make_series(random_volume(rng), SamplesPerPixel=3)
    with pytest.raises(DataError, match="colours"):
        grid_of(tmp_path / "b", series)
    series = make_series(random_volume(rng), (1, 0, 0, 0.5, 0.5, 0))
    with pytest.raises(DataError, match="not two directions at right angles"):
        grid_of(tmp_path / "c", series)


def test_a_tilted_gantry_shears_the_grid_and_says_so(tmp_path, rng):
    # The table moves along z, the slices are tilted by 15 degrees about x.
    sine, cosine = np.sin(np.deg2rad(15)), np.cos(np.deg2rad(15))
    orientation = (1, 0, 0, 0, cosine, sine)
    normal = np.array([0, -sine, cosine])
    step = np.array([0, 0, 2.5 / cosine])
    series = make_series(random_volume(rng), orientation, shift=step - 2.5 * normal)
    with pytest.warns(UserWarning, match=r"gantry was tilted by 15\.0 degrees"):
        grid = grid_of(tmp_path, series)
    assert grid.tilt == pytest.approx(15, abs=0.01)
    assert grid.spacing.tolist() == [2.5, 0.8, 0.6]
    for number, one in enumerate(series):
        # Each slice lies exactly where its own header says, which no orthogonal grid could do.
        position = np.array(one.ImagePositionPatient, float) * (-1, -1, 1)
        np.testing.assert_allclose((grid.affine @ (number, 0, 0, 1))[:3], position, atol=1e-4)
    assert abs(grid.affine[:3, 0] @ grid.affine[:3, 1]) > 0.3
