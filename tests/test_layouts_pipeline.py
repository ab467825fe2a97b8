"""From the usual layouts to predictions that lie over the images: real MRI, linked, and small pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from layout_data import MSD, NNUNET, write_description, write_pairs

import miscnn_tf
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.processing.subfunctions import Normalization

CASES = ("hippocampus_007", "hippocampus_015", "hippocampus_025")


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def link_cases(root, hippocampus, channel):
    """Two training cases and a test case, nothing copied; `channel` stands at the end of the images' names."""
    for folder, names in (("Tr", CASES[:2]), ("Ts", CASES[2:])):
        for name in names:
            case = hippocampus / "cases" / name
            link(root / f"images{folder}" / f"{name}{channel}.nii.gz", case / "imaging.nii.gz")
            if folder == "Tr":
                link(root / f"labels{folder}" / f"{name}.nii.gz", case / "segmentation.nii.gz")


def decathlon(root, hippocampus):
    link_cases(root, hippocampus, "")
    pairs = [{"image": f"./imagesTr/{it}.nii.gz", "label": f"./labelsTr/{it}.nii.gz"} for it in CASES[:2]]
    write_description(root, MSD | {"training": pairs, "test": [f"./imagesTs/{CASES[2]}.nii.gz"]})


def nnunet(root, hippocampus):
    link_cases(root, hippocampus, "_0000")
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    write_description(root, NNUNET | {"channel_names": {"0": "MRI"}, "labels": labels})


def small_network(data_io, patch_shape) -> miscnn_tf.Neural_Network:
    preprocessor = miscnn_tf.Preprocessor(
        data_io, batch_size=2, subfunctions=[Normalization()], patch_shape=patch_shape, data_aug=None, seed=1
    )
    model = miscnn_tf.Neural_Network(preprocessor, Architecture(n_filters=2, depth=1))
    model.verbose = 0
    return model


@pytest.mark.parametrize("lay_out", [decathlon, nnunet])
def test_from_the_folder_to_predictions_and_back_from_a_model_file(tmp_path, hippocampus, lay_out):
    lay_out(tmp_path / "data", hippocampus)
    interface = find_interface(tmp_path / "data", part="all")
    data_io = miscnn_tf.Data_IO(
        interface, tmp_path / "data", output_path=tmp_path / "predictions", batch_path=tmp_path / "batches"
    )
    assert data_io.get_indiceslist() == list(CASES)
    data_io.check(CASES[:2])
    data_io.check(CASES[2:], load_seg=False)
    model = small_network(data_io, (32, 32, 32))
    history = model.train(CASES[:2], epochs=1, iterations=1)
    assert np.isfinite(history.history["loss"]).all()
    model.predict(CASES[2:])
    model.dump(tmp_path / "model.keras")

    source = hippocampus / "cases" / CASES[2] / "imaging.nii.gz"
    image, prediction = (
        sitk.ReadImage(str(source)),
        sitk.ReadImage(str(tmp_path / "predictions" / f"{CASES[2]}.nii.gz")),
    )
    assert prediction.GetSize() == image.GetSize()
    for voxel in ([0, 0, 0], [size - 1 for size in image.GetSize()]):
        np.testing.assert_allclose(
            prediction.TransformIndexToPhysicalPoint(voxel), image.TransformIndexToPhysicalPoint(voxel), atol=1e-4
        )

    # The model file knows its interface without the data set, and reads any scan.
    (tmp_path / "data" / "dataset.json").unlink()
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    interface = loaded.preprocessor.data_io.interface
    assert type(interface).__name__ == "DatasetJSON_interface"
    assert interface.names_of_classes() == ("background", "Anterior", "Posterior")
    loaded.predict_file(source, tmp_path / "again.nii.gz")
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again.nii.gz")))
    np.testing.assert_array_equal(again, sitk.GetArrayFromImage(prediction))


def test_pictures_and_masks_of_0_and_255(tmp_path):
    root = write_pairs(tmp_path / "data", size=(40, 48), mask_name="{}_mask.png")
    data_io = miscnn_tf.Data_IO(
        find_interface(root), root, output_path=tmp_path / "predictions", batch_path=tmp_path / "batches"
    )
    names = data_io.get_indiceslist()
    data_io.check(names)
    model = small_network(data_io, (16, 16))
    model.train(names[:2], epochs=1, iterations=1)
    model.predict(names[2:])
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["c.png"]
    assert data_io.sample_loader("c", load_pred=True).pred_data.shape == (40, 48, 1)
    model.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    loaded.predict_file(root / "images" / "c.png", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "predictions" / "c.png").read_bytes()
    assert json.loads(json.dumps(loaded.preprocessor.data_io.interface.label_map)) == {"255": 1}
