"""Several devices, and several machines, train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from distributed_training import run, train, train_here

from miscnn_tf.neural_network.distributed_fit import loss_per_sample

TWO_DEVICES = Path(__file__).parents[1] / "two_devices.py"
MACHINES = 2


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    """What `two_devices.py` found."""
    folder = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, TWO_DEVICES, folder], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


def test_two_devices_train_as_one_also_where_a_batch_cannot_be_shared_evenly(on_two_devices):
    """Batches of three, a last one of a single sample, class weights, metrics, the callbacks and what is restored."""
    differences = on_two_devices["differences"]
    assert {"loss", "val_loss", "dice_soft", "val_dice_class-1", "weights", "prediction"} <= set(differences)
    assert max(differences.values()) < 1e-5


def test_a_loss_that_is_one_number_is_no_larger_on_several_devices(on_two_devices):
    one, two = on_two_devices["losses_of_a_number"]
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize("case", ["categorical_crossentropy of 2", "categorical_crossentropy of 3", "dice of 3"])
def test_a_loss_that_is_summed_is_the_sum_over_all_devices(on_two_devices, case):
    """Also where a batch cannot be shared evenly, and the last one of the validation holds a single sample."""
    one, two = on_two_devices["summed_losses"][case]
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_a_metric_made_outside_of_the_scope_counts_what_all_devices_see_after_each_step(on_two_devices):
    (one, two), kinds = on_two_devices["metrics_made_outside_of_the_scope"]
    assert one.keys() == two.keys() >= {"iou", "accuracy", "val_iou", "val_accuracy", "accuracy after steps"}
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-4, err_msg=name)
    # Of one whose configuration may lack something no other is made.
    assert kinds == [True, True, False]


def test_the_pooled_dice_counts_the_voxels_of_all_devices(on_two_devices):
    one, two = on_two_devices["pooled_dice_of_more_patches"]
    assert len(one["val_pooled_dice"]) == 3
    assert max(one["val_pooled_dice"]) > 0
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("dice", ["sample", "batch"])
def test_several_outputs_and_the_dice_of_a_batch_train_as_on_one_device(on_two_devices, dice):
    one, two = on_two_devices["deep_supervision"][dice]
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_moving_averages_are_the_same_on_all_devices(on_two_devices):
    assert len(on_two_devices["spread_of_moving_averages"]) > 5
    assert max(on_two_devices["spread_of_moving_averages"]) == 0


def test_an_overflow_on_one_device_is_one_on_all(on_two_devices):
    assert on_two_devices["overflow"] == 0


def test_nan_names_the_samples_of_the_whole_batch(on_two_devices):
    assert (
        "the loss became nan in epoch 1, step 1, with the samples 'case_2', 'case_3'"
        in (on_two_devices["what_is_said_of_nan"])
    )


def test_a_callback_ends_the_training_after_its_step_and_the_epoch_is_validated(on_two_devices):
    assert on_two_devices["steps_until_stopped"] == [2, ["data_wait", "dice_soft", "loss", "val_dice_soft", "val_loss"]]


def test_gradients_are_clipped_as_those_of_the_whole_batch(on_two_devices):
    found = on_two_devices["differences_where_gradients_are_clipped"]
    assert sorted(found) == ["", "clipnorm", "clipvalue", "global_clipnorm"]
    for how, (difference, effect) in found.items():
        assert difference < 1e-5, how
        assert effect > 1e-3 or not how


def test_a_schedule_of_the_users_own_optimizer_is_followed(on_two_devices):
    assert on_two_devices["rates_of_a_schedule"] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_an_optimizer_of_the_users_own_takes_over(on_two_devices):
    assert on_two_devices["steps_of_a_new_optimizer"] == 3


def test_two_devices_share_the_scale_of_the_loss(on_two_devices):
    (one, two), scales, steps = on_two_devices["losses_in_float16"]
    np.testing.assert_allclose(one, two, rtol=1e-2)
    assert scales[0] == scales[1]
    assert steps == 3


def test_a_backup_of_kerass_is_refused(on_two_devices):
    assert "TrainingState" in on_two_devices["what_is_said_of_a_backup"]


def assert_same(one, others, but=()):
    for other in others:
        assert sorted(other) == sorted(one)
        for name in set(one) - {"replicas", *but}:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_machines_train_as_one_and_the_first_one_writes(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    train_here(tmp_path)
    one = dict(np.load(tmp_path / "result_0.npz"))
    (tmp_path / "other").mkdir()
    found = train(tmp_path / "two", MACHINES, per_worker={1: {"written": str(tmp_path / "other")}})
    assert_same(one, found)
    assert [int(result["replicas"]) for result in found] == [MACHINES, MACHINES]
    assert list((tmp_path / "other").iterdir()) == []
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 3
    files = {path.name for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert files == {"result_0.npz", "result_1.npz", "best.keras", "log.csv", "training_state.npz"}


@pytest.mark.slow
def test_two_machines_add_up_the_dice_of_a_batch(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    (tmp_path / "one").mkdir()
    train_here(tmp_path / "one", batch_dice=True)
    one = dict(np.load(tmp_path / "one" / "result_0.npz"))
    assert_same(one, train(tmp_path / "two", MACHINES, batch_dice=True), but=["val_loss"])


@pytest.mark.slow
def test_a_worker_that_dies_stops_the_others_and_the_run_resumes(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    train_here(tmp_path, epochs=4)
    codes, (first, _) = run(tmp_path / "two", MACHINES, epochs=4, per_worker={1: {"kill_in": 2}})
    assert codes == [1, -9]
    assert "TrainingError: worker 1 of 2: training stops, as another worker has ended or cannot be reached" in first
    codes, (_, second) = run(tmp_path / "two", MACHINES, epochs=4, per_worker={0: {"kill_in": 3}})
    assert codes == [-9, 1]
    assert "training goes on after epoch 2 of 4" in second
    assert "TrainingError: worker 2 of 2" in second
    assert_same(dict(np.load(tmp_path / "result_0.npz")), train(tmp_path / "two", MACHINES, epochs=4))


@pytest.mark.slow
def test_what_fails_on_one_worker_is_told_by_the_others(tmp_path):
    codes, (first, second) = run(tmp_path, MACHINES, per_worker={1: {"fail_in": 1}})
    assert codes == [1, 1]
    assert "ValueError: boom" in second
    assert "TrainingError: worker 1 of 2: training stops, as worker 2 (127.0.0.1:" in first
    assert "boom" not in first


@pytest.mark.slow
def test_a_worker_whose_own_program_fails_stops_the_others(tmp_path):
    """Where nobody could tell them: they learn it from the end of its process."""
    begin = time.monotonic()
    codes, (first, second) = run(tmp_path, MACHINES, per_worker={1: {"fail_before": True}})
    assert codes == [1, 1]
    assert "ValueError: boom" in second
    assert "TrainingError: worker 1 of 2: training stops, as another worker has ended or cannot be reached" in first
    assert time.monotonic() - begin < 120  # of which the others wait half a minute at most


@pytest.mark.slow
def test_batches_that_one_worker_cannot_write_stop_the_others(tmp_path):
    codes, (first, second) = run(tmp_path, MACHINES, per_worker={1: {"full_disk": True}})
    assert codes == [1, 1]
    assert "OSError: no space left" in second
    assert "TrainingError: worker 1 of 2: training stops, as worker 2 (127.0.0.1:" in first


@pytest.mark.slow
def test_workers_that_see_different_states_are_told(tmp_path):
    train(tmp_path / "a", MACHINES, epochs=2)
    # The second machine has a folder of its own, where nothing was written.
    codes, outputs = run(tmp_path / "a", MACHINES, epochs=2, per_worker={1: {"state": str(tmp_path / "b")}})
    assert codes == [1, 1]
    for output in outputs:
        assert "the workers would go on after different numbers of epochs (2, 0)" in output


@pytest.mark.slow
def test_an_object_that_measures_counts_what_all_machines_see_or_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    (tmp_path / "one").mkdir()
    train_here(tmp_path / "one", metric="iou")
    one = dict(np.load(tmp_path / "one" / "result_0.npz"))
    assert {"iou", "val_iou"} <= set(one)
    assert_same(one, train(tmp_path / "two", MACHINES, metric="iou"))
    codes, outputs = run(tmp_path / "refused", MACHINES, metric="own")
    assert codes == [1, 1]
    for output in outputs:
        assert "ConfigurationError: a metric (own/" in output


@pytest.mark.slow
def test_workers_with_different_samples_are_told(tmp_path):
    codes, outputs = run(tmp_path, MACHINES, per_worker={1: {"samples": 4}})
    assert codes == [1, 1]
    for output in outputs:
        assert "ConfigurationError: the workers would not train alike" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"network": {"feature_maps": [4, 8], "instance_normalization": False, "batch_normalization": True}},
        {"arguments": {"precision": "mixed_float16"}},
        {"arguments": {"deterministic": True}},
        {"minutes": 0.1, "epochs": 10_000},
    ],
    ids=["batch normalisation", "mixed_float16", "deterministic", "by the clock"],
)
def test_all_workers_hold_the_same_network_in_the_end(tmp_path, settings):
    first, second = train(tmp_path, MACHINES, **settings)
    assert sorted(first) == sorted(second)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    assert np.all(np.isfinite(first["weights"]))


@pytest.mark.slow
def test_a_cross_validation_on_two_machines_is_measured_by_the_first(tmp_path):
    first, second = train(tmp_path, MACHINES, cross_validation=True)
    np.testing.assert_array_equal(first["weights"], second["weights"])
    for name in ("summary.json", "run.json", "fold_0/history.tsv", "fold_1/scores.csv", "fold_1/model.keras"):
        assert (tmp_path / "evaluation" / name).is_file(), name
    assert not list(tmp_path.rglob("training_state.npz"))
    # Done is done, on both.
    train(tmp_path, MACHINES, cross_validation=True)


@pytest.mark.slow
def test_a_group_on_two_machines_is_written_by_the_first(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    found = train(tmp_path / "two", MACHINES, group=True, per_worker={1: {"written": str(other)}})
    assert [result["epochs"].tolist() for result in found] == [[2, 2], [2, 2]]
    evaluation = tmp_path / "two" / "evaluation"
    for name in ("summary.json", "run.json", "fold_0/history.tsv", "fold_1/scores.csv", "fold_1/model.keras"):
        assert (evaluation / name).is_file(), name
    assert len(list((tmp_path / "two" / "models").glob("group_*/*.keras"))) == 2
    assert list(other.iterdir()) == []


def test_a_number_becomes_a_value_per_sample_and_the_rest_stays():
    truth, prediction = np.zeros((2, 4, 4, 3), "float32"), np.ones((2, 4, 4, 3), "float32")
    number = loss_per_sample(lambda y_true, y_pred: keras.ops.mean(y_pred - y_true))
    assert np.asarray(number(truth, prediction)).tolist() == [1.0, 1.0]
    for pooled in map(loss_per_sample, [keras.losses.Dice(), keras.losses.Dice(reduction="mean_with_sample_weight")]):
        assert np.asarray(pooled(prediction, prediction)).shape == (2,)
        assert pooled.__name__ == "dice"
    voxels = loss_per_sample(keras.losses.MeanSquaredError())
    assert np.asarray(voxels(truth, prediction)).shape == (2, 4, 4)
    for reduction in ("sum", None):
        summed = loss_per_sample(keras.losses.MeanSquaredError(reduction=reduction))
        assert np.asarray(summed(truth, prediction)).tolist() == [32.0, 32.0]  # their mean is the sum of 2 x 16 voxels
