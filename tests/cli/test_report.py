from __future__ import annotations

import webbrowser

import pytest

from miscnn_tf.cli.main import main
from miscnn_tf.runs.tables import backup_history


@pytest.fixture
def run_folder(tmp_path):
    backup_history({"loss": [1.0, 0.5]}, tmp_path / "run")
    return tmp_path / "run"


def test_the_page_is_written_and_its_address_told(run_folder, capsys):
    assert main(["report", str(run_folder)]) == 0
    page = run_folder / "report.html"
    assert page.is_file()
    printed = capsys.readouterr().out
    assert str(page) in printed
    assert page.as_uri() in printed


def test_another_file_opened_in_the_browser(run_folder, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["report", str(run_folder), "-o", str(tmp_path / "page.html"), "--open"]) == 0
    assert opened == [(tmp_path / "page.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["report", str(run_folder), "--open"]) == 0
    assert "No browser was found" in capsys.readouterr().out


def test_what_is_no_run_is_one_clear_line(tmp_path, run_folder, capsys):
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("miscnn-tf: error: ")
    assert "It holds folders of runs: run." in said
    assert len(said.splitlines()) == 1
    assert main(["report"]) == 2
