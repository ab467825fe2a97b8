"""The Dice pooled over the patches of an epoch: its formula, validations, and the choice of the best epoch."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.dice import compute_dice
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.label_target import compared, require_parts_for
from miscnn_tf.neural_network.losses import dice_soft_loss
from miscnn_tf.neural_network.metrics import ClassDice, PooledDice, RegionDice, dice_soft

CASES = [f"case_{number}" for number in range(6)]


def textbook(truth, found):
    """The mean Dice of the channels that occur, of masks ``(patches, voxels, channels)``."""
    both = (truth & found).sum((0, 1))
    sizes = truth.sum((0, 1)) + found.sum((0, 1))
    return (2 * both[sizes > 0] / sizes[sizes > 0]).mean()


@pytest.mark.parametrize("axes", [2, 3])
def test_it_is_the_dice_of_all_patches_together_in_any_batches(axes, rng):
    """Class 4 occurs nowhere, class 3 in the prediction alone: its Dice is 0."""
    labels = rng.integers(0, 3, (7, 6, 5, 4)[: axes + 1])
    probabilities = rng.random((*labels.shape, 5)) * [1, 1, 1, 0.9, 0]
    t, p = (np.eye(5, dtype=bool)[one].reshape(7, -1, 5)[..., 1:] for one in (labels, probabilities.argmax(-1)))
    metric = PooledDice(5).counters()[0]
    for batch in (slice(0, 2), slice(2, 3), slice(3, 7)):
        metric.update_state(*compared(labels[batch], probabilities[batch].astype("float32"), None))
    assert p[..., 2].any()
    assert not t[..., 2].any()
    assert float(metric.result()) == pytest.approx(textbook(t, p), rel=1e-6)
    metric.reset_state()
    metric.update_state(np.eye(5)[labels], probabilities, sample_weight=[1, 0, 0, 1, 0, 0, 0])
    assert float(metric.result()) == pytest.approx(textbook(t[[0, 3]], p[[0, 3]]), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 1  # nothing occurs, and nothing is found


def test_voxels_without_annotation_count_neither_as_found_nor_as_missed(rng):
    labels = rng.integers(0, 4, (2, 6, 6))  # 3: not annotated
    probabilities = rng.random((2, 6, 6, 3)).astype("float32")
    metric = PooledDice(3).counters()[0]
    metric.update_state(*compared(labels, probabilities, LabelScheme(3, has_ignored=True)))
    known = labels < 3
    t, p = (np.eye(4, dtype=bool)[one][known][None][..., 1:3] for one in (labels, probabilities.argmax(-1)))
    assert float(metric.result()) == pytest.approx(textbook(t, p), rel=1e-6)


def test_regions_are_all_counted_and_decided_at_one_half(rng):
    scheme = LabelScheme(3, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    labels, probabilities = rng.integers(0, 3, (2, 6, 6)), rng.random((2, 6, 6, 2)).astype("float32")
    metric = PooledDice(2, regions=True).counters()[0]
    metric.update_state(*compared(labels, probabilities, scheme))
    t = np.stack([labels > 0, labels > 1], -1).reshape(2, -1, 2)
    assert float(metric.result()) == pytest.approx(textbook(t, (probabilities > 0.5).reshape(2, -1, 2)), rel=1e-6)
    require_parts_for(scheme, dice_soft_loss, [metric, RegionDice(1)])
    with pytest.raises(ConfigurationError, match=r"metric pooled_dice has regions=False.*set regions=True"):
        require_parts_for(scheme, dice_soft_loss, [PooledDice(2)])
    with pytest.raises(ConfigurationError, match=r"metric pooled_dice has regions=True.*set regions=False"):
        require_parts_for(LabelScheme(3), dice_soft_loss, [metric])


def test_single_classes_and_regions_are_pooled_as_the_mean_is(rng):
    labels = rng.integers(0, 3, (4, 6, 6))
    probabilities = rng.random((4, 6, 6, 4)).astype("float32") * [1, 1, 1, 0]
    t, p = (np.eye(4, dtype=bool)[one].reshape(4, -1, 4) for one in (labels, probabilities.argmax(-1)))
    mean, *single = PooledDice(4, per_class=True).counters()
    for metric in (mean, *single):
        metric.update_state(np.eye(4)[labels], probabilities)
    assert [one.name for one in single] == ["pooled_dice_class-1", "pooled_dice_class-2", "pooled_dice_class-3"]
    expected = [textbook(t[..., label : label + 1], p[..., label : label + 1]) for label in (1, 2)]
    assert [float(one.result()) for one in single[:2]] == pytest.approx(expected, rel=1e-6)
    assert float(mean.result()) == pytest.approx(np.mean(expected), rel=1e-6)
    assert math.isnan(float(single[2].result()))  # it occurs nowhere
    regions = PooledDice(2, regions=True, per_class=["whole tumour", "core"])
    assert [one.name for one in regions.counters()] == ["pooled_dice", "pooled_dice_whole_tumour", "pooled_dice_core"]
    second = regions.counters()[2]
    second.update_state(np.stack([labels > 0, labels > 1], -1), probabilities[..., :2])
    decided = (probabilities[..., 1:2] > 0.5).reshape(4, -1, 1)
    assert float(second.result()) == pytest.approx(textbook((labels > 1).reshape(4, -1, 1), decided), rel=1e-6)
    copies = [type(one).from_config(one.get_config()) for one in regions.counters()]
    assert [one.get_config() for one in copies] == [one.get_config() for one in regions.counters()]
    assert PooledDice.from_config(regions.get_config()) == regions != PooledDice(2, regions=True)
    assert PooledDice(2, regions=True, per_class=True).counters()[2].name == "pooled_dice_region-2"
    with pytest.raises(ConfigurationError, match="per_class has 1 title, but 2 classes without the background"):
        PooledDice(3, per_class=["kidney"])


def test_a_wrong_number_of_classes_is_named():
    with pytest.raises(ConfigurationError, match="classes=3, but the network has 2 outputs; set classes=2"):
        PooledDice(3).counters()[0].update_state(np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2)))
    with pytest.raises(ConfigurationError, match="PooledDice: classes must be a whole number of at least 2"):
        PooledDice(1)


def test_it_is_near_the_dice_of_whole_cases_where_means_over_patches_mislead(rng):
    """A small structure that is found half in one of nine patches, and absent from the others, had 0.94."""
    truth, found = (np.zeros((3, 48, 48), int) for _ in range(2))
    truth[:, 4:12, 4:12] = 1
    found[:, 4:12, 4:8] = 1  # a half: the Dice is 2/3
    found[:, 40:42, 40:44] = 1  # and 8 voxels somewhere else
    whole = compute_dice(truth, found, 2)[1]
    old, new = [], PooledDice(2).counters()[0]
    for case in range(3):
        for row in range(0, 48, 16):
            for column in range(0, 48, 16):
                t, p = (np.eye(2)[one[case, row : row + 16, column : column + 16]][None] for one in (truth, found))
                old.append(float(ClassDice(1)(t, p)[0]))
                new.update_state(t, p.astype("float32"))
    assert float(new.result()) == pytest.approx(whole, rel=1e-5)
    assert np.mean(old) - whole > 0.2


def test_the_validation_counts_as_numpy_does_over_the_same_patches(make_tiny_network):
    network = make_tiny_network(
        data={"classes": 3}, metrics=[dice_soft, PooledDice(3)], validation_batches=4, learning_rate=0.01
    )
    history = network.evaluate(CASES[:4], CASES[4:], epochs=2, iterations=3).history
    checks = DataGenerator(
        CASES[4:], network.preprocessor, validation=True, shuffle=True, iterations=4, labels=True, plan=network.plan
    )
    assert len(checks) == 4
    batches = [checks[step] for step in range(4)]
    labels = np.concatenate([labels for _, labels in batches])
    decided = network.model.predict(np.concatenate([images for images, _ in batches]), verbose=0).argmax(-1)
    t, p = (np.eye(3, dtype=bool)[one].reshape(8, -1, 3)[..., 1:] for one in (labels, decided))
    assert history["val_pooled_dice"][-1] == pytest.approx(textbook(t, p), abs=1e-6)
    assert len(history["val_pooled_dice"]) == len(history["pooled_dice"]) == 2


@pytest.mark.parametrize("on_disk", [False, True])
def test_more_patches_are_several_locations_of_each_sample_the_same_in_each_epoch(toy_io, on_disk):
    io = toy_io(cases=3)
    preprocessor = miscnn_tf.Preprocessor(io, 2, patch_shape=(8, 8, 8), seed=5, prepare_batches=on_disk)
    checks = DataGenerator(io.get_indiceslist(), preprocessor, validation=True, shuffle=True, iterations=6)
    names = [name for step in range(6) for name in checks.names(0, step)]
    assert sorted(names) == sorted(4 * io.get_indiceslist())
    patches = [image.tobytes() for images, _ in checks for image in images]
    assert len(set(patches)) == 12
    checks.on_epoch_end()
    assert patches == [image.tobytes() for images, _ in checks for image in images]
    checks.remove_batches()


def test_more_patches_have_the_foreground_share_of_the_training(toy_io):
    io = toy_io(shape=(64, 64), cases=4, classes=3)
    shares = []
    for foreground in (0.0, 1.0):
        preprocessor = miscnn_tf.Preprocessor(io, 4, patch_shape=(4, 4), seed=5)
        preprocessor.patchwise_foreground = foreground
        checks = DataGenerator(
            io.get_indiceslist(), preprocessor, validation=True, shuffle=True, iterations=10, labels=True
        )
        shares.append(np.mean([labels.any((1, 2)).mean() for _, labels in checks]))
    assert shares[1] == 1
    assert shares[0] < 0.7


def test_the_number_of_patches_changes_no_weight(make_tiny_network):
    weights = []
    for number in (None, 5):
        network = make_tiny_network(validation_batches=number)
        network.evaluate(CASES[:4], CASES[4:], epochs=2)
        weights.append(network.model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_whole_images_and_grids_are_validated_as_a_whole(make_tiny_network):
    network = make_tiny_network(validation_batches=3, processing={"analysis": "patchwise-grid"})
    with pytest.raises(ConfigurationError, match=r"validation_batches=3.*analysis='patchwise-grid'"):
        network.evaluate(CASES[:4], CASES[4:], epochs=1)
    with pytest.raises(ConfigurationError, match="validation_batches must be a whole number of at least 1, got 0"):
        make_tiny_network(validation_batches=0)


def test_it_is_kept_in_model_files_and_sent_to_other_processes(make_tiny_network, tmp_path):
    network = make_tiny_network(metrics=[dice_soft, PooledDice(2)], validation_batches=3, best_by="val_pooled_dice")
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    assert (loaded.validation_batches, loaded.best_by) == (3, "val_pooled_dice")
    assert loaded.metrics[1].get_config() == PooledDice(2).get_config()
    sent = type(network).of_attributes(pickle.loads(pickle.dumps(network.attributes_to_send())))
    assert (sent.validation_batches, sent.best_by) == (3, "val_pooled_dice")
    assert sent.metrics[1].get_config() == PooledDice(2).get_config()
    assert make_tiny_network().settings_beyond_defaults() == {}


def test_the_best_epoch_is_that_of_the_highest_moving_average(make_tiny_network, tmp_path):
    network = make_tiny_network(metrics=[PooledDice(2)], best_by="val_pooled_dice", learning_rate=0.01)
    best = network.best_model(tmp_path / "best.keras")
    history = network.evaluate(CASES[:4], CASES[4:], epochs=4, iterations=4, callbacks=[best]).history
    averages = history["val_pooled_dice"][:1]
    for value in history["val_pooled_dice"][1:]:
        averages.append(0.9 * averages[-1] + 0.1 * value)
    assert history["val_pooled_dice_average"] == pytest.approx(averages, abs=1e-7)
    assert best.best_epoch == int(np.argmax(averages))
    assert all(map(math.isfinite, averages))


def test_the_best_epoch_needs_the_metric(make_tiny_network, tmp_path):
    network = make_tiny_network(best_by="val_pooled_dice")
    with pytest.raises(ConfigurationError, match="needs the metric PooledDice, but the metrics are dice_soft"):
        network.best_model(tmp_path / "best.keras")
    with pytest.raises(ConfigurationError, match="best_by 'val_dice' is unknown"):
        make_tiny_network(best_by="val_dice")


def test_it_does_not_use_tensorflow_before_the_network_has_chosen_the_devices(tmp_path):
    """Defect: its variables did, so that determinism, memory growth of a GPU and several machines came too late."""
    code = """
import logging, sys
sys.path.insert(0, sys.argv[1])
logging.basicConfig()
import miscnn_tf
from miscnn_tf.neural_network.architecture.unet.plain import Architecture
from miscnn_tf.neural_network.metrics import PooledDice
from toy import ToyInterface
io = miscnn_tf.Data_IO(ToyInterface(shape=(12, 12), cases=2), "toy", batch_path=sys.argv[2])
preprocessor = miscnn_tf.Preprocessor(io, batch_size=1, patch_shape=(8, 8))
network = Architecture(feature_maps=(4,), instance_normalization=False)
miscnn_tf.Neural_Network(preprocessor, network, metrics=[PooledDice(2)], deterministic=True)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
