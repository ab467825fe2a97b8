"""The project's main job from end to end, on real MRI."""

from __future__ import annotations

import errno
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import StorageError
from miscnn_tf.evaluation.detailed_validation import compute_dice, mean_dice
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.neural_network.losses import dice_crossentropy
from miscnn_tf.processing.subfunctions import Normalization

# The script at the top of MIScnn's interface, with another path, pattern and sizes.
SCRIPT = """
import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.neural_network.architecture.unet.standard import Architecture

interface = NIFTI_interface(pattern="hippocampus_03[0-9]", channels=1, classes=3)
io = miscnn_tf.Data_IO(interface, data_path)
pre_processor = miscnn_tf.Preprocessor(io, batch_size=2, analysis="patchwise-crop", patch_shape=(16, 16, 16))
unet_standard = Architecture()
model = miscnn_tf.Neural_Network(preprocessor=pre_processor, architecture=unet_standard)

samples = io.get_indiceslist()
model.train(samples[0:3], epochs=1)
preds = model.predict(samples[3:5], return_output=True)

from miscnn_tf.evaluation import cross_validation
cross_validation(samples, model, k_fold=2, epochs=1, evaluation_path="evaluation_results", draw_figures=True)
"""


def test_the_script_of_the_interface_runs_word_for_word(hippocampus, tmp_path):
    script = f"data_path = {str(hippocampus / 'cases')!r}\n" + SCRIPT + "print(len(samples), preds[0].shape)"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    number, shape = result.stdout.strip().splitlines()[-1].split(" ", 1)
    assert int(number) == 5
    assert len(shape.split(",")) == 3
    folds = sorted(path.name for path in (tmp_path / "evaluation_results").glob("fold_*"))
    assert folds == ["fold_0", "fold_1"]
    for fold in folds:
        written = {path.name for path in (tmp_path / "evaluation_results" / fold).iterdir()}
        assert {"history.tsv", "sample_list.json", "model.keras", "validation.loss.png"} <= written
    # What TensorFlow says when something of ours outlives it.
    assert "finalizing GeneratorDataset" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def trained(hippocampus, hippocampus_split, tmp_path_factory):
    """A U-Net after some dozen steps on ten cases."""
    folder = tmp_path_factory.mktemp("hippocampus")
    io = miscnn_tf.Data_IO(
        NIFTI_interface(channels=1, classes=3),
        hippocampus / "cases",
        output_path=folder / "predictions",
        batch_path=folder / "batches",
    )
    preprocessor = miscnn_tf.Preprocessor(
        io, batch_size=2, subfunctions=[Normalization()], patch_shape=(40, 56, 40), seed=1
    )
    model = miscnn_tf.Neural_Network(
        preprocessor, Architecture(n_filters=8, depth=3), loss=dice_crossentropy, learning_rate=3e-3
    )
    model.verbose = 0
    model.train(hippocampus_split["TRAINING"][:10], epochs=6, iterations=20, callbacks=[PolynomialDecay()])
    validation = hippocampus_split["VALIDATION"][:6]
    model.predict(validation)
    return model, validation, folder


def test_a_brief_training_on_ten_real_cases_finds_the_hippocampus(trained):
    model, validation, _ = trained
    io = model.preprocessor.data_io
    scores = []
    for index in validation:
        sample = io.sample_loader(index, load_pred=True)
        scores.append(compute_dice(sample.seg_data[..., 0], sample.pred_data[..., 0], 3))
    anterior, posterior = mean_dice(scores)[1:]
    assert (anterior + posterior) / 2 > 0.70, scores


def test_predictions_lie_over_their_images_in_the_world(trained, hippocampus):
    _, validation, folder = trained
    for index in validation[:3]:
        image = sitk.ReadImage(str(hippocampus / "cases" / index / "imaging.nii.gz"))
        prediction = sitk.ReadImage(str(folder / "predictions" / f"{index}.nii.gz"))
        assert prediction.GetDimension() == 3
        assert prediction.GetSize() == image.GetSize()
        corner = [size - 1 for size in image.GetSize()]
        for voxel in ([0, 0, 0], corner):
            np.testing.assert_allclose(
                prediction.TransformIndexToPhysicalPoint(voxel), image.TransformIndexToPhysicalPoint(voxel), atol=1e-4
            )


def test_a_step_after_the_first_epoch_decodes_no_file(trained, hippocampus_split, monkeypatch):
    model, _, _ = trained

    def refuse(*arguments):
        raise AssertionError("a file was decoded again")

    monkeypatch.setattr(model.preprocessor.data_io.interface, "load_image", refuse)
    monkeypatch.setattr(model.preprocessor.data_io.interface, "load_segmentation", refuse)
    model.train(hippocampus_split["TRAINING"][:10], epochs=1, iterations=2)


def test_a_disk_that_fills_up_leaves_earlier_predictions_whole(trained, tmp_path, monkeypatch):
    model, validation, _ = trained
    io = model.preprocessor.data_io
    monkeypatch.setattr(io, "output_path", tmp_path / "full")
    saved = []
    to_stream = nib.Nifti1Image.to_stream

    def until_full(image, *arguments, **keywords):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(image)
        return to_stream(image, *arguments, **keywords)

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", until_full)
    with pytest.raises(StorageError, match="No space left"):
        model.predict(validation[:4])
    monkeypatch.undo()
    files = sorted(path.name for path in (tmp_path / "full").iterdir())
    assert files == [f"{index}.nii.gz" for index in sorted(validation[:2])]
    for name in files:
        assert np.asarray(nib.load(tmp_path / "full" / name).dataobj).max() > 0
