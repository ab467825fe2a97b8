"""The page of a run that goes on."""

from __future__ import annotations

import shutil

import pytest

from miscnn_tf.report import run_page
from miscnn_tf.report.run_page import write_page, write_report
from miscnn_tf.runs.training_progress import TrainingProgress

WRITTEN = "2026-12-01T03:12:55+00:00"


@pytest.fixture
def unfinished(make_run):
    """The first fold is finished, the second one has trained 4 of 10 epochs."""
    root = make_run(settings={"folds": 3, "epochs": 10})
    TrainingProgress(10, 10, 2.0, None, "All 10 epochs are trained.", "2026-12-01T03:10:00+00:00").write(
        root / "fold_0"
    )
    TrainingProgress(4, 10, 30.0, 180.0, None, WRITTEN).write(root / "fold_1")
    for name in ("completed.json", "scores.csv", "summary.json", "detailed_validation.tsv"):
        (root / "fold_1" / name).unlink(missing_ok=True)
    for name in ("scores.csv", "summary.json"):
        (root / name).unlink()
    return root


def test_fold_epoch_time_and_best_epoch_are_on_the_page(unfinished):
    text = write_page(unfinished, draw=False, refresh=30).path.read_text(encoding="utf-8")
    for part in (
        '<meta http-equiv="refresh" content="30">', "Fold 1 (2 of 3), 4 of 10 epochs",
        # Two folds are open: the rest of this one, and 4 + 6 epochs of 30 s.
        "Remaining time: about 3 min 00 s, for all folds 8 min 00 s, without the predictions at the end.",
        "Best epoch so far: 2, with the validation loss 0.7.", "State of 03:12:55 UTC", "3-fold cross-validation",
        "Fold 0: All 10 epochs are trained. The best epoch is 2, with the validation loss 0.7.",
    ):  # fmt: skip
        assert part in text
    assert "are not finished" not in text
    assert "There are no pictures" not in text
    assert text.count("<svg") > 4  # the curves, and the scores of the finished fold


def test_a_page_that_ends_does_not_load_itself_again(unfinished):
    text = write_page(unfinished, draw=False).path.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text
    assert "The training is running" not in text
    assert "1 of 2 folds are not finished (1); the same call continues." in text


def test_a_live_page_reads_no_image(unfinished, monkeypatch):
    monkeypatch.setattr(run_page, "_rebuilt_data", lambda *_: pytest.fail("read"))
    page = write_page(unfinished, draw=False, refresh=5)
    assert page.cases == 0


def test_a_live_page_keeps_the_pictures_of_finished_folds(unfinished):
    drawn = write_page(unfinished)
    live = write_page(unfinished, draw=False, refresh=5)
    assert live.cases == live.kept == drawn.cases == 4
    assert '<meta http-equiv="refresh" content="60">' in live.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("seconds", "refresh"), [(0.2, 5), (7.2, 8), (900, 60)])
def test_the_browser_loads_it_at_most_every_five_seconds(unfinished, seconds, refresh):
    text = write_page(unfinished, draw=False, refresh=seconds).path.read_text(encoding="utf-8")
    assert f'<meta http-equiv="refresh" content="{refresh}">' in text


def test_before_the_first_epoch_and_without_a_record_there_is_a_page(unfinished):
    shutil.rmtree(unfinished / "fold_0")
    for name in ("history.tsv", "progress.json"):
        (unfinished / "fold_1" / name).unlink()
    (unfinished / "run.json").unlink()
    text = write_page(unfinished, draw=False, refresh=5).path.read_text(encoding="utf-8")
    assert "The training begins." in text


def test_a_time_limit_hides_the_number_of_epochs(unfinished):
    TrainingProgress(4, 1_000_000, 30.0, 180.0, None, WRITTEN).write(unfinished / "fold_1")
    text = write_page(unfinished, draw=False, refresh=5).path.read_text(encoding="utf-8")
    assert "Fold 1 (2 of 3), 4 epochs" in text
    assert 'style="width: 40.0%"' in text  # 4 epochs of 30 s, and 180 s left


def test_the_reason_of_the_end_stays_on_the_last_page(make_run):
    root = make_run()
    reason = "val_loss did not improve for 20 epochs (early stopping)."
    TrainingProgress(4, 100, 2.0, None, reason, WRITTEN).write(root / "fold_1")
    text = write_report(root).read_text(encoding="utf-8")
    assert f"Fold 1: {reason} The best epoch is 2, with the validation loss 0.7." in text


def test_a_damaged_progress_is_a_remark(make_run):
    root = make_run()
    (root / "fold_0" / "progress.json").write_text("{}")
    text = write_report(root).read_text(encoding="utf-8")
    assert "progress.json is damaged" in text


def test_the_page_explains_the_pooled_dice_and_marks_the_epoch_of_its_average(make_run):
    pooled = {"val_pooled_dice": [0.2, 0.5, 0.6, 0.1], "val_pooled_dice_average": [0.2, 0.23, 0.267, 0.25]}
    pooled["val_pooled_dice_class-1"] = [float("nan"), 0.5, 0.6, 0.1]  # it did not occur in the first epoch
    history = {"loss": [1.0, 0.8, 0.7, 0.5], "val_loss": [1.1, 0.7, 0.9, 0.8], **pooled}
    root = make_run(history=history, class_names=("background", "kidney", "tumour"))
    TrainingProgress(4, 4, 2.0, None, "All 4 epochs are trained.", WRITTEN).write(root / "fold_1")
    text = write_report(root).read_text(encoding="utf-8")
    for part in (
        "The best epoch is 3, with the moving average of the pooled Dice 0.267.",
        "epoch of the highest moving average of the pooled Dice, whose weights were kept",
        "highest moving average of the pooled Dice: 0.267, epoch 3",
        "Pooled Dice counts the voxels of all patches of an epoch together",
        "Pooled Dice average",
        "Pooled Dice, kidney",
    ):
        assert part in text
    assert "lowest validation loss: " not in text


def test_the_page_of_a_training_without_it_does_not(make_run):
    text = write_report(make_run()).read_text(encoding="utf-8")
    assert "epoch of the lowest validation loss, whose weights were kept" in text
    assert "ooled" not in text
