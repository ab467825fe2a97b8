from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miscnn_tf.data_loading.interfaces import NIFTIslicer_interface
from miscnn_tf.datasets import write_kits_phantoms
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.experiment.build import (
    make_cross_validation,
    make_data_io,
    make_preprocessor,
    make_split,
    make_training,
    number_of_folds,
)
from miscnn_tf.experiment.build_network import known_losses, known_metrics, make_callbacks, make_model
from miscnn_tf.experiment.schema import UNLIMITED_EPOCHS, Experiment
from miscnn_tf.experiment.toml_file import check_experiment
from miscnn_tf.processing.preprocessor import Preprocessor

NAMES = [f"p{patient}_{scan}" for patient in range(4) for scan in "ab"]


def experiment(**tables: Any) -> Experiment:
    return check_experiment(
        {"data": {"path": "data"}, "preprocessing": {"patch_shape": [8, 8, 8]}, **tables}, "experiment.toml"
    )


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_kits_phantoms(folder, cases=3, shape=(16, 32, 40), progress=False)
    return folder


# ---------------------------------------------------------------- data


def test_the_layout_is_found_or_named(scans: Path, tmp_path: Path) -> None:
    found = make_data_io(experiment(data={"path": str(scans), "class_names": ["a", "b", "c"]}), tmp_path)
    assert found.get_indiceslist() == ["case_00000", "case_00001", "case_00002"]
    assert found.interface.classes == 3
    assert found.interface.names_of_classes() == ("a", "b", "c")
    assert Path(found.output_path) == tmp_path / "predictions"
    data = {"path": str(scans), "layout": "NIFTI_S", "classes": 3, "settings": {"slice_axis": 2}, "pattern": ".*[01]"}
    sliced = make_data_io(experiment(data=data), tmp_path)
    assert isinstance(sliced.interface, NIFTIslicer_interface)
    assert sliced.interface.slice_axis == 2
    assert len(sliced.get_indiceslist()) == 2 * 40
    mapped = make_data_io(
        experiment(data={"path": str(scans), "classes": 2, "label_map": {"2": 1}}), tmp_path
    ).sample_loader("case_00000")
    assert set(np.unique(mapped.seg_data)) == {0, 1}


# ---------------------------------------------------------------- splits


def test_without_a_word_a_fifth_validates() -> None:
    fold = make_split(experiment(), NAMES)
    assert len(fold.validation) == 2
    assert set(fold.training) | set(fold.validation) == set(NAMES)
    assert make_split(experiment(split={"validation_share": 0}), NAMES).validation == ()
    assert make_split(experiment(split={"seed": 1}), NAMES) != fold


def test_groups_and_strata_are_taken_out_of_the_names() -> None:
    groups = {"groups": r"(p\d)_.*", "validation_share": 0.25}
    fold = make_split(experiment(split=groups), NAMES)
    assert len({name[:2] for name in fold.validation}) == 1
    assert len(fold.validation) == 2
    arguments = make_cross_validation(
        experiment(split={"strata": r".*_(\w)", "seed": 3}, cross_validation={"k_fold": 4})
    )
    assert arguments["k_fold"] == 4
    assert arguments["seed"] == 3
    assert arguments["strata"]("p1_b") == "b"
    assert "groups" not in arguments
    assert number_of_folds(experiment(), NAMES) == 3
    with pytest.raises(ConfigurationError, match=r"\[split\] groups = .* does not match the sample 'p0_a'"):
        make_split(experiment(split={"groups": r"(x\d)_.*"}), NAMES)
    with pytest.raises(ConfigurationError, match="k_fold=20"):
        number_of_folds(experiment(cross_validation={"k_fold": 20}), NAMES)


def test_splits_by_name(tmp_path: Path) -> None:
    fold = make_split(experiment(split={"training": NAMES[:3], "validation": NAMES[3:4]}), NAMES)
    assert (fold.training, fold.validation) == (tuple(NAMES[:3]), (NAMES[3],))
    (tmp_path / "split.json").write_text(json.dumps({"TRAINING": NAMES[:2], "VALIDATION": NAMES[4:]}))
    fold = make_split(experiment(split={"file": str(tmp_path / "split.json")}), NAMES)
    assert (fold.training, fold.validation) == (tuple(NAMES[:2]), tuple(NAMES[4:]))
    with pytest.raises(ConfigurationError, match="has 'q', which the data set does not have; its samples are 'p0_a'"):
        make_split(experiment(split={"training": ["q"]}), NAMES)
    with pytest.raises(ConfigurationError, match="more than once"):
        make_split(experiment(split={"training": ["p0_a"], "validation": ["p0_a"]}), NAMES)


# ---------------------------------------------------------------- preprocessing


def test_the_preprocessor_has_pythons_defaults(toy_io) -> None:
    data_io = toy_io()
    made = make_preprocessor(experiment(), data_io)
    plain = Preprocessor(data_io, batch_size=2, patch_shape=(8, 8, 8))
    leave = {"seed", "data_io", "data_augmentation"}

    def settings(preprocessor: Preprocessor) -> dict[str, object]:
        return {k: v for k, v in vars(preprocessor).items() if k not in leave and not k.startswith("_")}

    assert settings(made) == settings(plain)
    assert made.data_augmentation is not None
    assert made.data_augmentation.get_config() == plain.data_augmentation.get_config()


@pytest.mark.parametrize(("given", "expected"), [("4GB", 4 * 10**9), (0, 0)])
def test_memory_is_said_as_in_python(toy_io, given, expected) -> None:
    table = {"patch_shape": [8, 8, 8], "cache_bytes": given}
    assert make_preprocessor(experiment(preprocessing=table), toy_io()).cache_bytes == expected
    with pytest.raises(ValueError, match="cache_bytes must be a number of bytes"):
        experiment(preprocessing={**table, "cache_bytes": "much"})


def test_every_key_of_the_preprocessing_arrives(toy_io) -> None:
    table = {
        "analysis": "patchwise-grid", "patch_shape": [8, 8, 4], "overlap": [4, 4, 2], "blending": "average",
        "foreground": 0.5, "skip_blanks": True, "skip_class": 1, "prepare_subfunctions": True, "prepare_batches": True,
        "cache_bytes": 1000, "use_multiprocessing": True, "threads": 3, "normalization": "z-score",
    }  # fmt: skip
    made = make_preprocessor(
        experiment(preprocessing=table, network={"batch_size": 3, "seed": 7}, augmentation={"enabled": False}), toy_io()
    )
    assert (made.analysis, made.patch_shape, made.patchwise_overlap) == ("patchwise-grid", (8, 8, 4), (4, 4, 2))
    assert (made.patchwise_blending, made.patchwise_foreground) == ("average", 0.5)
    assert (made.patchwise_skip_blanks, made.patchwise_skip_class) == (True, 1)
    assert (made.prepare_subfunctions, made.prepare_batches, made.use_multiprocessing) == (True, True, True)
    assert (made.cache_bytes, made.mp_threads, made.batch_size, made.seed) == (1000, 3, 3, 7)
    assert made.data_augmentation is None
    assert len(made.subfunctions) == 1
    with pytest.raises(ConfigurationError, match="patchwise_overlap"):
        make_preprocessor(experiment(preprocessing={"patch_shape": [8, 8, 8], "overlap": [9, 0, 0]}), toy_io())


# ---------------------------------------------------------------- network


def test_the_network_is_what_the_file_says(toy_io) -> None:
    from miscnn_tf.neural_network.architecture.unet.residual import Architecture
    from miscnn_tf.neural_network.metrics import ClassDice, PooledDice, dice_soft

    network = {
        "architecture": {"name": "unet_residual", "n_filters": 2, "depth": 1},
        "loss": {"name": "focal_tversky_loss", "delta": 0.8},
        "metrics": ["dice_soft", {"name": "ClassDice", "label": 1}, {"name": "PooledDice", "classes": 2}],
        "validation_batches": 7, "best_by": "val_pooled_dice",
        "learning_rate": 0.002, "seed": 5, "precision": "float32", "shuffle_batches": False, "workers": 2,
        "batch_queue_size": 3,
    }  # fmt: skip
    made = experiment(network=network)
    model = make_model(made, make_preprocessor(made, toy_io()))
    assert type(model.architecture) is Architecture
    assert (model.architecture.n_filters, model.architecture.depth) == (2, 1)
    assert model.loss.get_config()["delta"] == 0.8
    assert model.metrics[:2] == [dice_soft, ClassDice(1)]
    assert model.metrics[2] == PooledDice(2)
    assert (model.validation_batches, model.best_by) == (7, "val_pooled_dice")
    assert (model.learning_rate, model.seed, model.hardware.precision) == (0.002, 5, "float32")
    assert (model.shuffle_batches, model.workers, model.batch_queue_size) == (False, 2, 3)


def test_the_weights_of_another_network_are_the_start_of_each_training(toy_io, tmp_path: Path) -> None:
    network = {"architecture": {"name": "unet_standard", "n_filters": 2, "depth": 1}, "seed": 1}
    made = experiment(network=network)
    make_model(made, make_preprocessor(made, toy_io())).dump(tmp_path / "trained.keras")

    # Another seed, so that only the file explains equal weights.
    start = {**network, "seed": 2, "weights": str(tmp_path / "trained.keras")}
    made = experiment(network=start)
    trained = make_model(made, make_preprocessor(made, toy_io()))
    with pytest.raises(ModelFileError, match=r"2 classes, .* 3 classes; .*load_head = false in \[network\]"):
        make_model(made, make_preprocessor(made, toy_io(classes=3)))
    made = experiment(network={**start, "load_head": False})
    other = make_model(made, make_preprocessor(made, toy_io(classes=3)))

    *body, kernel, bias = other.model.get_weights()
    assert (kernel.shape[-1], bias.shape) == (3, (3,))
    for found, expected in zip(body, trained.model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)
    weights = other.model.get_weights()
    other.model.set_weights([np.zeros_like(weight) for weight in weights])
    other.reset()  # as each fold does
    for found, expected in zip(other.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_loss_and_metric_can_be_named() -> None:
    from miscnn_tf.experiment.build_network import _make_loss, _make_metric
    from miscnn_tf.experiment.schema import Named
    from miscnn_tf.neural_network import losses, metrics

    assert set(losses.losses) < set(known_losses())
    for name in known_losses():
        arguments = {"weights": [1, 2]} if name == "dice_weighted" else {}
        assert callable(losses.get(_make_loss(Named(name=name, **arguments))))
    arguments = {"dice_weighted": {"weights": [1, 2]}, "ClassDice": {"label": 1}, "RegionDice": {"region": 1}}
    arguments["PooledDice"] = {"classes": 2}
    made = [_make_metric(Named(name=name, **arguments.get(name, {}))) for name in known_metrics()]
    assert all(map(callable, metrics.get_all(made)))
    assert callable(_make_loss(Named(name="categorical_crossentropy")))


def test_the_best_epoch_by_a_metric_that_is_not_measured_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="best_by = 'val_pooled_dice' needs the metric PooledDice; add"):
        experiment(network={"best_by": "val_pooled_dice", "metrics": ["dice_soft"]})
    with pytest.raises(ConfigurationError, match=r"best_by 'val_dice' is unknown. Did you mean 'val_pooled_dice'"):
        experiment(network={"best_by": "val_dice"})


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"architecture": "unet_standart"}, r"\[network\] the architecture .* is unknown. Did you mean 'unet_standard"),
        ({"architecture": {"name": "unet_standard", "dept": 3}}, r"has no argument 'dept'. Did you mean 'depth'\?"),
        ({"architecture": {"name": "unet_standard", "depth": 0}}, "depth must be a whole number"),
        ({"loss": "dice_crosentropy"}, r"\[network\] the loss .* is unknown. Did you mean 'dice_crossentropy'"),
        ({"loss": {"name": "tversky_loss", "alpha": 1}}, "the loss 'tversky_loss' has no settings"),
        ({"loss": {"name": "combo_loss", "alfa": 1}}, r"has no argument 'alfa'. Did you mean 'alpha'\?"),
        ({"loss": {"name": "combo_loss", "alpha": 2}}, "between 0 and 1"),
        ({"metrics": ["dice_sof"]}, r"the metric 'dice_sof' is unknown. Did you mean 'dice_soft'\?"),
        ({"metrics": ["ClassDice"]}, "cannot be created"),
    ],
)  # fmt: skip
def test_names_that_are_not_known(toy_io, network: dict[str, Any], said: str) -> None:
    small = {"architecture": {"name": "unet_standard", "n_filters": 1, "depth": 1}}
    made = experiment(network={**small, **network})
    with pytest.raises(ConfigurationError, match=said):
        make_model(made, make_preprocessor(made, toy_io()))


def test_length_schedule_and_patience() -> None:
    assert make_training(experiment()) == {"epochs": 20, "iterations": None}
    assert make_training(experiment(network={"epochs": 3, "iterations": 2})) == {"epochs": 3, "iterations": 2}
    assert make_training(experiment(network={"minutes": 2}))["epochs"] == UNLIMITED_EPOCHS
    assert make_training(experiment(network={"minutes": 2, "epochs": 5}))["epochs"] == 5
    assert make_callbacks(experiment(), True) == []
    decay, limit, stopping = make_callbacks(
        experiment(network={"minutes": 2.5, "schedule": "polynomial", "patience": 4}), True
    )
    assert (decay.minutes, limit.minutes) == (2.5, 2.5)
    assert (stopping.monitor, stopping.patience) == ("val_loss", 4)
    assert make_callbacks(experiment(network={"patience": 4}), False)[0].monitor == "loss"
