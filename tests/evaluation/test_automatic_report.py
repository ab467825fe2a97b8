from __future__ import annotations

import logging

from toy import ToyInterface

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.evaluation.automatic_report import renew_report, write_report_if_possible
from miscnn_tf.report import run_page
from miscnn_tf.runs.tables import backup_history


def test_the_page_is_written(tmp_path):
    backup_history({"loss": [1.0]}, tmp_path)
    assert write_report_if_possible(tmp_path, Data_IO(ToyInterface(), "toy")) == tmp_path / "report.html"
    assert (tmp_path / "report.html").is_file()


def test_what_keeps_it_from_being_drawn_is_a_warning_with_the_reason(tmp_path, caplog, monkeypatch):
    def fail(*arguments, **keywords):
        raise ZeroDivisionError("no division")

    monkeypatch.setattr(run_page, "write_report", fail)
    with caplog.at_level(logging.WARNING):
        assert write_report_if_possible(tmp_path, Data_IO(ToyInterface(), "toy")) is None
    assert "results are complete" in caplog.text
    assert "ZeroDivisionError: no division" in caplog.text
    assert f"miscnn-tf report {tmp_path}" in caplog.text
    backup_history({"loss": [1.0]}, tmp_path)
    renew_report(tmp_path, 5)
    assert "The training is running" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert write_report_if_possible(tmp_path, Data_IO(ToyInterface(), "toy")) is None
    assert "The training is running" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    with_blanks = tmp_path / "a run"
    assert write_report_if_possible(with_blanks, Data_IO(ToyInterface(), "toy")) is None
    assert f"miscnn-tf report '{with_blanks}'" in caplog.text
