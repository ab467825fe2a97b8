from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.experiment.fingerprint import VOXELS_PER_SAMPLE, read_fingerprint, take_fingerprint


def make_io(samples: dict, **arguments) -> Data_IO:
    return Data_IO(Dictionary_interface(samples, **arguments), "")


def test_shapes_spacings_and_classes_are_those_of_the_files(tmp_path: Path, rng: np.random.Generator) -> None:
    shapes, spacings = [(6, 8, 10), (7, 8, 12), (9, 8, 11)], [(1.0, 2.0, 3.0), (1.5, 2.0, 3.0), (1.2, 2.0, 4.0)]
    for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        folder = tmp_path / f"case_{number}"
        folder.mkdir()
        labels = np.zeros(shape, np.uint8)
        labels[:2] = 1
        labels[0, 0, 0] = 2 if number == 1 else 0
        image = (labels * 100 + 5).astype(np.int16)
        for name, array in (("imaging", image), ("segmentation", labels)):
            nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), folder / f"{name}.nii.gz")
    found = take_fingerprint(Data_IO(NIFTI_interface(classes=3), tmp_path))
    assert found.cases == 3
    assert found.shapes == tuple(shapes)
    assert found.spacings == tuple(spacings)
    assert found.median_shape == (7, 8, 11)
    assert found.median_spacing == (1.2, 2.0, 3.0)
    assert found.whole_numbers
    assert found.class_cases == (3, 3, 1)
    total = sum(int(np.prod(shape)) for shape in shapes)
    front = sum(2 * shape[1] * shape[2] for shape in shapes)
    assert found.class_shares == pytest.approx(
        (1 - (front - 1) / total, (front - 2) / total, 1 / total), rel=0.02, abs=2e-3
    )
    (channel,) = found.intensities
    assert (channel.least, channel.greatest) == (5, 105)
    assert channel.percentile_00_5 == 105


def test_intensities_are_those_of_the_foreground_in_each_channel(rng: np.random.Generator) -> None:
    labels = np.zeros((40, 50, 60), np.uint8)
    labels[10:30, 10:40] = 1
    image = np.stack([rng.normal(1000, 10, labels.shape), rng.normal(-5, 1, labels.shape)], axis=-1)
    image[labels == 1] += (200, 2)
    image[0, 0, 0] = np.nan
    found = take_fingerprint(make_io({"a": (image.astype(np.float32), labels)}, channels=2))
    first, second = found.intensities
    foreground = image[labels == 1]
    assert len(foreground) > VOXELS_PER_SAMPLE  # a sample of them is looked at
    low, high = np.percentile(foreground, (0.5, 99.5), axis=0)
    assert (first.percentile_00_5, first.percentile_99_5) == pytest.approx((low[0], high[0]), abs=2)
    assert (second.percentile_00_5, second.percentile_99_5) == pytest.approx((low[1], high[1]), abs=0.2)
    assert first.mean == pytest.approx(1200, abs=1)
    assert second.deviation == pytest.approx(1, abs=0.05)
    assert not found.whole_numbers
    assert found.spacings is None
    assert np.isfinite([first.least, first.greatest]).all()


@pytest.mark.parametrize("shape", [(30, 40), (20, 24, 30), (120, 130, 150)])
def test_centres_of_classes_are_those_of_scipy(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    labels = np.zeros(shape, np.uint8)
    for label, fraction in ((1, 0.2), (3, 0.7)):  # class 2 is missing
        labels[tuple(slice(int(fraction * size), int((fraction + 0.2) * size)) for size in shape)] = label
    found = take_fingerprint(
        make_io({"a": (rng.random(shape, np.float32), labels)}, classes=4, three_dim=len(shape) == 3)
    )
    assert found.class_centres is not None
    (centres,) = found.class_centres
    assert centres[2] is None
    for label in (0, 1, 3):
        expected = (np.array(ndimage.center_of_mass(labels == label)) + 0.5) / shape
        assert centres[label] == pytest.approx(expected, abs=0.02)


def test_without_foreground_there_still_is_a_fingerprint() -> None:
    found = take_fingerprint(make_io({"a": (np.arange(27).reshape(3, 3, 3), np.zeros((3, 3, 3), np.uint8))}))
    assert found.class_cases == (1, 0)
    assert (found.intensities[0].least, found.intensities[0].greatest) == (0, 26)


def test_some_of_many_cases_are_looked_at_from_the_first_to_the_last(toy_io) -> None:
    data_io = toy_io(shape=(8, 8), cases=11)
    found = take_fingerprint(data_io, samples_measured=3)
    names = data_io.get_indiceslist()
    assert found.measured == (names[0], names[5], names[10])
    assert len(found.shapes) == found.cases == 11


def test_it_is_the_same_each_time_and_reads_back_equal(toy_io, tmp_path: Path) -> None:
    found = take_fingerprint(toy_io(shape=(30, 32, 34), cases=2, channels=2, classes=3))
    assert found == take_fingerprint(toy_io(shape=(30, 32, 34), cases=2, channels=2, classes=3))
    found.write(tmp_path / "fingerprint.json")
    assert read_fingerprint(tmp_path / "fingerprint.json") == found


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="'miscnn-tf init' writes it"):
        read_fingerprint(tmp_path / "none.json")
    for text in ("{}", "[]", '{"format": 1, "cases": 3}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="not a fingerprint"):
            read_fingerprint(tmp_path / "bad.json")


def test_empty_borders_and_orientations_are_measured(tmp_path: Path, rng: np.random.Generator) -> None:
    """If a measured sample has an empty border, the boxes of all samples are measured."""
    affines = (np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1]), np.eye(4)[[2, 0, 1, 3]])
    for number, affine in enumerate(affines):
        folder = tmp_path / f"case_{number}"
        folder.mkdir()
        image = np.zeros((10, 12, 14), np.int16)
        image[number : 10 - number, 2:9, 3:14] = 5
        for name, array in (("imaging", image), ("segmentation", (image > 0).astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    data_io = Data_IO(NIFTI_interface(classes=2), tmp_path)
    found = take_fingerprint(data_io, samples_measured=1)
    assert found.cropped_shapes == ((10, 7, 11), (8, 7, 11), (6, 7, 11))
    assert found.cropped_share == pytest.approx(8 * 7 * 11 / (10 * 12 * 14))
    assert found.orientations == tuple("".join(nib.aff2axcodes(affine)) for affine in affines)
    found.write(tmp_path / "fingerprint.json")
    assert read_fingerprint(tmp_path / "fingerprint.json") == found


def test_images_without_empty_borders_are_not_cropped(rng: np.random.Generator) -> None:
    found = take_fingerprint(make_io({"a": (rng.random((9, 8)) + 1, np.ones((9, 8), np.uint8))}, three_dim=False))
    assert found.cropped_shapes is None
    assert found.cropped_share == 1
    assert found.orientations is None


def test_a_fingerprint_of_an_earlier_version_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    found = take_fingerprint(make_io({"a": (rng.random((9, 8)) + 1, np.ones((9, 8), np.uint8))}, three_dim=False))
    found.write(tmp_path / "new.json")
    content = json.loads((tmp_path / "new.json").read_text())
    del content["cropped_shapes"], content["orientations"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert read_fingerprint(tmp_path / "old.json") == found
    content["orientations"] = ["RAS", "LPS"]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="another length"):
        read_fingerprint(tmp_path / "bad.json")
