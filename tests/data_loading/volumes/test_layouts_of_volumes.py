"""Every layout reads every format of volumes, and writes predictions in it, over the image."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from layout_data import image_of, labels_of, oblique, write_description

from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.formats.volumes import prediction_ending, read_info, read_voxels, write_volume
from miscnn_tf.data_loading.geometry import grid_difference
from miscnn_tf.data_loading.grid_repair import resample_label_maps
from miscnn_tf.data_loading.interfaces import get_data_interface_from_file_term
from miscnn_tf.data_loading.interfaces.description import interface_for
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import NIFTIslicer_interface
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.label_folders import evaluate_label_maps, find_label_maps
from miscnn_tf.experiment.toml_file import read_experiment
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.score_table import read_scores

SHAPE = (9, 10, 8)
NAMES = ("case_1", "case_2", "case_3")
ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".hdr", ".npy", ".npz", ".tif")
#: Formats that SimpleITK writes.
OF_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a file with another library where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in OF_ITK:
        write_volume(path.with_name("temporary.mha"), array, {"affine": affine})
        sitk.WriteImage(sitk.ReadImage(str(path.with_name("temporary.mha"))), str(path))
        path.with_name("temporary.mha").unlink()
    elif path.suffix == ".hdr":
        nibabel.save(nibabel.Nifti1Pair(array, affine), path.with_suffix(".img"))
    elif path.suffix == ".mgz":
        nibabel.save(nibabel.freesurfer.mghformat.MGHImage(array, affine), path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array.T)
    else:
        {".npy": np.save, ".npz": lambda path, array: np.savez(path, array)}[path.suffix](path, array)


def cases(root: Path, ending: str, image: str, label: str, affine: np.ndarray | None = None) -> Path:
    for name in NAMES:
        grid = oblique() if affine is None else affine
        save(root / f"{image.format(name)}{ending}", image_of(name, shape=SHAPE), grid)
        save(root / f"{label.format(name)}{ending}", labels_of(name, SHAPE), grid)
    return root


def folders(root: Path, ending: str) -> Path:
    return cases(root, ending, "{}/imaging", "{}/segmentation")


def pairs(root: Path, ending: str) -> Path:
    return cases(root, ending, "images/{}", "masks/{}_seg")


def dataset_json(root: Path, ending: str) -> Path:
    labels = {"background": 0, "one": 1, "two": 2}
    write_description(root, {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 3, "file_ending": ending})
    return cases(root, ending, "imagesTr/{}_0000", "labelsTr/{}")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("layout", [folders, pairs, dataset_json])
def test_from_the_folder_to_predictions(tmp_path, layout, ending):
    layout(tmp_path / "data", ending)
    interface = find_interface(tmp_path / "data")
    assert (interface.channels, interface.classes, interface.three_dim) == (1, 3, True)
    data_io = Data_IO(interface, tmp_path / "data", output_path=str(tmp_path / "out"))
    assert data_io.get_indiceslist() == list(NAMES)
    data_io.check(NAMES)
    written = prediction_ending(ending)
    for name in NAMES:
        sample = data_io.sample_loader(name)
        np.testing.assert_array_equal(sample.img_data[..., 0], image_of(name, shape=SHAPE))
        np.testing.assert_array_equal(sample.seg_data[..., 0], labels_of(name, SHAPE))
        assert interface.load_shape(name) == SHAPE
        sample.add_prediction(labels_of(name, SHAPE))
        data_io.save_prediction(sample)
        path = tmp_path / "out" / f"{name}{written}"
        np.testing.assert_array_equal(read_voxels(read_info(path)), labels_of(name, SHAPE))
        np.testing.assert_array_equal(interface.load_prediction(name, tmp_path / "out"), labels_of(name, SHAPE))
        affine = read_info(path).affine
        if affine is not None:
            assert grid_difference(SHAPE, oblique(), SHAPE, affine, tolerance=1e-3) is None
    if ending in OF_ITK:
        image = next(path for path in sorted((tmp_path / "data").rglob(f"*{ending}")) if "case_1" in str(path))
        first, second = (sitk.ReadImage(str(one)) for one in (image, tmp_path / "out" / f"case_1{written}"))
        assert first.GetSize() == second.GetSize()
        for fact in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(first, fact)(), getattr(second, fact)(), atol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_init_and_evaluate(tmp_path, ending, capsys):
    pairs(tmp_path / "data", ending)
    assert cli.main(["init", str(tmp_path / "data"), "-o", str(tmp_path / "a.toml")]) == 0
    made = read_experiment(tmp_path / "a.toml")
    assert (made.data.layout, made.data.classes, made.data.channels) == ("PAIRED", 3, 1)
    assert "3 samples, layout PAIRED" in capsys.readouterr().out
    masks = find_label_maps(tmp_path / "data" / "masks")
    evaluate_label_maps(masks, masks, tmp_path / "scores")
    assert {row["dice"] for row in read_scores(tmp_path / "scores" / "scores.csv")} == {1.0}


def test_train_and_predict_files_of_another_format(tmp_path):
    folders(tmp_path / "data", ".nrrd")
    interface = find_interface(tmp_path / "data")
    data_io = Data_IO(interface, tmp_path / "data", output_path=str(tmp_path / "out"))
    pre = Preprocessor(data_io, batch_size=1, patch_shape=(8, 8, 8), data_aug=None, seed=1)
    model = Neural_Network(pre, Architecture(n_filters=2, depth=1))
    model.verbose = 0
    model.train(list(NAMES[:2]), epochs=1)
    model.predict(list(NAMES[2:]))
    found = read_info(tmp_path / "out" / "case_3.nrrd")
    assert grid_difference(SHAPE, oblique(), SHAPE, found.affine, tolerance=1e-3) is None
    save(tmp_path / "new.mha", image_of("case_3", shape=SHAPE), oblique())
    model.predict_file(tmp_path / "new.mha", tmp_path / "new_seg.mha")
    np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "new_seg.mha")), read_voxels(found))
    assert grid_difference(SHAPE, oblique(), SHAPE, read_info(tmp_path / "new_seg.mha").affine, 1e-3) is None
    model.dump(tmp_path / "model.keras")
    for ending in (".mhd", ".mgz", ".npy"):
        save(tmp_path / "scans" / f"{ending[1:]}{ending}", image_of("case_3", shape=SHAPE), oblique())
    assert cli.main(["predict", str(tmp_path / "model.keras"), str(tmp_path / "scans"), str(tmp_path / "cli")]) == 0
    for name in ("mhd.mha", "mgz.mgz", "npy.npy"):
        np.testing.assert_array_equal(read_voxels(read_info(tmp_path / "cli" / name)), read_voxels(found))


def test_masks_on_another_grid_are_reported_and_repaired(tmp_path):
    root = folders(tmp_path / "data", ".nrrd")
    save(root / "case_1" / "segmentation.nrrd", labels_of("case_1", SHAPE), oblique() @ np.diag([1, 1, 2, 1.0]))
    data_io = Data_IO(find_interface(root), root)
    with pytest.raises(DataError, match=r"case_1.*segmentation\.nrrd is not on the grid"):
        data_io.check(["case_1"])
    (repaired,) = resample_label_maps(data_io, ["case_1"], tmp_path / "repaired")
    assert repaired.path == tmp_path / "repaired" / "case_1" / "segmentation.nrrd"
    assert grid_difference(SHAPE, oblique(), SHAPE, read_info(repaired.path).affine, tolerance=1e-3) is None


def test_channels_in_a_file_each(tmp_path):
    for name in NAMES:
        for channel in range(2):
            image = image_of(name, channel, SHAPE)
            save(tmp_path / name / f"imaging_{channel:04d}.mha", image, oblique())
        save(tmp_path / name / "segmentation.nrrd", labels_of(name, SHAPE), oblique())
    interface = find_interface(tmp_path)
    assert interface.channels == 2
    data_io = Data_IO(interface, tmp_path)
    data_io.check(NAMES)
    np.testing.assert_array_equal(data_io.sample_loader("case_2").img_data[..., 1], image_of("case_2", 1, SHAPE))


def test_arrays_in_colours(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "imaging.npy", image_of(name, shape=(9, 7, 3)).astype(np.uint8))
        np.save(tmp_path / name / "segmentation.npy", labels_of(name, (9, 7)))
    interface = find_interface(tmp_path)
    assert (interface.channels, interface.three_dim) == (3, False)
    data_io = Data_IO(interface, tmp_path, output_path=str(tmp_path / "out"))
    data_io.check(NAMES)
    sample = data_io.sample_loader("case_1")
    sample.add_prediction(sample.seg_data[..., 0])
    data_io.save_prediction(sample)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "case_1.npy"), labels_of("case_1", (9, 7)))


def test_a_changed_data_file_is_noticed(tmp_path):
    """The cache of prepared samples asks by fingerprint: the header of a pair stays the same."""
    root = folders(tmp_path / "data", ".mhd")
    interface = find_interface(root)
    interface.initialize(root)
    before = interface.fingerprint("case_1", root)
    save(root / "case_1" / "imaging.mhd", image_of("other", shape=SHAPE), oblique())
    assert interface.fingerprint("case_1", root) != before


def test_slices_of_other_formats(tmp_path):
    root = folders(tmp_path / "data", ".nrrd")
    interface = NIFTIslicer_interface(slice_axis=2, classes=3)
    names = interface.initialize(root)
    np.testing.assert_array_equal(interface.load_image(names[3])[0], image_of("case_1", shape=SHAPE)[:, :, 3])
    data_io = Data_IO(interface, root, output_path=str(tmp_path / "out"))
    for name in names[: SHAPE[2]]:
        sample = data_io.sample_loader(name)
        sample.add_prediction(sample.seg_data[..., 0])
        data_io.save_prediction(sample)
    path = interface.assemble_volume("case_1", tmp_path / "out")
    np.testing.assert_array_equal(read_voxels(read_info(path)), labels_of("case_1", SHAPE))
    assert grid_difference(SHAPE, oblique(), SHAPE, read_info(path).affine, tolerance=1e-3) is None


def test_the_interface_of_a_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", image_of("a", shape=SHAPE))
    tifffile.imwrite(tmp_path / "b.tif", image_of("a", shape=SHAPE)[0])
    for ending in (".nrrd", ".mha", ".mhd", ".mgz", ".hdr", ".npy"):
        assert get_data_interface_from_file_term(ending).__name__ == "NIFTI_interface"
    volumes = find_interface(folders(tmp_path / "data", ".nrrd"))
    assert interface_for(volumes, tmp_path / "a.tif") is volumes
    assert type(interface_for(volumes, tmp_path / "b.tif")).__name__ == "Image_interface"
