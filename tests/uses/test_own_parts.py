"""What MIScnn's users write themselves, in a script without a guard for its main part."""

from __future__ import annotations

import pytest

# The parts have fast tests of their own where they belong.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return folder, run_use("own_parts", folder)


def test_batches_are_whole_and_one_hot_also_by_hand(own):
    _, results = own
    batch = [[2, 12, 12, 12, 1], [2, 12, 12, 12, 2]]
    assert results["batches"][0] == batch
    assert results["generator"] == [batch, batch]


def test_own_loss_metric_architecture_and_subfunction_train_and_find_the_box(own):
    _, results = own
    assert min(results["dice"]) > 0.7
    assert len(results["score"]) == 3
    assert results["frozen"] == ["accuracy", "data_wait", "loss"]


def test_callbacks_of_keras_get_what_they_need(own):
    folder, results = own
    assert len(results["logs"]) == 3
    assert {"loss", "val_loss", "my_metric", "val_my_metric", "dice_soft", "val_dice_soft"} <= set(results["logs"][0])
    for name in ("best.keras", "last.weights.h5", "log.tsv", "evaluation/own/history.tsv"):
        assert (folder / name).stat().st_size > 0
    for name in ("validation.loss.png", "validation.my_metric.png", "validation.dice_soft.png"):
        assert (folder / "evaluation" / "own" / name).is_file()


def test_batches_on_disk_are_gone_after_the_training_and_nothing_lies_about(own):
    folder, _ = own
    assert not list(folder.rglob("*.npz"))
    assert {path.name for path in folder.iterdir()} <= {
        "batches",
        "best.keras",
        "evaluation",
        "last.weights.h5",
        "log.tsv",
        "predictions",
        "results.json",
    }
