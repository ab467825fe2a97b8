"""The choice of the postprocessing, on label maps whose Dice is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.evaluation.dice import compute_dice, mean_dice
from miscnn_tf.evaluation.postprocessing_choice import choose_for_label_maps, choose_postprocessing
from miscnn_tf.processing.components import FILL_HOLES, KEEP_LARGEST, postprocess, steps_of
from miscnn_tf.runs.fold import Fold, FoldRecord


def truth_of(classes: int = 3) -> np.ndarray:
    """Return a label map with a square of each class."""
    truth = np.zeros((12, 30), np.uint8)
    for label in range(1, classes):
        truth[2:8, 10 * label - 9 : 10 * label - 3] = label
    return truth


def with_noise(truth: np.ndarray, label: int) -> np.ndarray:
    prediction = truth.copy()
    prediction[10, 29] = label
    return prediction


def test_islands_are_removed_and_holes_are_filled_where_that_helps() -> None:
    truth = truth_of()
    prediction = with_noise(truth, 1)
    prediction[4:6, 13:15] = 0
    choice = choose_for_label_maps([truth] * 2, [prediction, truth], LabelScheme(3))
    # The two classes do not touch, so that the largest component of all foreground would remove one of them.
    assert [(step.operation, step.labels) for step in choice.steps] == [(KEEP_LARGEST, (1,)), (FILL_HOLES, (2,))]
    assert choice.after == (1.0, 1.0)
    scores = [compute_dice(truth, one, 3) for one in (prediction, truth)]
    assert choice.before == pytest.approx(mean_dice(scores)[1:])
    np.testing.assert_array_equal(postprocess(prediction, choice.steps), truth)
    assert "class 1       0.9932      1.0000" in choice.table
    assert "largest component: class 1; holes filled: class 2" in choice.table
    reasons = {(one.step.operation, one.step.name): one.reason for one in choice.decisions}
    assert reasons[KEEP_LARGEST, "all foreground"].startswith("the mean Dice falls")
    assert reasons[KEEP_LARGEST, "class 2"] == "the Dice stays the same (0.9706, then 0.9706)"
    assert reasons[FILL_HOLES, "class 2"] == "the Dice rises from 0.9706 to 1.0000"


def test_all_foreground_together_must_not_cost_a_class() -> None:
    truth = np.zeros((10, 20), np.uint8)
    truth[2:8, 2:8], truth[2:8, 8:14] = 1, 2
    noise = with_noise_at(truth, (9, 19), 1)
    assert choose_for_label_maps([truth], [noise], LabelScheme(3)).steps[0].labels == (1, 2)
    # In the second sample one voxel of the class 2 is apart: removing it costs class 2 less than class 1 gains.
    apart = truth.copy()
    apart[0, 19] = 2
    worse = [noise, apart]
    worse[0][0:2, 16:20] = 1
    choice = choose_for_label_maps([truth, apart], worse, LabelScheme(3))
    assert choice.decisions[0].after > choice.decisions[0].before
    assert choice.decisions[0].reason == "the Dice of class 2 falls"
    assert [step.labels for step in choice.steps] == [(1,)]


def with_noise_at(truth: np.ndarray, place: tuple[int, int], label: int) -> np.ndarray:
    prediction = truth.copy()
    prediction[place] = label
    return prediction


def test_nothing_is_chosen_that_does_not_help() -> None:
    truth = truth_of()
    choice = choose_for_label_maps([truth], [truth], LabelScheme(3))
    assert choice.steps == ()
    assert "none, since no step improves the Dice" in choice.table
    absent = np.zeros_like(truth)
    choice = choose_for_label_maps([absent], [absent], LabelScheme(3))
    assert choice.steps == ()
    assert choice.to_plain()["dice"]["class 1"] == {"before": None, "after": None}
    assert all("not defined" in one.reason for one in choice.decisions)


def test_one_class_is_decided_once() -> None:
    truth = truth_of(2)
    choice = choose_for_label_maps([truth], [with_noise(truth, 1)], LabelScheme(2))
    assert [(one.step.operation, one.kept) for one in choice.decisions] == [(KEEP_LARGEST, True), (FILL_HOLES, False)]


def test_regions_and_voxels_without_annotation() -> None:
    scheme = LabelScheme(3, has_ignored=True, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    truth = np.zeros((12, 12, 4), np.uint8)
    truth[1:9, 1:9], truth[3:6, 3:6] = 1, 2
    prediction = truth.copy()
    prediction[1:3, 1:3] = 2  # a part of the whole that was taken for the core: it becomes background
    prediction[11, 11] = 1
    choice = choose_for_label_maps([truth], [prediction], scheme)
    assert [step.name for step in choice.steps] == ["all foreground"]
    assert choice.names == ("whole", "core")
    truth[11, 11] = 3  # not annotated: it is not counted
    unknown = choose_for_label_maps([truth], [prediction], scheme)
    assert unknown.before[0] == 1
    assert unknown.decisions[0].reason.startswith("the mean Dice stays the same")


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Data_IO, dict[str, Any]]:
    """Two finished folds of one sample each."""
    truth = truth_of()
    data = {name: (np.zeros((*truth.shape, 1), np.float32), truth, {}) for name in ("a", "b")}
    io = Data_IO(Dictionary_interface(data, channels=1, classes=3, three_dim=False), "")
    predictions = {"a": with_noise(truth, 1), "b": truth}
    for number, (name, other) in enumerate((("a", "b"), ("b", "a"))):
        folder = tmp_path / f"fold_{number}"
        (folder / "predictions").mkdir(parents=True)
        np.save(folder / "predictions" / f"{name}.npy", predictions[name])
        FoldRecord(Fold((other,), (name,)), {}, {}, detailed=True).write(folder)
    return tmp_path, io, predictions


def test_the_choice_is_written_into_the_run_folder(finished: tuple[Path, Data_IO, dict[str, Any]]) -> None:
    root, io, _ = finished
    choice = choose_postprocessing(root, io)
    assert [step.labels for step in choice.steps] == [(1, 2)]  # the squares have the same size: both are kept
    assert (choice.folds, choice.samples) == (2, 2)
    content = json.loads((root / "postprocessing.json").read_text())
    assert content == choice.to_plain()
    assert steps_of(content["steps"], 3) == choice.steps
    assert all(one["reason"] for one in content["decisions"])


def test_nothing_is_decided_on_a_part_of_the_samples(finished: tuple[Path, Data_IO, dict[str, Any]]) -> None:
    root, io, predictions = finished
    np.save(root / "fold_1" / "predictions" / "b.npy", predictions["b"][1:])
    with pytest.raises(DataError, match=r"sample 'b': its prediction has the shape \(11, 30\)"):
        choose_postprocessing(root, io)
    (root / "fold_1" / "predictions" / "b.npy").unlink()
    with pytest.raises(MissingDataError, match="the prediction of 'b' is missing"):
        choose_postprocessing(root, io)
    (root / "fold_1" / "completed.json").unlink()
    with pytest.raises(MissingDataError, match="is not finished"):
        choose_postprocessing(root, io)
    (root / "fold_1").rename(root / "other")
    with pytest.raises(ConfigurationError, match="has 1 folds"):
        choose_postprocessing(root, io)
    assert not (root / "postprocessing.json").exists()
