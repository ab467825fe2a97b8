"""Which files are the series of a sample, and which its annotation."""

from __future__ import annotations

import os
import shutil

import pytest
from dicom_series import (
    ORIENTATIONS,
    make_picture,
    make_rtstruct,
    make_series,
    random_volume,
    save_series,
    square,
)
from pydicom.data import get_testdata_file

from miscnn_tf.data_loading.dicom.series import (
    choose_annotation,
    choose_series,
    describe_files,
    grid_of_files,
    holds_images,
    scan_folder,
)
from miscnn_tf.data_loading.dicom.series_grid import make_grid
from miscnn_tf.errors import DataError, MissingDataError


@pytest.fixture
def two_series(tmp_path, rng):
    first, second = (make_series(random_volume(rng), SeriesDescription=name) for name in ("thorax", "abdomen 5mm"))
    # In one folder, as some archives export them.
    save_series(tmp_path, first, "a{}.dcm")
    save_series(tmp_path, second, "b{}.dcm")
    return tmp_path, first, second


def test_stray_files_dicomdirs_and_hidden_folders_are_left_out(tmp_path, rng):
    series = make_series(random_volume(rng))
    save_series(tmp_path / "deep" / "deeper", series, "IM{}")
    (tmp_path / "notes.txt").write_text("x" * 200)
    (tmp_path / "README").write_bytes(b"")
    shutil.copy(get_testdata_file("DICOMDIR", download=False), tmp_path)
    shutil.copy(get_testdata_file("rtplan.dcm", download=False), tmp_path)
    save_series(tmp_path / ".trash", make_series(random_volume(rng)))
    scan = scan_folder(tmp_path)
    assert list(scan.series) == [series[0].SeriesInstanceUID]
    assert len(choose_series(scan)) == 6
    assert scan.annotations == []


def test_several_series_are_refused_and_listed(two_series):
    folder, first, second = two_series
    with pytest.raises(DataError, match="holds 2 series") as refused:
        choose_series(scan_folder(folder))
    for series in (first, second):
        assert series[0].SeriesInstanceUID in str(refused.value)
        assert series[0].SeriesDescription in str(refused.value)


def test_a_series_is_chosen_by_its_description_or_uid(two_series):
    folder, first, second = two_series
    scan = scan_folder(folder)
    assert choose_series(scan, series="abd.*")[0].series == second[0].SeriesInstanceUID
    assert choose_series(scan, series=first[0].SeriesInstanceUID)[0].series == first[0].SeriesInstanceUID
    with pytest.raises(MissingDataError, match=r"no DICOM series that matches series='head' .*thorax.*abdomen"):
        choose_series(scan, series="head")


def test_the_series_that_was_drawn_on_is_the_one(two_series):
    folder, _, second = two_series
    save_series(folder / "rt", [make_rtstruct(second, {"Heart": [(0, square(1, 3))]})])
    scan = scan_folder(folder)
    headers = choose_series(scan)
    assert headers[0].series == second[0].SeriesInstanceUID
    assert choose_annotation(scan, make_grid(headers)).path.parent.name == "rt"


def test_a_localizer_series_beside_the_volume_is_no_choice(tmp_path, rng):
    save_series(tmp_path, make_series(random_volume(rng)), "a{}.dcm")
    scout = make_series(
        random_volume(rng, (2, 30, 40)), ORIENTATIONS["coronal"], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    save_series(tmp_path, scout, "scout{}.dcm")
    assert choose_series(scan_folder(tmp_path))[0].description == "thorax"
    assert len(choose_series(scan_folder(tmp_path))) == 6


def test_a_folder_without_images_says_what_is_missing(tmp_path, rng):
    with pytest.raises(MissingDataError, match="no DICOM series; check the folder"):
        choose_series(scan_folder(tmp_path))
    assert not holds_images(tmp_path)
    save_series(tmp_path / "x" / "y", make_series(random_volume(rng)))
    assert holds_images(tmp_path)
    assert not holds_images(tmp_path, nested=False)


SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    "beside",
    [
        {"Modality": "OT", "SOPClassUID": SECONDARY_CAPTURE, "SeriesDescription": "screen capture"},
        {"Modality": "CT", "SOPClassUID": SECONDARY_CAPTURE, "SeriesDescription": "Dose Report"},
        {"Modality": "CT", "SOPClassUID": SECONDARY_CAPTURE, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
        {"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SeriesDescription": "thorax p.a."},
    ],
)
def test_screen_capture_dose_report_or_radiograph_beside_the_ct_is_left_out(tmp_path, rng, beside):
    save_series(tmp_path, make_series(random_volume(rng)), "a{}.dcm")
    save_series(tmp_path, [make_picture(random_volume(rng, (30, 40)), **beside)], "b{}.dcm")
    scan = scan_folder(tmp_path)
    assert len(scan.series) == 2
    assert [header.description for header in choose_series(scan)] == ["thorax"] * 6


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_an_end_slice_that_lost_position_and_series_is_left_out_with_a_warning(tmp_path, rng):
    series = make_series(random_volume(rng))
    del series[5].ImagePositionPatient
    series[5].SeriesInstanceUID = ""
    save_series(tmp_path, series, order=range(6))
    with pytest.warns(
        UserWarning, match=r"000005\.dcm left out beside the series: without a position, but of its modal"
    ):
        assert len(choose_series(scan_folder(tmp_path))) == 5


def test_an_end_slice_that_lost_its_image_is_left_out_with_a_warning(tmp_path, rng):
    series = make_series(random_volume(rng))
    for name in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        delattr(series[5], name)
    series[5].SOPClassUID = "1.2.3"  # of a known image class, it is damaged without the size of the image
    save_series(tmp_path, series, order=range(6))
    with pytest.warns(UserWarning, match=r"000005\.dcm left out beside the series: without an image, but of its modal"):
        assert len(choose_series(scan_folder(tmp_path))) == 5


def test_modality_chooses_among_ct_and_pet_and_radiograph(tmp_path, rng):
    save_series(tmp_path, make_series(random_volume(rng), SeriesDescription="a"), "a{}.dcm")
    save_series(tmp_path, make_series(random_volume(rng), Modality="PT", SeriesDescription="b"), "b{}.dcm")
    save_series(tmp_path, [make_picture(random_volume(rng, (30, 40)), SeriesDescription="c")], "c{}.dcm")
    scan = scan_folder(tmp_path)
    with pytest.raises(DataError, match=r'holds 2 series.*series="…".*modality="CT"'):
        choose_series(scan)
    for modality, description in {"CT": "a", "pt": "b", "DX": "c"}.items():
        assert choose_series(scan, modality=modality)[0].description == description
    with pytest.raises(
        MissingDataError, match=r"no DICOM series that matches series='a' and modality='PT' .*found: CT"
    ):
        choose_series(scan, series="a", modality="PT")


def test_a_slice_with_another_modality_is_not_left_out_unnoticed(tmp_path, rng):
    series = make_series(random_volume(rng))
    series[5].Modality = "SR"
    save_series(tmp_path, series, order=range(6))
    with pytest.raises(
        DataError, match=r"000005\.dcm and .*000000\.dcm belong to the same series, but their modalities are SR and CT"
    ):
        scan_folder(tmp_path)


def test_a_folder_with_screen_captures_alone_is_not_a_sample(tmp_path, rng):
    capture = make_picture(random_volume(rng, (30, 40)), Modality="OT", SOPClassUID=SECONDARY_CAPTURE)
    save_series(tmp_path / "captures", [capture])
    assert not holds_images(tmp_path)
    assert describe_files(tmp_path) == "1 of OT without ImagePositionPatient"
    save_series(tmp_path / "radiograph", [make_picture(random_volume(rng, (30, 40)))])
    assert holds_images(tmp_path)


class TestAnnotations:
    @pytest.fixture
    def drawn(self, tmp_path, rng):
        series = make_series(random_volume(rng))
        save_series(tmp_path / "ct", series)

        def add(folder, on=series, **values):
            save_series(tmp_path / folder, [make_rtstruct(on, {"Heart": [(0, square(1, 3))]}, **values)])
            return tmp_path / folder

        def choose(tag=None):
            scan = scan_folder(tmp_path)
            return choose_annotation(scan, make_grid(choose_series(scan, None, tag)), tag)

        return series, add, choose

    def test_the_tag_chooses_among_several(self, drawn):
        _, add, choose = drawn
        add("1.0-.simplified-6"), add("2.0-other-7")
        assert choose("simplified").path.parent.name == "1.0-.simplified-6"
        with pytest.raises(DataError, match=r"holds 2 annotations.*simplified.*other.*annotation_tag="):
            choose()
        with pytest.raises(MissingDataError, match=r"contains 'simple\?r' \(found: .*simplified"):
            choose("simple?r")

    def test_the_tag_may_be_part_of_the_file_name_or_of_a_folder_above(self, drawn):
        _, add, choose = drawn
        add("rt_reader1/files"), add("rt_reader2/files")
        assert choose("reader2").path.parts[-3] == "rt_reader2"

    def test_none_is_an_error_that_says_so(self, drawn):
        with pytest.raises(MissingDataError, match=r"holds no RTSTRUCT or SEG \(found: nothing\)"):
            drawn[2]()

    def test_the_one_of_another_series_is_passed_over(self, drawn, rng):
        series, add, choose = drawn
        other = make_series(random_volume(rng), FrameOfReferenceUID=series[0].FrameOfReferenceUID)
        add("other", on=other), add("right")
        assert choose().path.parent.name == "right"

    def test_another_series_in_the_same_coordinates_is_used_with_a_warning(self, drawn, rng):
        series, add, choose = drawn
        add("other", on=make_series(random_volume(rng), FrameOfReferenceUID=series[0].FrameOfReferenceUID))
        with pytest.warns(UserWarning, match="does not reference the series"):
            assert choose().path.parent.name == "other"

    def test_another_frame_of_reference_is_refused(self, drawn, rng):
        _, add, choose = drawn
        add("other", on=make_series(random_volume(rng)))
        with pytest.raises(DataError, match="drawn in another coordinate system"):
            choose()

    def test_so_it_is_where_the_series_is_named(self, drawn, rng):
        series, add, choose = drawn
        folder = add("rt")
        broken = make_rtstruct(series, {"Heart": [(0, square(1, 3))]})
        broken.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
        save_series(folder, [broken])
        with pytest.raises(DataError, match=r"references .* but is in another coordinate system"):
            choose()


def test_files_or_a_folder_give_the_grid(tmp_path, rng):
    paths = save_series(tmp_path, make_series(random_volume(rng)))
    assert grid_of_files(paths).files == grid_of_files([tmp_path]).files
    os.remove(paths[0])
    with pytest.raises(MissingDataError, match=r"the file does not exist"):
        grid_of_files(paths)
