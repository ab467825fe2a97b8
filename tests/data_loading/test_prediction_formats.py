"""Formats of predictions, and where other readers place their voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import ORIENTATIONS, make_series, save_series
from PIL import Image

from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.prediction_formats import PREDICTION_FORMATS, format_ending, prediction_writer
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError

sitk = pytest.importorskip("SimpleITK")

SHAPE = (9, 7, 5)
RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0])


def turned(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    around_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    order = np.roll(np.arange(3), axis - 2)
    return around_z[np.ix_(order, order)]


def affine(directions: np.ndarray, spacing: tuple[float, ...] = (0.7, 1.3, 4.0)) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3] = directions @ np.diag(spacing)
    whole[:3, 3] = (-31.5, 12.25, 77.0)
    return whole


AFFINES = {
    "anisotropic": affine(np.eye(3)),
    "flipped": affine(np.diag([-1.0, 1.0, -1.0])),
    "rotated": affine(np.eye(3)[:, [2, 0, 1]]),
    "oblique": affine(turned(20, 2) @ turned(-35, 0) @ turned(10, 1)),
    "oblique and flipped": affine(turned(20, 2) @ turned(-35, 0) @ np.diag([1.0, -1.0, 1.0])),
}


def labels_in(shape: tuple[int, ...], classes: int = 3) -> np.ndarray:
    """A label map that looks different from every side."""
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 2:4] = 1
    labels[5:, :2] = classes - 1
    labels[0, 0] = 1
    return labels


def predicted(interface: Abstract_IO, path: Path, prediction: np.ndarray) -> Sample:
    image, extended = interface.read_file(path)
    sample = Sample(str(path), image, interface.channels, interface.classes, extended, three_dim=interface.three_dim)
    sample.add_prediction(prediction, activation_output=prediction.ndim > sample.ndim)
    return sample


def write(interface: Abstract_IO, sample: Sample, path: Path, **how: object) -> Path:
    prediction_writer(interface, sample, path, **how)(sample)  # type: ignore[arg-type]
    return path


def save_scan(path: Path, matrix: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Path:
    nib.save(nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), matrix), path)
    return path


def save_picture(path: Path, shape: tuple[int, ...] = (8, 6)) -> Path:
    Image.fromarray(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)).save(path)
    return path


def places(image: sitk.Image, label: int) -> np.ndarray:
    """World coordinates (LPS) of the voxels with a label, sorted."""
    found = np.argwhere(sitk.GetArrayFromImage(image) == label)[:, ::-1]
    return sort([image.TransformIndexToPhysicalPoint([int(one) for one in index]) for index in found])


def sort(points: object) -> np.ndarray:
    points = np.round(np.asarray(points, float), 3) + 0.0
    return points[np.lexsort(points.T)]


# ---------------------------------------------------------------- volumes


@pytest.mark.parametrize("turn", AFFINES)
@pytest.mark.parametrize("interface", [NIFTI_interface, Paired_interface])
@pytest.mark.parametrize("name", ["nifti", "nrrd"])
def test_a_volume_is_where_simpleitk_has_the_scan(interface, name: str, turn: str, tmp_path: Path) -> None:
    scan = save_scan(tmp_path / "scan.nii.gz", AFFINES[turn])
    labels = labels_in(SHAPE)
    made = interface(channels=1, classes=3, three_dim=True)
    if isinstance(made, Paired_interface):
        made.file_ending = ".nii.gz"
    path = write(made, predicted(made, scan, labels), tmp_path / f"seg{format_ending(name)}", file_format=name)
    image, seg = sitk.ReadImage(scan), sitk.ReadImage(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seg).T, labels)
    if name == "nifti":
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
        np.testing.assert_allclose(nib.load(path).affine, AFFINES[turn], atol=1e-5)
    np.testing.assert_allclose(seg.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(seg.GetOrigin(), image.GetOrigin(), atol=1e-4)
    expected = np.argwhere(labels == 2) @ AFFINES[turn][:3, :3].T + AFFINES[turn][:3, 3]
    np.testing.assert_allclose(places(seg, 2), sort(expected @ RAS_OF_LPS), atol=2e-3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_formats_of_a_dicom_series_are_where_it_is(orientation: str, tmp_path: Path) -> None:
    """Positions by pydicom alone: of each slice, its rows and its columns."""
    series = make_series(np.zeros((5, 9, 7), int), ORIENTATIONS[orientation])
    save_series(tmp_path / "ct", series)
    labels = np.zeros((5, 9, 7), np.uint8)
    labels[1:3, 2:6, 1:3] = 1
    labels[3, 6:8, 4:6] = 2
    interface = DICOM_interface(classes=3, structure_dict={"heart": 1, "lung": 2})
    sample = predicted(interface, tmp_path / "ct", labels)
    step = sample.extended["affine"][:3, 0] @ RAS_OF_LPS
    order = np.argsort([np.dot(step, one.ImagePositionPatient) for one in series])
    planes = [plane_of(series[position]) for position in order]

    def expected(label: int, number: int | None = None) -> np.ndarray:
        return sort(
            [
                planes[slice_](row, column)
                for slice_, row, column in np.argwhere(labels == label)
                if number is None or slice_ == number
            ]
        )

    seg = pydicom.dcmread(write(interface, sample, tmp_path / "seg.dcm", file_format="seg"))
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["heart", "lung"]
    nifti = sitk.ReadImage(write(interface, sample, tmp_path / "seg.nii.gz", file_format="nifti"))
    nrrd = sitk.ReadImage(write(interface, sample, tmp_path / "seg.nrrd", file_format="nrrd"))
    rtstruct = pydicom.dcmread(write(interface, sample, tmp_path / "rt.dcm", file_format="rtstruct"))
    assert rtstruct.Modality == "RTSTRUCT"
    for label in (1, 2):
        np.testing.assert_allclose(places(nifti, label), expected(label), atol=2e-3)
        np.testing.assert_allclose(places(nrrd, label), expected(label), atol=2e-3)
        np.testing.assert_allclose(seg_places(seg, label), expected(label), atol=2e-3)
        for contour in rtstruct.ROIContourSequence[label - 1].ContourSequence:
            points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            number = next(place for place, position in enumerate(order) if series[position].SOPInstanceUID == uid)
            # The structure is a rectangle: the middle of its corners is that of its voxels.
            corners = (points.max(0) + points.min(0)) / 2
            middle = expected(label, number)
            np.testing.assert_allclose(corners, (middle.max(0) + middle.min(0)) / 2, atol=2e-3)


def plane_of(one: pydicom.Dataset):
    along_row, along_column = np.split(np.asarray(one.ImageOrientationPatient, float), 2)
    position, (row_mm, column_mm) = np.asarray(one.ImagePositionPatient, float), map(float, one.PixelSpacing)
    return lambda row, column: position + column * column_mm * along_row + row * row_mm * along_column


def seg_places(seg: pydicom.Dataset, number: int) -> np.ndarray:
    shared = seg.SharedFunctionalGroupsSequence[0]
    points = []
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, np.atleast_3d(seg.pixel_array), strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        one = pydicom.Dataset()
        one.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        one.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
        one.ImagePositionPatient = frame.PlanePositionSequence[0].ImagePositionPatient
        points += [plane_of(one)(row, column) for row, column in np.argwhere(pixels)]
    return sort(points)


# ---------------------------------------------------------------- images of two dimensions


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_an_image_as_volume_lies_where_simpleitk_places_the_image(ending: str, tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "cell.png")
    labels = labels_in((8, 6))
    for made in (Image_interface(classes=3), paired(3)):
        sample = predicted(made, picture, labels)
        written = sitk.ReadImage(write(made, sample, tmp_path / f"a{ending}"))
        image = sitk.ReadImage(picture)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
        assert written.GetSize() == image.GetSize()
        np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-6)
        np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)


def paired(classes: int) -> Paired_interface:
    return Paired_interface(channels=1, classes=classes, three_dim=False, file_ending=".png")


@pytest.mark.parametrize("name", ["a.npy", "a.nii.gz"])
def test_probabilities_of_images_in_every_layout(name: str, tmp_path: Path) -> None:
    """Defect: for PNG files in folders of images and masks, .npy and .png were both refused."""
    picture = save_picture(tmp_path / "cell.png")
    probabilities = np.random.default_rng(0).random((8, 6, 3)).astype(np.float32)
    for made in (Image_interface(classes=3), paired(3)):
        sample = predicted(made, picture, probabilities)
        path = write(made, sample, tmp_path / name, activation_output=True)
        if name.endswith(".npy"):
            np.testing.assert_array_equal(np.load(path), probabilities)
        else:
            np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj)[:, :, 0], probabilities.swapaxes(0, 1))
        with pytest.raises(ConfigurationError, match=r"a\.png.*name the file \.npy or \.nii\.gz"):
            prediction_writer(made, sample, tmp_path / "a.png", activation_output=True)


def test_a_slice_of_nifti_as_a_picture_is_what_simpleitk_makes_of_it(tmp_path: Path) -> None:
    labels = labels_in(SHAPE[:2])
    image = NIFTI_interface(classes=3, three_dim=False)
    scan = save_scan(tmp_path / "slice.nii.gz", AFFINES["anisotropic"], (*SHAPE[:2], 1))
    path = write(image, predicted(image, scan, labels), tmp_path / "slice.png", file_format="png")
    nib.save(nib.Nifti1Image(labels, AFFINES["anisotropic"]), tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(
        np.asarray(Image.open(path)), sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii.gz"))
    )
    slices = NIFTIslicer_interface(slice_axis=2, classes=3)
    np.testing.assert_array_equal(
        np.asarray(Image.open(write(slices, predicted(slices, scan, labels), tmp_path / "b.png"))), labels.T
    )


def test_a_radiograph_as_a_picture_has_its_rows_and_columns(tmp_path: Path) -> None:
    (one,) = make_series(np.zeros((1, 9, 7), int))
    (path,) = save_series(tmp_path, [one])
    interface = DICOM_interface(classes=3, three_dim=False)
    labels = labels_in((9, 7))
    written = write(interface, predicted(interface, path, labels), tmp_path / "a.tif", file_format="png")
    np.testing.assert_array_equal(np.asarray(Image.open(written)), labels)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("values", ["mask", "index"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii.gz", "a.npy"])
def test_values_of_the_masks_or_class_numbers(values: str, name: str, tmp_path: Path) -> None:
    made = Image_interface(classes=3, label_map={255: 1, 128: 2})
    labels = labels_in((8, 6))
    sample = predicted(made, save_picture(tmp_path / "cell.png"), labels)
    path = write(made, sample, tmp_path / name, values=values)
    array = {
        ".png": lambda: np.asarray(Image.open(path)),
        ".tif": lambda: np.asarray(Image.open(path)),
        ".gz": lambda: np.asarray(nib.load(path).dataobj).T,
        ".npy": lambda: np.load(path),
    }[path.suffix]()
    wanted = np.array([0, 255, 128])[labels] if values == "mask" else labels
    np.testing.assert_array_equal(array, wanted)
    assert made.label_map == {255: 1, 128: 2}


def test_colours_of_masks_are_not_written_as_numbers(tmp_path: Path) -> None:
    made = Image_interface(classes=2, label_map={"#ff0000": 1})
    labels = labels_in((8, 6), 2)
    sample = predicted(made, save_picture(tmp_path / "cell.png"), labels)
    with pytest.raises(ConfigurationError, match=r"are colours, which \.nii\.gz files cannot hold.*values='index'"):
        prediction_writer(made, sample, tmp_path / "a.nii.gz")
    path = write(made, sample, tmp_path / "a.nii.gz", values="index")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj).T, labels)
    with Image.open(write(made, sample, tmp_path / "a.png")) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), labels[..., None] * np.array([255, 0, 0]))


def test_values_that_a_picture_cannot_hold(tmp_path: Path) -> None:
    made = NIFTI_interface(classes=2, three_dim=False, label_map={-5: 1})
    labels = labels_in(SHAPE[:2], 2)
    sample = predicted(made, save_scan(tmp_path / "a.nii.gz", np.eye(4), (*SHAPE[:2], 1)), labels)
    with pytest.raises(ConfigurationError, match=r"cannot hold the values -5 to 0 .*values='index'"):
        prediction_writer(made, sample, tmp_path / "a.png")
    path = write(made, sample, tmp_path / "a.png", values="index")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), labels.T)


# ---------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_annotations_need_a_dicom_series(kind: str, tmp_path: Path) -> None:
    made = NIFTI_interface(classes=3)
    sample = predicted(made, save_scan(tmp_path / "scan.nii.gz", np.eye(4)), labels_in(SHAPE))
    with pytest.raises(ConfigurationError, match=rf"{kind.upper()} refers to the images of a DICOM series, but .*scan"):
        prediction_writer(made, sample, tmp_path / "a.dcm", file_format=kind)
    with pytest.raises(ConfigurationError, match="Segment the folder of the DICOM series instead"):
        prediction_writer(made, sample, tmp_path / "a.dcm")
    with pytest.raises(ConfigurationError, match="class probabilities are written as NIfTI only"):
        prediction_writer(DICOM_interface(classes=3), sample, tmp_path / "a.dcm", activation_output=True)
    assert not (tmp_path / "a.dcm").exists()


def test_a_volume_is_not_a_picture(tmp_path: Path) -> None:
    made = NIFTI_interface(classes=3)
    sample = predicted(made, save_scan(tmp_path / "scan.nii.gz", np.eye(4)), labels_in(SHAPE))
    with pytest.raises(ConfigurationError, match=r"a\.png: NIFTI_interface writes no files .*two dimensions; give"):
        prediction_writer(made, sample, tmp_path / "a.png", file_format="png")


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("a.png", {"file_format": "nifti"}, "files in the format 'nifti' end in .nii.gz or .nii"),
        ("a.nii.gz", {"file_format": "nfiti"}, "the file_format 'nfiti' is unknown. Did you mean 'nifti'"),
        ("a.nii.gz", {"values": "masks"}, "the values 'masks' is unknown. Did you mean 'mask'"),
        ("a.xyz", {}, "writes no files that end in '.xyz'"),
    ],
)
def test_wrong_choices_are_named(name: str, how: dict[str, str], said: str, tmp_path: Path) -> None:
    made = NIFTI_interface(classes=3)
    sample = predicted(made, save_scan(tmp_path / "scan.nii.gz", np.eye(4)), labels_in(SHAPE))
    with pytest.raises(ConfigurationError) as caught:
        prediction_writer(made, sample, tmp_path / name, **how)  # type: ignore[arg-type]
    assert said in str(caught.value)


class Own(NIFTI_interface):
    """An interface of a user, whose files hold values of their own."""

    def values_of_classes(self) -> tuple[int, ...]:
        return (0, 7, 9)


def test_values_of_an_own_interface_are_not_changed_silently(tmp_path: Path) -> None:
    sample = predicted(Own(classes=3), save_scan(tmp_path / "scan.nii.gz", np.eye(4)), labels_in(SHAPE))
    with pytest.raises(ConfigurationError, match=r"values='index': Own writes values of its own, \(0, 7, 9\)"):
        prediction_writer(Own(classes=3), sample, tmp_path / "a.nii.gz", values="index")


def test_every_format_has_an_ending() -> None:
    assert {name: format_ending(name) for name in PREDICTION_FORMATS} == {
        "nifti": ".nii.gz",
        "nrrd": ".nrrd",
        "png": ".png",
        "seg": ".dcm",
        "rtstruct": ".dcm",
    }
