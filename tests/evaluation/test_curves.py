"""Curves of a training run, as files and as what the figure holds."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from miscnn_tf.errors import StorageError
from miscnn_tf.evaluation.curves import draw_curves, metric_name, plot_validation

HISTORY = {
    "loss": [0.9, 0.5, 0.4],
    "val_loss": [0.8, 0.6, 0.7],
    "dice_soft": [0.1, 0.5, 0.6],
    "val_dice_soft": [0.1, 0.4, 0.5],
}


def dice_soft(y_true, y_pred): ...


class KerasLike:
    name = "dice_soft"


def test_a_file_for_the_loss_and_each_metric(tmp_path):
    folder = tmp_path / "evaluation" / "fold_0"
    written = plot_validation(HISTORY, [dice_soft], folder)
    assert written == [folder / "validation.loss.png", folder / "validation.dice_soft.png"]
    assert sorted(folder.iterdir()) == sorted(written)
    for path in written:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 1


@pytest.mark.parametrize("metric", [dice_soft, "dice_soft", KerasLike()])
def test_metrics_are_functions_names_or_objects(metric):
    assert metric_name(metric) == "dice_soft"


def test_a_keras_history_object_is_taken_too(tmp_path):
    class History:
        history = HISTORY

    assert len(plot_validation(History(), None, tmp_path)) == 1


def test_curves_hold_the_numbers_by_epoch_from_one():
    axes = draw_curves("loss", HISTORY["loss"], HISTORY["val_loss"]).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    for label, key in (("training", "loss"), ("validation", "val_loss")):
        assert list(lines[label].get_xdata()) == [1, 2, 3]
        assert list(lines[label].get_ydata()) == HISTORY[key]
    assert [tuple(line.get_xydata()[0]) for label, line in lines.items() if "lowest" in label] == [(2, 0.6)]
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_no_validation_draws_training_alone():
    axes = draw_curves("loss", [0.5]).axes[0]
    assert [line.get_label() for line in axes.get_lines()] == ["training"]
    assert axes.get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize("values", [[float("nan")] * 2, [float("nan"), 0.2], []])
def test_numbers_that_are_none_do_not_stop_it(values):
    figure = draw_curves("loss", [0.5, 0.4], values)
    lowest = [line for line in figure.axes[0].get_lines() if "lowest" in line.get_label()]
    assert len(lowest) == np.isfinite(values).sum()


def test_a_metric_that_was_not_recorded_is_named_and_left_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(plot_validation(HISTORY, ["tversky"], tmp_path)) == 1
    assert "'tversky'" in caplog.text
    assert "'dice_soft'" in caplog.text


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    name = "../../dice x"
    written = plot_validation({"loss": [1.0], name: [1.0]}, [name], tmp_path / "deep" / "er")
    assert all(path.parent == tmp_path / "deep" / "er" for path in written)
    assert written[1].name == "validation..._.._dice_x.png"


def test_an_earlier_picture_stays_whole_when_writing_fails(tmp_path, monkeypatch):
    (tmp_path / "validation.loss.png").write_bytes(b"earlier")

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(StorageError, match=r"validation\.loss\.png.*No space"):
        plot_validation(HISTORY, [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["validation.loss.png"]
    assert (tmp_path / "validation.loss.png").read_bytes() == b"earlier"


def test_the_metric_of_a_class_has_its_name():
    figure = draw_curves("dice_class-2", [0.1, 0.2], class_names=["background", "kidney", "tumour"])
    assert figure.axes[0].get_ylabel() == "dice, tumour"
    assert draw_curves("dice_class-2", [0.1, 0.2]).axes[0].get_ylabel() == "dice class-2"
    assert draw_curves("dice_soft", [0.1], class_names=["a", "b"]).axes[0].get_ylabel() == "dice soft"
