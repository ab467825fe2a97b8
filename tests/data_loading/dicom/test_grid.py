"""Slices to a grid: order, distance, directions, and everything that keeps them from being one."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import (
    AXIAL,
    ORIENTATIONS,
    enhanced,
    group,
    make_picture,
    make_series,
    random_volume,
    save_series,
)
from pydicom.dataset import Dataset

from miscnn_tf.data_loading.dicom.header import read_header
from miscnn_tf.data_loading.dicom.series_grid import make_grid
from miscnn_tf.data_loading.dicom.volume import read_volume
from miscnn_tf.errors import DataError


def grid_of(folder, series, *, frames=None, three_dim=True, **how):
    headers = [read_header(path) for path in save_series(folder, series, **how)]
    return make_grid(headers, frames=frames, three_dim=three_dim)


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
    with pytest.raises(DataError, match=r"000003\.dcm is 4 mm off the line"):
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
    with pytest.raises(DataError, match="the same SOPInstanceUID, but different positions"):
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
    with pytest.raises(DataError, match=rf"images at the same position.*{told}"):
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
    with pytest.raises(DataError, match=r"holds images on different grids: 6 of .*; 6 of "):
        grid_of(tmp_path, series + more)


def test_images_without_a_place_or_with_colours_are_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    del series[1].ImagePositionPatient
    with pytest.raises(DataError, match=r"000001\.dcm: the header lacks the position"):
        grid_of(tmp_path / "a", series, order=range(6))
    series = make_series(random_volume(rng), SamplesPerPixel=3)
    with pytest.raises(DataError, match="colours"):
        grid_of(tmp_path / "b", series)
    series = make_series(random_volume(rng), (1, 0, 0, 0.5, 0.5, 0))
    with pytest.raises(DataError, match="not two orthogonal unit vectors"):
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


def test_siemens_mosaic_is_refused_and_dcm2niix_is_named(tmp_path, rng):
    (one,) = make_series(random_volume(rng, (1, 32, 32)), ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    for three_dim in (True, False):
        with pytest.raises(DataError, match=r"000000\.dcm: Siemens mosaics .*dcm2niix"):
            grid_of(tmp_path, [one], three_dim=three_dim)


def test_palette_colours_are_refused_by_the_name_of_the_tag(tmp_path, rng):
    with pytest.raises(DataError, match="PhotometricInterpretation is PALETTE COLOR"):
        grid_of(tmp_path, make_series(random_volume(rng), PhotometricInterpretation="PALETTE COLOR"))


@pytest.mark.parametrize("kind", [{"Modality": "OT"}, {"Modality": "SC"}, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}])
def test_series_of_modality_ot_or_secondary_capture_with_positions_is_read_with_a_warning(tmp_path, rng, kind):
    stored = random_volume(rng)
    with pytest.warns(UserWarning, match="a program made these images, not a scanner"):
        grid = grid_of(tmp_path, make_series(stored, **kind))
    np.testing.assert_array_equal(read_volume(grid), stored - 1024)


def test_a_screen_capture_in_the_series_is_left_out_with_a_warning(tmp_path, rng):
    series = make_series(random_volume(rng))
    capture = make_picture(random_volume(rng, (1, 30, 40))[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="CT")
    capture.SeriesInstanceUID = series[0].SeriesInstanceUID
    with pytest.warns(UserWarning, match=r"000006\.dcm without a position.*left out"):
        assert grid_of(tmp_path, [*series, capture], order=range(7)).shape == (6, 9, 7)


def test_a_slice_that_lost_its_position_is_refused_with_the_tag(tmp_path, rng):
    series = make_series(random_volume(rng))
    del series[5].ImagePositionPatient
    with pytest.raises(DataError, match=r"000005\.dcm: .* lacks the position .*\(ImagePositionPatient missing\)"):
        grid_of(tmp_path, series, order=range(6))


def test_a_film_of_several_frames_without_positions_is_refused_with_advice_that_helps(tmp_path, rng):
    one = make_picture(random_volume(rng, (1, 9, 7))[0], Modality="US", NumberOfFrames=3)
    one.PixelData *= 3
    with pytest.raises(DataError, match=r"its 3 .* \(PerFrameFunctionalGroupsSequence missing\).*cine series") as error:
        grid_of(tmp_path, [one])
    assert "three_dim" not in str(error.value)
    with pytest.raises(DataError, match="the file holds 3 images, but a 2D sample has one"):
        grid_of(tmp_path, [one], three_dim=False)


def test_two_units_in_one_series_are_refused(tmp_path, rng):
    series = make_series(random_volume(rng))
    series[2].RescaleType = "Z_EFF"
    with pytest.raises(DataError, match=r"RescaleType is .*Z_EFF in 000002"):
        grid_of(tmp_path / "a", series, order=range(6))
    series = make_series(random_volume(rng))
    del series[2].RescaleIntercept
    with pytest.raises(DataError, match=r"has RescaleIntercept, but 000002\.dcm lacks it"):
        grid_of(tmp_path / "b", series, order=range(6))


def test_ct_without_rescale_intercept_warns(tmp_path, rng):
    series = make_series(random_volume(rng))
    for one in series:
        del one.RescaleIntercept
    with pytest.warns(UserWarning, match="RescaleIntercept is missing"):
        grid_of(tmp_path, series)


def mapping(slope):
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.0
    return [item]


def test_a_real_world_value_mapping_is_named_and_refused_where_it_differs(tmp_path, rng):
    stored = random_volume(rng)
    series = make_series(stored, Modality="MR")
    for one in series:
        del one.RescaleSlope, one.RescaleIntercept, one.RescaleType
        one.RealWorldValueMappingSequence = mapping(2.0)
    with pytest.warns(UserWarning, match="RealWorldValueMappingSequence is not applied"):
        grid = grid_of(tmp_path, series)
    # As ITK and pydicom have it.
    np.testing.assert_array_equal(read_volume(grid), stored)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_by_itk(tmp_path)), stored)
    series[3].RealWorldValueMappingSequence = mapping(3.0)
    with pytest.raises(DataError, match="RealWorldValueMappingSequence differs"):
        grid_of(tmp_path, series)


def test_a_position_that_is_not_finite_is_refused(tmp_path, rng):
    (path,) = save_series(tmp_path, make_series(random_volume(rng, (1, 4, 5)), origin=(-40, -55.5, 120.25)))
    path.write_bytes(path.read_bytes().replace(b"120.25", b"   nan"))
    with pytest.raises(DataError, match=r"000000\.dcm: the DICOM header is damaged.*ImagePositionPatient is"):
        read_header(path)


class TestFrames:
    """Several images of one place, and the choice among them."""

    def b_values(self, rng):
        """An enhanced MR with b = 0 and b = 1000 at each of four places, and its stored values."""
        stored = random_volume(rng, (2, 4, 9, 7))
        series = [one for volume in stored for one in make_series(volume, Modality="MR")]
        more = [
            {
                "MRDiffusionSequence": group(DiffusionBValue=float(value)),
                "FrameContentSequence": group(FrameAcquisitionDateTime=f"2020010210111{number}"),
            }
            for number, value in enumerate((0, 0, 0, 0, 1000, 1000, 1000, 1000))
        ]
        return stored, enhanced(series, more, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR")

    def test_enhanced_mr_with_two_b_values_names_them_and_how_to_choose(self, tmp_path, rng):
        _, one = self.b_values(rng)
        with pytest.raises(DataError, match="which differ in b-values") as error:
            grid_of(tmp_path, [one])
        told = str(error.value)
        assert "DiffusionBValue is 1000, 0" in told or "DiffusionBValue is 0, 1000" in told
        assert 'DICOM_interface(frames={"DiffusionBValue": ' in told
        assert "AcquisitionTime is" not in told
        # All is in one file, which cannot be parted by moving files.
        assert "separate folder" not in told

    @pytest.mark.parametrize(("value", "number"), [(0, 0), (1000, 1), ("1000", 1), (1000.0, 1)])
    def test_a_b_value_of_an_enhanced_mr_is_chosen(self, tmp_path, rng, value, number):
        stored, one = self.b_values(rng)
        grid = grid_of(tmp_path, [one], frames={"DiffusionBValue": value})
        assert grid.shape == (4, 9, 7)
        rescaled = stored[number] - 1024 + 4 * number + np.arange(4)[:, np.newaxis, np.newaxis]
        np.testing.assert_array_equal(read_volume(grid), rescaled)

    def test_a_value_that_no_image_has_is_refused_with_those_that_are_there(self, tmp_path, rng):
        _, one = self.b_values(rng)
        with pytest.raises(DataError, match=r"no image that matches frames=\{'DiffusionBValue': 500\} .*is 0, 1000"):
            grid_of(tmp_path, [one], frames={"DiffusionBValue": 500})

    @pytest.mark.parametrize(
        ("name", "groups", "values"),
        [
            ("EchoTime", lambda value: {"MREchoSequence": group(EffectiveEchoTime=value)}, (2.46, 4.92)),
            (
                "TemporalPositionIdentifier",
                lambda value: {"FrameContentSequence": group(TemporalPositionIndex=value)},
                (1, 2),
            ),
            ("ComplexImageComponent", None, ("MAGNITUDE", "PHASE")),
            ("ImageType", None, (["ORIGINAL", "PRIMARY", "WATER"], ["ORIGINAL", "PRIMARY", "FAT"])),
        ],
    )
    def test_echoes_and_time_points_are_chosen_in_enhanced_and_classic_files(self, tmp_path, rng, name, groups, values):
        stored = random_volume(rng, (2, 4, 9, 7))
        series = [make_series(volume, Modality="MR") for volume in stored]
        for one, value in [(one, value) for part, value in zip(series, values, strict=True) for one in part]:
            setattr(one, name, value)
            one.SeriesInstanceUID = series[0][0].SeriesInstanceUID
        every = [*series[0], *series[1]]
        grid = grid_of(tmp_path / "classic", every, frames={name: values[1]})
        np.testing.assert_array_equal(read_volume(grid), stored[1] - 1024)
        with pytest.raises(DataError, match=f'e.g. DICOM_interface\\(frames={{"{name}": '):
            grid_of(tmp_path / "classic", every)
        if groups is not None:
            more = [groups(value) for value in values for _ in range(4)]
            for one in every:
                delattr(one, name)
            grid = grid_of(tmp_path / "enhanced", [enhanced(every, more)], frames={name: values[1]})
            np.testing.assert_array_equal(read_volume(grid), stored[1] - 1020 + np.arange(4)[:, np.newaxis, np.newaxis])


class TestRadiographs:
    @pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
    def test_radiograph_with_three_dim_false_has_the_imager_pixel_spacing(self, tmp_path, rng, modality):
        stored = random_volume(rng, (1, 30, 40))
        grid = grid_of(tmp_path, [make_picture(stored[0], Modality=modality)], three_dim=False)
        assert (grid.shape, grid.placed) == ((1, 30, 40), False)
        assert grid.spacing.tolist() == [1, 0.2, 0.1]
        np.testing.assert_array_equal(read_volume(grid), stored)
        image = sitk.ReadImage(grid.files[0])
        assert image.GetSpacing()[:2] == (0.1, 0.2)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), stored)
        point = np.array(image.TransformIndexToPhysicalPoint([5, 7, 0]))
        np.testing.assert_allclose((grid.affine @ (0, 7, 5, 1))[:3], point * (-1, -1, 1), atol=1e-6)

    @pytest.mark.parametrize("signed", [False, True])
    def test_radiograph_stored_as_monochrome1_is_inverted_as_by_itk(self, tmp_path, rng, signed):
        stored = random_volume(rng, (1, 30, 40)) - 2048 * signed
        how = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
        one = make_picture(stored[0] & 0xFFF, PhotometricInterpretation="MONOCHROME1", **how)
        grid = grid_of(tmp_path, [one], three_dim=False)
        np.testing.assert_array_equal(read_volume(grid), (-1 if signed else 4095) - stored)
        if not signed:
            np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(grid.files[0])), 4095 - stored)

    def test_calibrated_pixel_spacing_comes_first_and_none_is_a_warning(self, tmp_path, rng):
        picture = random_volume(rng, (30, 40))
        calibrated = make_picture(picture, PixelSpacing=[0.15, 0.15])
        assert grid_of(tmp_path / "a", [calibrated], three_dim=False).spacing.tolist() == [1, 0.15, 0.15]
        unknown = make_picture(picture, PixelAspectRatio=["2", "1"])
        del unknown.ImagerPixelSpacing
        with pytest.warns(UserWarning, match="lacks the pixel size"):
            assert grid_of(tmp_path / "b", [unknown], three_dim=False).spacing.tolist() == [1, 2, 1]

    def test_a_radiograph_is_no_volume_and_the_error_says_how_to_read_it(self, tmp_path, rng):
        with pytest.raises(DataError, match=r"ImagePositionPatient, ImageOrientationPatient, .*three_dim=False"):
            grid_of(tmp_path, [make_picture(random_volume(rng, (30, 40)))])

    def test_one_view_of_a_mammography_is_chosen(self, tmp_path, rng):
        pictures = random_volume(rng, (2, 30, 40))
        names = ("CC", "MLO")
        views = [make_picture(pictures[at], Modality="MG", ViewPosition=name) for at, name in enumerate(names)]
        views[1].SeriesInstanceUID = views[0].SeriesInstanceUID
        with pytest.raises(DataError, match=r'holds 2 images .*frames={"ViewPosition": "CC"}'):
            grid_of(tmp_path, views, three_dim=False)
        grid = grid_of(tmp_path, views, three_dim=False, frames={"ViewPosition": "MLO"})
        np.testing.assert_array_equal(read_volume(grid)[0], pictures[1])

    def test_colours_are_refused(self, tmp_path, rng):
        with pytest.raises(DataError, match=r"the pixels are colours \(SamplesPerPixel 3, RGB\)"):
            grid_of(
                tmp_path,
                [make_picture(random_volume(rng, (30, 40)), SamplesPerPixel=3, PhotometricInterpretation="RGB")],
                three_dim=False,
            )
