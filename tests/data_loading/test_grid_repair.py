from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import AFFINE, contents_of, files_below, write_cases, write_volume

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.grid_repair import resample_label_maps, resample_labels
from miscnn_tf.data_loading.interfaces import DatasetJSON_interface, NIFTI_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import ConfigurationError


def test_label_maps_are_resampled_as_simpleitk_does_it(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    cases = write_cases(data, 3)
    labels = np.random.default_rng(1).integers(0, 3, (9, 14, 5)).astype(np.uint8)
    turn = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    affine = turn @ AFFINE @ np.diag([1.3, 0.7, 1.21, 1])
    affine[:3, 3] += (0.31, 1.17, -2.03)
    write_volume(cases[1] / "segmentation.nii.gz", labels, affine)
    before = contents_of(data)

    data_io = Data_IO(NIFTI_interface(classes=3), data)
    assert verify(data_io).of_kind("grid") == ["case_1"]
    (repaired,) = resample_label_maps(data_io, ["case_1"], out)
    assert contents_of(data) == before
    assert repaired.path == out / "case_1" / "segmentation.nii.gz"
    assert files_below(out) == {"case_1/segmentation.nii.gz"}

    image = sitk.ReadImage(str(cases[1] / "imaging.nii.gz"))
    theirs = sitk.Resample(
        sitk.ReadImage(str(cases[1] / "segmentation.nii.gz")), image, sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    ours = sitk.ReadImage(str(repaired.path))
    assert ours.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(ours.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(ours.GetSpacing(), image.GetSpacing(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))

    # In the original's place, the data set is fine.
    (cases[1] / "segmentation.nii.gz").write_bytes(repaired.path.read_bytes())
    assert verify(data_io).of_kind("grid") == []


@settings(max_examples=40, deadline=None)
@given(
    scale=st.tuples(*[st.floats(0.3, 3.0)] * 3),
    shift=st.tuples(*[st.floats(-4, 4)] * 3),
    flip=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_each_voxel_gets_the_label_in_which_its_centre_lies(
    scale: tuple[float, ...], shift: tuple[float, ...], flip: tuple[int, ...]
) -> None:
    labels = np.arange(1, 61, dtype=np.uint16).reshape(3, 4, 5)
    affine, new_affine = np.diag([1.0, 2.0, 3.0, 1.0]), np.diag([*np.multiply(scale, flip), 1.0])
    new_affine[:3, 3] = shift
    shape = (6, 5, 4)
    result = resample_labels(labels, affine, shape, new_affine)
    assert result.dtype == labels.dtype
    for place in np.ndindex(shape):
        centre = (np.linalg.inv(affine) @ new_affine @ [*place, 1])[:3]
        nearest = np.floor(centre + 0.5).astype(int)
        if np.any(np.abs(centre + 0.5 - np.round(centre + 0.5)) < 1e-6):
            continue  # on the border of two voxels both are right
        inside = np.all((nearest >= 0) & (nearest < labels.shape))
        assert result[place] == (labels[tuple(nearest)] if inside else 0)


def test_a_label_map_whose_header_was_lost_is_not_made_empty(tmp_path: Path) -> None:
    data = tmp_path / "data"
    cases = write_cases(data, 2)
    labels = np.asarray(nib.load(cases[0] / "segmentation.nii.gz").dataobj)
    far = AFFINE.copy()
    far[:3, 3] += 1000
    write_volume(cases[0] / "segmentation.nii.gz", labels, far)
    half = AFFINE.copy()
    half[2, 3] += 7.5  # three of its slices are outside
    write_volume(cases[1] / "segmentation.nii.gz", labels, half)
    first, second = resample_label_maps(Data_IO(NIFTI_interface(classes=3), data), ["case_0", "case_1"], tmp_path / "x")
    assert first.path is None
    assert "is outside the image" in first.message
    assert second.path is not None
    assert "of the foreground is inside" in second.message
    assert files_below(tmp_path / "x") == {"case_1/segmentation.nii.gz"}


def test_the_data_folder_and_folders_with_something_in_them_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_cases(data, 2)
    data_io = Data_IO(NIFTI_interface(classes=3), data)
    before = contents_of(tmp_path)
    for folder in (data, data / "new", data / "case_0"):
        with pytest.raises(ConfigurationError, match="is inside the data folder"):
            resample_label_maps(data_io, ["case_0"], folder)
    full = tmp_path / "full"
    full.mkdir()
    (full / "case_0").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty"):
        resample_label_maps(data_io, ["case_0"], full)
    link = tmp_path / "link"
    link.symlink_to(data)
    with pytest.raises(ConfigurationError, match="is inside the data folder"):
        resample_label_maps(data_io, ["case_0"], link / "new")
    assert {name: content for name, content in contents_of(tmp_path).items() if name in before} == before


def test_other_layouts_and_slices(tmp_path: Path) -> None:
    import json

    data = tmp_path / "data"
    write_volume(data / "imagesTr" / "a_0000.nii.gz", np.zeros((8, 8, 4), np.int16))
    write_volume(data / "labelsTr" / "a.nii.gz", np.ones((4, 4, 4), np.uint8), AFFINE @ np.diag([2, 2, 1, 1]))
    (data / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"})
    )
    (repaired,) = resample_label_maps(Data_IO(DatasetJSON_interface(), data), ["a"], tmp_path / "out")
    assert repaired.path == tmp_path / "out" / "labelsTr" / "a.nii.gz"
    assert nib.load(repaired.path).shape == (8, 8, 4)

    flat = tmp_path / "flat"
    write_volume(flat / "s" / "imaging.nii.gz", np.zeros((8, 8, 1), np.int16))
    write_volume(flat / "s" / "segmentation.nii.gz", np.ones((4, 4, 1), np.uint8), AFFINE @ np.diag([2, 2, 1, 1]))
    interface = NIFTI_interface(classes=2, three_dim=False)
    (repaired,) = resample_label_maps(Data_IO(interface, flat), ["s"], tmp_path / "flat_out")
    assert repaired.path is not None
    assert nib.load(repaired.path).shape[:2] == (8, 8)


def test_files_without_a_place_in_the_world_are_left(tmp_path: Path, toy_io) -> None:
    (repaired,) = resample_label_maps(toy_io(), ["case_0"], tmp_path / "out")
    assert repaired.path is None
    assert "ToyInterface" in repaired.message
