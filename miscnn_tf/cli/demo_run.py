"""Implementation of ``miscnn-tf demo``: an experiment with the public interface, as in a script of a user."""

from __future__ import annotations

import logging
import math
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from miscnn_tf import Data_Augmentation, Data_IO, Neural_Network, Preprocessor
from miscnn_tf._base.configuration import get_config
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import plural
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.datasets import write_kits_phantoms
from miscnn_tf.datasets.kits_phantom import DEFAULT_SHAPE
from miscnn_tf.errors import DataError, StorageError
from miscnn_tf.evaluation.detailed_validation import compute_dice, mean_dice
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.neural_network.losses import dice_crossentropy
from miscnn_tf.neural_network.model_description import read_metadata
from miscnn_tf.pictures.overlay import draw_case
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.resampling import Resampling
from miscnn_tf.report.page import DemoCase, write_demo_page
from miscnn_tf.runs.tables import backup_history
from miscnn_tf.utils.plotting import plot_validation

logger = logging.getLogger(__name__)

CLASSES: Final = ("background", "kidney", "tumour")
SPACING: Final = (4.8, 4.0, 4.0)
PATCH: Final = (32, 48, 64)
STEPS_PER_EPOCH: Final = 16


def run_demo(
    output: str | Path,
    cases: int = 24,
    epochs: int = 30,
    seed: int = 0,
    shape: Sequence[int] = DEFAULT_SHAPE,
    patch_shape: Sequence[int] = PATCH,
    steps_per_epoch: int = STEPS_PER_EPOCH,
) -> dict[str, Any]:
    """Write phantoms, train, predict the held-out quarter, evaluate, and write the page.

    Args:
        output: Folder for all files; created if it does not exist. Files of an earlier demo are replaced.
        cases: Number of phantoms, at least 2.
        epochs: Number of epochs.
        seed: Random seed of the phantoms, the initial weights and the batches.
        shape: Shape of the phantoms, voxels.
        patch_shape: Shape of the patches, voxels.
        steps_per_epoch: Batches per epoch.

    Returns:
        The contents of ``summary.json``: Dice per case and class (None for missing classes), their means, loss per
        epoch, seconds, settings and versions.

    Raises:
        StorageError: If `output` contains other files, or cannot be written.
    """
    begin = time.perf_counter()
    output = _claim(Path(output))
    data_path = output / "data"
    print(f"Writing {plural(cases, 'phantom scan')} to {data_path}", flush=True)
    names = write_kits_phantoms(data_path, cases=cases, shape=shape, seed=seed)
    held_out = names[-max(1, round(len(names) / 4)) :]
    training = names[: -len(held_out)]
    made = time.perf_counter()

    model = make_model(data_path, output, names, seed, patch_shape)
    print(
        f"Training on {plural(len(training), 'scan')}, {plural(epochs, 'epoch')} ({model.hardware.description})",
        flush=True,
    )
    history = model.evaluate(
        training, held_out, epochs=epochs, iterations=steps_per_epoch, callbacks=[PolynomialDecay()]
    )
    model.dump(output / "model.keras")
    backup_history(history.history, str(output))
    trained = time.perf_counter()

    print(f"Segmenting {plural(len(held_out), 'held-out scan')} to {output / 'predictions'}", flush=True)
    model.predict(held_out)
    predicted = time.perf_counter()

    scores, pictures = _examine(model, held_out, output)
    plot_validation(history.history, [], output / "pictures")
    means = dict(zip(CLASSES, mean_dice(list(scores.values())), strict=True))
    summary: dict[str, Any] = {
        "status": "finished",
        "classes": list(CLASSES[1:]),
        "dice": {name: _foreground(dict(zip(CLASSES, row, strict=True))) for name, row in scores.items()},
        "mean_dice": _foreground(means),
        "history": {key: [_number(value) for value in values] for key, values in history.history.items()},
        "training_cases": training,
        "held_out_cases": held_out,
        "seconds": {
            "data": round(made - begin, 1),
            "training": round(trained - made, 1),
            "prediction": round(predicted - trained, 1),
            "total": round(time.perf_counter() - begin, 1),
        },
        "settings": _settings(model, epochs, steps_per_epoch, seed),
        "versions": {**read_metadata(output / "model.keras")["versions"], "system": platform.platform(terse=True)},
    }
    write_demo_page(
        output / "index.html",
        [
            DemoCase(
                name, summary["dice"][name], pictures[name], f"data/{name}/imaging.nii.gz", f"predictions/{name}.nii.gz"
            )
            for name in held_out
        ],
        summary,
        output / "pictures" / "validation.loss.png",
    )
    write_json(output / "summary.json", summary)
    return summary


def make_model(
    data_path: Path, output: Path, names: Sequence[str], seed: int, patch_shape: Sequence[int]
) -> Neural_Network:
    """Create the pipeline of the demo: interface, preprocessing and network."""
    interface = NIFTI_interface(pattern="|".join(names), channels=1, classes=len(CLASSES))
    data_io = Data_IO(
        interface, str(data_path), output_path=str(output / "predictions"), batch_path=str(output / "batches")
    )
    # Some scans are stored upside down or with swapped sides: mirror slices and columns, but not front and back.
    augmentation = Data_Augmentation(scaling=False, rotations=False, gamma=False, mirror=True)
    augmentation.config_mirror_axes = (0, 2)
    pre_processor = Preprocessor(
        data_io,
        batch_size=2,
        # The range of soft tissue in Hounsfield units; one voxel size; mean 0 and standard deviation 1.
        subfunctions=[Clipping(min=-79, max=304), Resampling(SPACING, order_img=1), Normalization("z-score")],
        data_aug=augmentation,
        analysis="patchwise-crop",
        patch_shape=tuple(patch_shape),
        seed=seed,
    )
    pre_processor.patchwise_overlap = tuple(size // 2 for size in patch_shape)
    model = Neural_Network(
        preprocessor=pre_processor,
        architecture=Architecture(n_filters=16, depth=3, batch_normalization=False, instance_normalization=True),
        loss=dice_crossentropy,
        learning_rate=4e-3,
        # Not "auto": few CPUs have bfloat16 instructions, and results should not depend on the machine.
        precision="float32",
        deterministic=True,
    )
    if not sys.stdout.isatty():
        model.verbose = 2  # one line per epoch, because log files cannot show a progress bar
    return model


def _claim(output: Path) -> Path:
    """Create the folder and mark it as a demo, unless it has other files."""
    mark = output / "summary.json"
    if output.is_dir() and any(output.iterdir()) and not _is_ours(mark):
        raise StorageError(
            f"the folder {output} has files of other programs; choose an empty or new folder with --output"
        )
    make_folder(output)
    write_json(mark, {"status": "not finished"})
    return output


def _is_ours(mark: Path) -> bool:
    try:
        content = read_json(mark, "a demo writes it")
    except DataError:
        return False
    return isinstance(content, dict) and "status" in content


def _examine(
    model: Neural_Network, names: Sequence[str], output: Path
) -> tuple[dict[str, list[float]], dict[str, Path]]:
    """Compute the Dice per class, background first, and draw a picture for each predicted case."""
    scores: dict[str, list[float]] = {}
    pictures: dict[str, Path] = {}
    for name in names:
        sample = model.preprocessor.data_io.sample_loader(name, load_seg=True, load_pred=True)
        assert sample.seg_data is not None
        assert sample.pred_data is not None
        truth, prediction = sample.seg_data[..., 0], sample.pred_data[..., 0]
        scores[name] = compute_dice(truth, prediction, len(CLASSES))
        pictures[name] = output / "pictures" / f"{name}.png"
        draw_case(
            # The intensity window of radiologists for kidneys.
            np.clip(sample.img_data, -160, 240),
            truth,
            prediction,
            pictures[name],
            spacing=sample.extended["spacing"],
            title=name,
            class_names=CLASSES,
            affine=sample.extended["affine"],
        )
    return scores, pictures


def _foreground(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: _number(scores[name]) for name in CLASSES[1:]}


def _number(value: float) -> float | None:
    # JSON does not support NaN.
    return round(float(value), 6) if math.isfinite(value) else None


def _settings(model: Neural_Network, epochs: int, steps_per_epoch: int, seed: int) -> dict[str, str]:
    pre_processor = model.preprocessor
    patch = " × ".join(map(str, pre_processor.patch_shape or ()))
    unet = get_config(model.architecture)
    size = f"{unet['n_filters']} filters, depth {unet['depth']}, {model.model.count_params():,} weights"
    return {
        "network": f"3D U-Net, {size}",
        "preprocessing": "clipping to -79 … 304 HU, resampling to "
        f"{' × '.join(map(str, SPACING))} mm, normalisation to mean 0 and standard deviation 1",
        "patches": f"{patch} voxels, batches of {pre_processor.batch_size}",
        "training": f"{epochs} epochs of {steps_per_epoch} steps, Adam, learning rate {model.learning_rate:g} to 0",
        "loss": "soft Dice + cross-entropy",
        "seed": str(seed),
        "device": model.hardware.description,
    }
