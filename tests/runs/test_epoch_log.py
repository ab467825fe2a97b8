"""The files of a training while it runs: history, progress, and when the report is renewed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from miscnn_tf.errors import DataError
from miscnn_tf.runs import epoch_log
from miscnn_tf.runs.epoch_log import EpochLog
from miscnn_tf.runs.tables import read_history
from miscnn_tf.runs.training_progress import read_progress


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(epoch_log, "time", clock)
    return clock


def train(log: EpochLog, epochs: range, clock: Clock | None = None, seconds: float = 0.0) -> None:
    for epoch in epochs:
        log.on_epoch_begin(epoch)
        if clock:
            clock.now += seconds
        log.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})


def test_the_history_grows_by_a_line_per_epoch(tmp_path):
    log = EpochLog(tmp_path, 3)
    log.on_train_begin()
    for epoch, loss in enumerate([0.9, math.nan, 0.5]):
        log.on_epoch_begin(epoch)
        log.on_epoch_end(epoch, {"loss": loss} if epoch else {"loss": loss, "first": 1.0})
        lines = (tmp_path / "history.tsv").read_text().splitlines()
        assert [line.split("\t")[0] for line in lines] == ["epoch", *map(str, range(1, epoch + 2))]
    history = read_history(tmp_path / "history.tsv")
    assert history["loss"] == pytest.approx([0.9, math.nan, 0.5], nan_ok=True)
    assert history["first"] == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)


def test_progress_of_two_folds_in_one_second_has_an_order(tmp_path, monkeypatch):
    """Defect: with whole seconds the page of a fast cross-validation showed the fold before."""
    moments = iter([datetime(2026, 12, 1, 3, 12, 55, 100_000, UTC), datetime(2026, 12, 1, 3, 12, 55, 600_000, UTC)])
    monkeypatch.setattr(epoch_log, "datetime", type("Moments", (), {"now": staticmethod(lambda zone: next(moments))}))
    written = []
    for fold in ("fold_0", "fold_1"):
        (tmp_path / fold).mkdir()
        EpochLog(tmp_path / fold, 3).finish()
        written.append(read_progress(tmp_path / fold).written)
    assert written == ["2026-12-01T03:12:55.100+00:00", "2026-12-01T03:12:55.600+00:00"]


def test_a_metric_that_begins_later_is_in_its_own_epochs(tmp_path):
    log = EpochLog(tmp_path, 3)
    log.on_train_begin()
    train(log, range(2))
    log.on_epoch_end(2, {"loss": 0.3, "late": 7.0})
    assert read_history(tmp_path / "history.tsv")["late"] == pytest.approx([math.nan, math.nan, 7.0], nan_ok=True)


def test_a_resumed_training_keeps_the_earlier_lines(tmp_path):
    first = EpochLog(tmp_path, 4)
    first.on_train_begin()
    train(first, range(2))
    again = EpochLog(tmp_path, 4)
    again.on_train_begin()
    again.set_state(first.get_state())
    train(again, range(2, 4))
    assert read_history(tmp_path / "history.tsv")["loss"] == [1.0, 1 / 2, 1 / 3, 1 / 4]
    again.finish()
    assert read_progress(tmp_path).stopped == "All 4 epochs are trained."
    again.on_train_begin()  # the next training begins anew
    train(again, range(1))
    assert read_history(tmp_path / "history.tsv")["loss"] == [1.0]


def test_the_remaining_time_is_that_of_recent_epochs_or_of_the_limit(tmp_path, clock):
    log = EpochLog(tmp_path, 20)
    log.on_train_begin()
    train(log, range(1), clock, 60.0)  # with the compilation
    assert read_progress(tmp_path).seconds_left == pytest.approx(19 * 60)
    train(log, range(1, 8), clock, 10.0)
    progress = read_progress(tmp_path)
    assert (progress.epoch, progress.epochs, progress.stopped) == (8, 20, None)
    assert progress.seconds_per_epoch == pytest.approx(10)
    assert progress.seconds_left == pytest.approx(12 * 10)
    log.seconds_until_limit = lambda: 42.0
    train(log, range(8, 9), clock, 10.0)
    assert read_progress(tmp_path).seconds_left == pytest.approx(42)


def test_the_report_is_renewed_seldom_and_takes_a_small_share(tmp_path, clock):
    renewed = []

    def renew(seconds):
        renewed.append(clock.now)
        clock.now += 0.5  # a page of many folds

    log = EpochLog(tmp_path, 1000, renew)
    log.on_train_begin()
    train(log, range(1000), clock, 0.1)
    # Before the first epoch, then after 5 s, then each 25 s, of which it takes 2 %.
    assert renewed[0] == 1000.0
    assert renewed[1] - renewed[0] == pytest.approx(5.5, abs=0.2)
    gaps = [later - earlier for earlier, later in pairwise(renewed[1:])]
    assert gaps == pytest.approx([25.5] * len(gaps), abs=0.2)
    assert len(gaps) in (3, 4)


def test_the_end_is_always_told_with_its_reason(tmp_path, clock):
    renewed = []
    log = EpochLog(tmp_path, 9, renewed.append)
    log.on_train_begin()
    train(log, range(2), clock, 0.1)
    log.finish()
    assert read_progress(tmp_path).stopped == "A callback ended the training after epoch 2."
    assert renewed == [5.0, 5.0]
    log.interrupt(KeyboardInterrupt())
    assert read_progress(tmp_path).stopped == "Interrupted in epoch 3; the same call continues it."
    assert renewed[-1] is None
    log.interrupt(ValueError("no memory"))
    assert read_progress(tmp_path).stopped == "Ended by an error in epoch 3: no memory"


def test_an_error_before_the_first_epoch_writes_nothing(tmp_path):
    log = EpochLog(tmp_path, 9, lambda seconds: pytest.fail("written"))
    log.interrupt(ValueError("a sample is missing"))
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_drawn_ends_no_training(tmp_path, clock, caplog):
    def renew(seconds):
        raise RuntimeError("no font")

    log = EpochLog(tmp_path, 9, renew)
    log.on_train_begin()
    train(log, range(9), clock, 10.0)
    log.finish()
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: the report is not renewed during the training (RuntimeError: no font)"
    ]
    assert len(read_history(tmp_path / "history.tsv")["loss"]) == 9


def test_a_damaged_progress_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "progress.json").write_text('{"epoch": "three"}')
    with pytest.raises(DataError, match=r"progress\.json.*epoch must be a whole number"):
        read_progress(tmp_path)
