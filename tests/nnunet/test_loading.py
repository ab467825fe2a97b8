"""Models of nnU-Net: the same logits, labels and files as nnU-Net's own predictor."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunet_models import make_case, pytorch_weights, write_model
from PIL import Image

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.multi_model import load_group
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.nnunet.loading import load_nnunet

TORCH = os.environ.get("MISCNN_TF_NNUNET_PYTHON")
with_nnunet = pytest.mark.skipif(TORCH is None, reason="MISCNN_TF_NNUNET_PYTHON names no Python with nnunetv2")

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "parity" / "_reference_model.py"


def write_images(folder: Path, channels: int, seed: int = 0, box: bool = False) -> None:
    """Write a rotated, anisotropic volume of blobs."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    shape, spacing = (31, 26, 22), (1.1, 0.9, 1.6)
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(spacing), (5, -7, 11)
    coarse = rng.random((*(size // 4 + 1 for size in shape), channels))
    blobs = np.kron(coarse, np.ones((4, 4, 4, 1)))[: shape[0], : shape[1], : shape[2]]
    volume = 200 * blobs + 10 * rng.standard_normal(blobs.shape)
    if box:
        volume[:5], volume[:, -4:], volume[..., :3, :] = 0, 0, 0
    for channel in range(channels):
        image = nib.Nifti1Image(volume[..., channel].astype(np.float32), affine)
        nib.save(image, folder / f"case_{channel:04}.nii.gz")


THICK = {
    "patch": (8, 24, 24),
    "spacing": (4.0, 1.0, 1.0),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
}
FLAT = {
    "patch": (24, 32),
    "spacing": (1.0, 1.25),
    "strides": ((1, 1), (2, 2), (2, 2)),
    "kernels": ((3, 3),) * 3,
    "configuration": "2d",
}
CASES = {
    "isotropic": {},
    "residual": {"kind": "ResidualEncoderUNet"},
    "thick, transposed": {**THICK, "transposed": (1, 0, 2)},
    "2d": FLAT,
    "2d, transposed": {**FLAT, "transposed": (2, 0, 1)},
    "pictures": {
        **{**FLAT, "spacing": (1.0, 1.0), "mirroring": (0, 1)},
        **{"reader": "NaturalImage2DIO", "ending": ".png", "schemes": ("RGBTo01Normalization",) * 3},
    },
    "mirrored, three folds": {"mirroring": (0, 2), "folds": (0, 1, 2)},
    "CT, channels": {"schemes": ("CTNormalization", "NoNormalization", "ZScoreNormalization")},
    "non-zero mask": {"schemes": ("ZScoreNormalization",) * 2, "masked": True},
    "regions": {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": [3]}, "order": (1, 2, 3)},
    "ignore": {"labels": {"background": 0, "liver": 1, "ignore": 2}},
}


@pytest.fixture(params=CASES, ids=list(CASES))
def reference(request, tmp_path):
    case = make_case(**CASES[request.param])
    if request.param == "pictures":
        (tmp_path / "images").mkdir()
        picture = np.kron(np.random.default_rng(0).integers(0, 256, (11, 9, 3)), np.ones((4, 4, 1)))
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "images" / "case_0000.png")
    else:
        write_images(tmp_path / "images", len(case["dataset"]["channel_names"]), box=request.param == "non-zero mask")
    (tmp_path / "case.json").write_text(json.dumps(case))
    done = subprocess.run([TORCH, PROGRAM, tmp_path / "case.json", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tmp_path, case


@with_nnunet
@pytest.mark.slow
def test_predictions_are_those_of_nnunet(reference):
    folder, case = reference
    model = load_nnunet(folder / "model")
    network = model.models[0] if len(case["folds"]) > 1 else model
    with np.load(folder / "window.npz") as window:
        image, expected = np.moveaxis(window["image"], 0, -1), np.moveaxis(window["logits"], 0, -1)
    found = logits_of_window(network, image, case)
    np.testing.assert_allclose(found, expected, atol=1e-4)

    parts = sorted((folder / "images").iterdir())
    source = parts[0] if len(parts) == 1 else parts
    with np.load(folder / "predictions" / "case.npz") as there:
        labels, probabilities = there["labels"].T, there["probabilities"].T
    ending = case["dataset"]["file_ending"]
    if ending == ".png":  # (1, rows, columns) there
        labels, probabilities = (np.swapaxes(one[:, :, 0], 0, 1) for one in (labels, probabilities))
    written = folder / f"seg{ending}"
    made = model.predict_file(source, written)
    assert np.mean(made == labels) >= 0.9999
    chances = model.predict_file(source, activation_output=True)
    np.testing.assert_allclose(chances, probabilities, atol=1e-3)
    if ending == ".png":
        np.testing.assert_array_equal(np.asarray(Image.open(written)), made)
        return
    ours, theirs = nib.load(written), nib.load(folder / "predictions" / "case.nii.gz")
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), made)


def logits_of_window(network: miscnn_tf.Neural_Network, image: np.ndarray, case) -> np.ndarray:
    """Return the logits of a patch in the order of nnU-Net's axes."""
    import keras

    order = [2 - axis for axis in case["plans"]["transpose_forward"]]
    if not network.three_dim:
        order = [0, 1]
    sliced = image.ndim == 3 and network.three_dim
    if sliced:
        image = image[np.newaxis]
    axes = tuple(range(len(order)))
    ours = np.moveaxis(image, axes, order)
    head = network.model.layers[-1]
    before = keras.Model(network.model.inputs, head.input)
    features = before(ours[np.newaxis])
    kernel, bias = (np.asarray(weight) for weight in head.weights)
    logits = np.asarray(features)[0] @ kernel.reshape(kernel.shape[-2:]) + bias
    back = np.moveaxis(logits, order, axes)
    return back[0] if sliced else back


def planned(case, tmp_path):
    """Return a network of the plans of a case, with the weights of its seed."""
    empty = write_model(tmp_path / "empty", {**case, "folds": ()}, {})
    from miscnn_tf.data_loading.interfaces import DatasetJSON_interface
    from miscnn_tf.neural_network.architecture import architectures
    from miscnn_tf.nnunet.plans import read_plan

    plan = read_plan(empty, case["configuration"])
    architecture = architectures["nnunet_plain"](
        plan.features, plan.kernel_sizes, plan.strides, plan.convolutions, plan.decoder_convolutions
    )
    classes = DatasetJSON_interface.from_description(empty, plan.three_dim).classes
    return plan, architecture.create_model((*plan.patch_shape, len(plan.modes)), classes)


@pytest.fixture
def tiny(tmp_path):
    """A case with thick slices and transposed axes, and a model of two folds of it in a folder."""
    case = make_case(**THICK, transposed=(1, 0, 2), folds=(0, 1), mirroring=(0, 2))
    plan, model = planned(case, tmp_path)
    folder = tmp_path / "Dataset004_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    return case, model, write_model(folder, case, pytorch_weights(model, plan.axes))


@pytest.mark.parametrize("name", ["isotropic", "thick, transposed", "2d", "2d, transposed"])
def test_weights_of_our_own_writer_come_back(tmp_path, name):
    case = make_case(**CASES[name])
    plan, model = planned(case, tmp_path)
    network = load_nnunet(write_model(tmp_path / "model", case, pytorch_weights(model, plan.axes)))
    for ours, theirs in zip(network.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_settings_are_those_of_the_plans(tiny):
    _, _, folder = tiny
    group = load_nnunet(folder.parent)  # the folder above it
    assert len(group.models) == 2
    network, before = group.models[0], group.preprocessor
    # nnU-Net: (z, y, x) transposed to (y, z, x); its thick axis is the first, our axis 1.
    assert network.window_shape == (24, 8, 24)
    assert network.architecture.strides == ((1, 1, 1), (2, 1, 2), (2, 2, 2))
    assert network.architecture.kernel_sizes[0] == (3, 1, 3)
    assert before.subfunctions[2].new_spacing == (1.0, 4.0, 1.0)
    assert before.data_augmentation.config_mirror_axes == [0, 1]
    assert before.data_augmentation.infaug_flip_list == [1, 2]
    assert before.patchwise_overlap == 0.5
    assert before.subfunctions[1].smooth == 0  # nnU-Net adds nothing to the standard deviation
    assert before.data_io.interface.names_of_classes() == ("background", "liver", "tumour")


def test_plans_of_releases_before_2_4_and_inherited_settings(tiny, tmp_path):
    """They have no table of the architecture."""
    case, model, _ = tiny
    every = case["plans"]["configurations"]
    one = every["3d_fullres"]
    arguments = one.pop("architecture")["arch_kwargs"]
    one |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    every["parent"] = one
    every["3d_fullres"] = {"inherits_from": "parent", "batch_size": 4}
    weights = pytorch_weights(model, (1, 2, 0))
    network = load_nnunet(write_model(tmp_path / "old", {**case, "folds": (0,)}, weights))
    assert network.architecture.features == (4, 8, 12)
    assert network.preprocessor.batch_size == 4
    for ours, theirs in zip(network.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_folds_are_chosen(tiny):
    _, _, folder = tiny
    assert not hasattr(load_nnunet(folder, [1]), "models")
    with pytest.raises(MissingDataError, match=r"has no checkpoint_final.pth of fold 7; it has those of 0, 1"):
        load_nnunet(folder, [0, 7])
    with pytest.raises(MissingDataError, match=r"has no checkpoint_best.pth of fold any number"):
        load_nnunet(folder, checkpoint="best")
    with pytest.raises(ConfigurationError, match=r"checkpoint='last' must be 'final' or 'best'"):
        load_nnunet(folder, checkpoint="last")


def test_the_command_writes_a_model_with_its_card(tiny, tmp_path, capsys):
    _, model, folder = tiny
    (folder / "LICENSE").write_text("CC BY 4.0\nand more\n")
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("Dataset004_Test/progress.png", b"picture")
    assert cli.main(["import-nnunet", str(tmp_path / "model.zip"), str(tmp_path / "group")]) == 0
    printed = capsys.readouterr().out
    assert "configuration 3d_fullres" in printed
    assert f"miscnn-tf predict {tmp_path / 'group'} IMAGES PREDICTIONS" in printed
    assert len(load_group(tmp_path / "group").models) == 2
    one = tmp_path / "one.keras"
    assert cli.main(["import-nnunet", str(folder), str(one), "--folds", "0"]) == 0
    loaded = load_model(one)
    assert loaded.model_card["data set"] == "Dataset004_Test"
    assert loaded.model_card["classes"] == "background, liver, tumour"
    assert loaded.model_card["voxel size"] == "1.0 x 4.0 x 1.0 mm"
    assert loaded.model_card["licence"] == "CC BY 4.0\nand more\n"
    np.testing.assert_array_equal(loaded.model.get_weights()[0], model.get_weights()[0])
    assert cli.main(["import-nnunet", str(folder), str(one)]) == 1
    assert "exists; name another file" in capsys.readouterr().err
    assert cli.main(["import-nnunet", str(folder), str(tmp_path / "two.keras")]) == 1
    assert "has 2 folds, but" in capsys.readouterr().err
    assert cli.main(["import-nnunet", str(folder), str(tmp_path / "single"), "--folds", "1"]) == 0
    write_images(tmp_path / "images", 1)
    command = ["predict", str(tmp_path / "single"), str(tmp_path / "images" / "case_0000.nii.gz")]
    assert cli.main([*command, str(tmp_path / "seg.nii.gz")]) == 0
    assert set(np.unique(np.asarray(nib.load(tmp_path / "seg.nii.gz").dataobj))) <= {0, 1, 2}


def of_configuration(**changes):
    return lambda case: case["plans"]["configurations"]["3d_fullres"].update(changes)


def of_network(**changes):
    def change(case):
        case["plans"]["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_configuration(previous_stage="3d_lowres"), "second stage of a cascade is not supported; import its first"),
        (of_configuration(preprocessor_name="Mine"), "preprocessor_name='Mine' is not supported"),
        (of_configuration(resampling_fn_data="resample_torch"), "resampling_fn_data='resample_torch' is not supported"),
        (of_configuration(normalization_schemes=["Mine"]), "Mine is not supported, only CTNormalization"),
        (of_configuration(architecture={"network_class_name": "a.b.SwinUNETR"}), "SwinUNETR is not supported"),
        (of_network(norm_op="torch.nn.modules.batchnorm.BatchNorm3d"), "norm_op='torch.nn.modules.batchnorm"),
        (of_network(nonlin="torch.nn.ReLU"), "nonlin='torch.nn.ReLU' of the network is not supported"),
        (of_network(conv_bias=False), "conv_bias=False of the network is not supported"),
        (lambda case: case["plans"].update(image_reader_writer="Tiff3DIO"), "images were read by Tiff3DIO"),
        (lambda case: case["dataset"]["channel_names"].update({"1": "T2"}), "names 2 channels, but the plans norm"),
        (of_configuration(inherits_from="3d_fullres"), "inherits from itself"),
        (lambda case: case["plans"].update(label_manager="Mine"), "label_manager='Mine' is not supported"),
        (of_configuration(patch_size=["a"]), "patch_size"),
        (of_network(features_per_stage=[4, 8, 13]), "has the shape .* but the plans need"),
    ],
)
def test_what_is_not_supported_is_named(tiny, tmp_path, change, message):
    case, model, _ = tiny
    change(case)
    folder = write_model(tmp_path / "other", case, pytorch_weights(model, (1, 2, 0)))
    with pytest.raises((ConfigurationError, ModelFileError), match=message):
        load_nnunet(folder)


def test_weights_of_another_network_are_named(tiny, tmp_path, caplog):
    case, model, _ = tiny
    weights = pytorch_weights(model, (1, 2, 0))
    more = {**weights, "encoder.attention.weight": np.zeros(3, np.float32)}
    folder = write_model(tmp_path / "more", case, more, trainer_name="nnUNetTrainerAttention")
    with pytest.raises(ConfigurationError, match=r"trainer nnUNetTrainerAttention .*it has encoder.attention.weight"):
        load_nnunet(folder)
    load_nnunet(write_model(tmp_path / "own", {**case, "folds": (0,)}, weights, trainer_name="nnUNetTrainerReLU"))
    assert "was trained by nnUNetTrainerReLU: if this trainer changes the network" in caplog.text
    caplog.clear()
    usual = {**case, "folds": (0,)}
    load_nnunet(write_model(tmp_path / "short", usual, weights, trainer_name="nnUNetTrainer_250epochs"))
    assert "was trained by" not in caplog.text
    first = next(iter(weights))
    less = {name: value for name, value in weights.items() if name != first}
    with pytest.raises(ModelFileError, match=f"the network weights have no {first}"):
        load_nnunet(write_model(tmp_path / "less", case, less))
    prefixed = {f"_orig_mod.{name}": value for name, value in weights.items()}
    load_nnunet(write_model(tmp_path / "compiled", {**case, "folds": (0,)}, prefixed))
    with pytest.raises(ModelFileError, match="is not a checkpoint of nnU-Net version 2"):
        load_nnunet(write_model(tmp_path / "none", case, weights, init_args={}))


def test_archives_with_paths_elsewhere_are_refused(tiny, tmp_path):
    _, _, folder = tiny
    for name in ("../fold_0/checkpoint_final.pth", "/tmp/fold_0/checkpoint_final.pth"):
        with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
            archive.write(folder / "fold_0" / "checkpoint_final.pth", name)
            archive.filelist[0].filename = name
        with pytest.raises(ModelFileError, match="is a path outside of the archive"):
            load_nnunet(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/plans.json", b" " * 2**26)
    with pytest.raises(ModelFileError, match="bytes unpacked, more than weights can have"):
        load_nnunet(tmp_path / "model.zip")
    (tmp_path / "model.zip").write_bytes(b"no zip")
    with pytest.raises(ModelFileError, match="is not a zip archive"):
        load_nnunet(tmp_path / "model.zip")
    with pytest.raises(MissingDataError, match="does not exist"):
        load_nnunet(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="has no trained model of nnU-Net"):
        load_nnunet(tmp_path / "Dataset004_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0")


def test_an_imported_model_is_trained_further(tiny, tmp_path):
    """With its own classes, and with others from all weights but the last."""
    _, _, folder = tiny
    data = tmp_path / "Dataset"
    for name in ("imagesTr", "labelsTr"):
        (data / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        labels = np.zeros((26, 10, 25), np.uint8)
        labels[5:20, 3:8, 6:20] = 1 + number
        image = 100 * labels + rng.standard_normal(labels.shape)
        for place, values in (("imagesTr/c{}_0000", image.astype(np.float32)), ("labelsTr/c{}", labels)):
            file = nib.Nifti1Image(values, np.diag([1.0, 4.0, 1.0, 1.0]))
            nib.save(file, data / f"{place.format(number)}.nii.gz")

    def samples(labels):
        description = {"channel_names": {"0": "MR0"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
        (data / "dataset.json").write_text(json.dumps(description))
        from miscnn_tf.data_loading.layout_detection import find_interface

        return miscnn_tf.Data_IO(find_interface(data), data, output_path=tmp_path / "predictions")

    io = samples({"background": 0, "liver": 1, "tumour": 2})
    model = load_nnunet(folder, [0], data_io=io)
    before = model.model.get_weights()[0]
    history = model.train(io.get_indiceslist(), epochs=1, iterations=2).history
    assert np.isfinite(history["loss"]).all()
    assert np.abs(model.model.get_weights()[0] - before).max() > 0

    more = samples({"background": 0, "liver": 1, "tumour": 2, "cyst": 3})
    with pytest.raises(ConfigurationError, match=r"classes=3, but the samples have 4; .*head=False"):
        load_nnunet(folder, [0], data_io=more)
    load_nnunet(folder, [0]).dump(tmp_path / "imported.keras")
    imported = load_model(tmp_path / "imported.keras")
    imported.preprocessor.data_io = more
    new = miscnn_tf.Neural_Network(imported.preprocessor, imported.architecture, loss=imported.loss)
    new.load(tmp_path / "imported.keras", head=False)
    np.testing.assert_array_equal(new.model.get_weights()[0], before)
    assert new.model.output_shape[-1] == 4
    new.train(more.get_indiceslist(), epochs=1, iterations=2)
