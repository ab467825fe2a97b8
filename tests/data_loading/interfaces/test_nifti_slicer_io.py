"""Slices of NIfTI volumes as samples."""

from __future__ import annotations

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.interfaces import NIFTIslicer_interface, nifti_slicer_io
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import VolumeCache
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

SHAPE = (5, 6, 7)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix() * (0.7, 0.9, 3.0)
AFFINE[:3, 3] = (-30, 40, 50)


@pytest.fixture
def volumes(tmp_path, rng):
    """The data folder, and for each volume its image and labels."""
    known = {}
    for name, ending in (("b", ".nii"), ("a", ".nii.gz")):
        image = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        (tmp_path / "data" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / "data" / name / f"imaging{ending}")
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "data" / name / f"segmentation{ending}")
        known[name] = (image, labels)
    return tmp_path / "data", known


@pytest.fixture
def reads(monkeypatch) -> list:
    """Counts the volumes that are decoded."""
    found = []
    original = nifti_slicer_io.read_voxels

    def read(info):
        found.append(info.path.name)
        time.sleep(0.02)  # time enough for another thread to begin as well
        return original(info)

    monkeypatch.setattr(nifti_slicer_io, "read_voxels", read)
    return found


def loaded(interface, index, prediction, activation=False) -> Sample:
    image, extended = interface.load_image(index)
    sample = Sample(index, image, 1, 3, extended=extended, three_dim=False)
    sample.add_prediction(prediction, activation_output=activation)
    return sample


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_volume(volumes, axis):
    path, known = volumes
    interface = NIFTIslicer_interface(slice_axis=axis, classes=3)
    indices = interface.initialize(path)
    assert indices == [f"{name}:#:{i}" for name in "ab" for i in range(SHAPE[axis])]
    for index in indices:
        name, position = index.split(":#:")
        image, extended = interface.load_image(index)
        np.testing.assert_array_equal(image, known[name][0].take(int(position), axis))
        np.testing.assert_array_equal(interface.load_segmentation(index), known[name][1].take(int(position), axis))
        assert extended["spacing"].tolist() == np.delete([0.7, 0.9, 3.0], axis).tolist()
        interface.check(index)


def test_initialize_reads_headers_only(volumes, reads):
    interface = NIFTIslicer_interface()
    interface.initialize(volumes[0])
    assert reads == []


def test_a_volume_is_decoded_once(volumes, reads):
    interface = NIFTIslicer_interface(classes=3)
    for index in interface.initialize(volumes[0]):
        interface.load_image(index)
        interface.load_segmentation(index)
    # The uncompressed volume is mapped, never decoded.
    assert reads == ["imaging.nii.gz", "segmentation.nii.gz"]


def test_a_volume_is_decoded_once_by_many_threads(volumes, reads):
    interface = NIFTIslicer_interface(classes=3)
    indices = interface.initialize(volumes[0]) * 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: interface.load_image(index)[0], indices))
    assert reads == ["imaging.nii.gz"]
    for index, image in zip(indices, found, strict=True):
        name, position = index.split(":#:")
        np.testing.assert_array_equal(image, volumes[1][name][0][int(position)])


def test_cache_keeps_to_its_budget(tmp_path, reads):
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.full((10, 10, 10), number, np.uint8), np.eye(4)), paths[-1])
    cache = VolumeCache(2000)
    for path in paths:
        cache.plane(path, 0, 0)
        assert cache.nbytes <= 2000
    cache.plane(paths[3], 0, 0)
    assert len(reads) == 4
    cache.plane(paths[0], 0, 0)
    assert len(reads) == 5
    small = VolumeCache(10)
    small.plane(paths[0], 0, 0)
    small.plane(paths[0], 0, 1)
    assert len(reads) == 6


def test_a_changed_volume_is_read_again(volumes):
    path, _ = volumes
    interface = NIFTIslicer_interface()
    interface.initialize(path)
    interface.load_image("a:#:0")
    nibabel.save(nibabel.Nifti1Image(np.full(SHAPE, 77, np.int32), AFFINE), path / "a" / "imaging.nii.gz")
    assert (interface.load_image("a:#:0")[0] == 77).all()


def test_changing_a_slice_changes_no_other_reading(volumes):
    interface = NIFTIslicer_interface()
    interface.initialize(volumes[0])
    for name in "ab":
        interface.load_image(f"{name}:#:0")[0][...] = 0
        np.testing.assert_array_equal(interface.load_image(f"{name}:#:0")[0], volumes[1][name][0][0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_for_other_processes(volumes, duplicate):
    interface = NIFTIslicer_interface()
    interface.initialize(volumes[0])
    interface.load_image("a:#:0")
    np.testing.assert_array_equal(duplicate(interface).load_image("a:#:1")[0], volumes[1]["a"][0][1])


def test_multi_modal_files(tmp_path, rng):
    images = rng.integers(0, 99, (2, *SHAPE)).astype(np.int16)
    (tmp_path / "a").mkdir()
    for number in range(2):
        nibabel.save(nibabel.Nifti1Image(images[number], AFFINE), tmp_path / "a" / f"imaging_{number:04d}.nii.gz")
    interface = NIFTIslicer_interface(channels=2)
    interface.initialize(tmp_path)
    np.testing.assert_array_equal(interface.load_image("a:#:3")[0], np.stack(images[:, 3], axis=-1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_save_prediction_works_and_lies_where_the_slice_was_cut(volumes, tmp_path, axis):
    # In MIScnn it crashes.
    path, known = volumes
    interface = NIFTIslicer_interface(slice_axis=axis, classes=3)
    interface.initialize(path)
    labels = known["a"][1].take(4, axis)
    interface.save_prediction(loaded(interface, "a:#:4", labels), tmp_path / "out")
    np.testing.assert_array_equal(interface.load_prediction("a:#:4", tmp_path / "out"), labels)
    volume = sitk.ReadImage(str(path / "a" / "imaging.nii.gz"))
    plane = sitk.ReadImage(str(tmp_path / "out" / "a:#:4.nii.gz"))
    for place in np.ndindex(*labels.shape):
        voxel = [int(i) for i in np.insert(place, axis, 4)]
        found = plane.TransformPhysicalPointToIndex(volume.TransformIndexToPhysicalPoint(voxel))
        assert found[axis] == 0
        assert plane[found] == labels[place]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_become_a_volume(volumes, tmp_path, axis):
    path, known = volumes
    interface = NIFTIslicer_interface(slice_axis=axis, classes=3)
    for index in interface.initialize(path):
        interface.save_prediction(loaded(interface, index, interface.load_segmentation(index)), tmp_path / "out")
    written = interface.assemble_volume("a", tmp_path / "out")
    assert written == tmp_path / "out" / "a.nii.gz"
    found = nibabel.load(written)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), known["a"][1])
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
    assert found.get_data_dtype() == np.uint8


def test_probabilities_become_a_volume(volumes, tmp_path, rng):
    interface = NIFTIslicer_interface(slice_axis=1, classes=3)
    interface.initialize(volumes[0])
    expected = rng.random((*SHAPE, 3)).astype(np.float32)
    for position in range(SHAPE[1]):
        sample = loaded(interface, f"a:#:{position}", expected[:, position], True)
        interface.save_prediction(sample, tmp_path / "out")
        np.testing.assert_array_equal(
            interface.load_prediction(f"a:#:{position}", tmp_path / "out"), expected[:, position]
        )
    written = interface.assemble_volume("a", tmp_path / "out", tmp_path / "whole.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(written).dataobj), expected)


def test_missing_slices_are_listed(volumes, tmp_path):
    interface = NIFTIslicer_interface(classes=3)
    interface.initialize(volumes[0])
    interface.save_prediction(loaded(interface, "a:#:0", volumes[1]["a"][1][0]), tmp_path / "out")
    with pytest.raises(MissingDataError, match="lacks 4 of 5 slices of a: predict a:#:1, a:#:2"):
        interface.assemble_volume("a", tmp_path / "out")


def test_read_file_of_one_slice(volumes, tmp_path):
    interface = NIFTIslicer_interface(classes=3)
    interface.initialize(volumes[0])
    interface.save_prediction(loaded(interface, "a:#:2", volumes[1]["a"][1][2]), tmp_path)
    image, extended = interface.read_file(tmp_path / "a:#:2.nii.gz")
    np.testing.assert_array_equal(image, volumes[1]["a"][1][2])
    np.testing.assert_allclose(extended["affine"], interface.load_image("a:#:2")[1]["affine"], atol=1e-5)
    with pytest.raises(DataError, match="a volume of 5 slices"):
        interface.read_file(volumes[0] / "a" / "imaging.nii.gz")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("a", "is not the name of a slice"),
        ("a:#:x", "is not the name of a slice"),
        ("a:#:-1", "is not the name of a slice"),
        ("a:#:5", "slices 0 to 4"),
        ("../data/a:#:0", "cannot be a file name"),
        ("c:#:0", "sample 'c' is not in"),
    ],
)
def test_indices_that_name_no_slice(volumes, index, message):
    interface = NIFTIslicer_interface()
    interface.initialize(volumes[0])
    for act in (interface.load_image, interface.load_segmentation, interface.check):
        with pytest.raises(DataError, match=message):
            act(index)


def test_an_index_that_leads_out_is_not_written(volumes, tmp_path):
    interface = NIFTIslicer_interface(classes=3)
    interface.initialize(volumes[0])
    sample = loaded(interface, "a:#:0", volumes[1]["a"][1][0])
    sample.index = "../evil:#:0"
    with pytest.raises(DataError, match="cannot be a file name"):
        interface.save_prediction(sample, tmp_path / "out")


def test_bad_axis():
    with pytest.raises(ConfigurationError, match="slice_axis=3"):
        NIFTIslicer_interface(slice_axis=3)


def test_2d_files_hold_no_slices(tmp_path):
    (tmp_path / "a").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6), np.uint8), np.eye(4)), tmp_path / "a" / "imaging.nii.gz")
    with pytest.raises(DataError, match=r"imaging\.nii\.gz"):
        NIFTIslicer_interface().initialize(tmp_path)


def test_fingerprint_is_the_volumes(volumes):
    path, _ = volumes
    interface = NIFTIslicer_interface()
    interface.initialize(path)
    before = interface.fingerprint("a:#:0", path)
    assert interface.fingerprint("a:#:1", path) == before
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), AFFINE), path / "a" / "segmentation.nii.gz")
    assert interface.fingerprint("a:#:0", path) != before


def test_configuration_round_trip():
    interface = NIFTIslicer_interface(2, classes=3, pattern="a.*", label_map={4: 2}, cache_bytes=5)
    assert get_config(NIFTIslicer_interface(**get_config(interface))) == get_config(interface)


def test_what_is_known_of_a_slice_is_read_from_the_header_alone(volumes, reads):
    data_path, _ = volumes
    interface = NIFTIslicer_interface(slice_axis=1, classes=3)
    interface.initialize(data_path)
    found = interface.load_extended("a:#:2")
    assert not reads
    np.testing.assert_allclose(found["spacing"], (0.7, 3.0), rtol=1e-6)
    expected = interface.load_image("a:#:2")[1]
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["affine"], expected["affine"])
    with pytest.raises(DataError):
        interface.load_extended("a:#:6")


def test_memory_for_volumes_is_said_as_elsewhere():
    assert NIFTIslicer_interface(cache_bytes="2GiB").cache_bytes == 2**31
    with pytest.raises(ConfigurationError, match="cache_bytes must be a number of bytes"):
        NIFTIslicer_interface(cache_bytes="much")
