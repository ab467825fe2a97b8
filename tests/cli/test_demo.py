from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.cli import demo
from miscnn_tf.cli import main as cli
from miscnn_tf.errors import StorageError

SMALL = {"shape": (16, 36, 48), "patch_shape": (16, 32, 32), "steps_per_epoch": 2}


@pytest.fixture(scope="module")
def folder_and_terminal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo") / "results"
    return folder, run_in_new_process(folder)


@pytest.fixture(scope="module")
def small_demo(
    folder_and_terminal: tuple[Path, subprocess.CompletedProcess[str]],
) -> tuple[Path, dict[str, Any]]:
    folder, _ = folder_and_terminal
    return folder, read_summary(folder)


def run_in_new_process(folder: Path) -> subprocess.CompletedProcess[str]:
    """As the command does; here TensorFlow was used already, and orders its operations as it likes.

    The processor pretends to be one without AVX-512, for which TensorFlow reports an error that is none.
    """
    code = f"""
import sys
from functools import partial
from miscnn_tf.cli import demo_run, main as cli
demo_run.run_demo = partial(demo_run.run_demo, **{SMALL!r})
sys.exit(cli.main(["demo", "--output", {str(folder)!r}, "--cases", "4", "--epochs", "3", "--seed", "3"]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )
    assert done.returncode == 0, done.stderr
    return done


def read_summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_the_terminal_shows_nothing_that_is_not_ours(
    folder_and_terminal: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = folder_and_terminal
    step = r"2/2 - \d+s - .*step - dice_soft: .* - loss: .* - val_dice_soft: .* - val_loss: .*"
    expected = [
        *map(re.escape, demo.OPENING.splitlines()),
        "",
        re.escape(f"Writing 4 phantom scans to {folder / 'data'}"),
        r"Training on 3 scans, 3 epochs \(CPU; float32 .*\)",
        "Epoch 1/3",
        step,
        "Epoch 2/3",
        step,
        r"The result is expected in about [\d.]+ (seconds|minutes), at \d\d:\d\d:\d\d",
        "Epoch 3/3",
        step,
        re.escape(f"Segmenting 1 held-out scan to {folder / 'predictions'}"),
        "",
        r"Dice +kidney +tumour",
        r"case_00003 .*",
        r"mean .*",
        "",
        r"Done in .* minutes\. Open the results in a browser: file://.*/index.html",
    ]
    lines = done.stdout.splitlines()
    wrong = [(line, want) for line, want in zip(lines, expected, strict=True) if not re.fullmatch(want, line)]
    assert wrong == []
    assert [line for line in re.split("[\r\n]+", done.stderr) if line and not line.startswith("Predicting: ")] == []


def test_everything_is_written(small_demo: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = small_demo
    assert {path.name for path in folder.iterdir()} == {
        "data",
        "predictions",
        "pictures",
        "model.keras",
        "history.tsv",
        "index.html",
        "summary.json",
    }
    assert summary["held_out_cases"] == ["case_00003"]
    assert summary["training_cases"] == ["case_00000", "case_00001", "case_00002"]
    assert summary["status"] == "finished"
    assert len(summary["history"]["loss"]) == len(summary["history"]["val_loss"]) == 3


def test_predictions_lie_on_the_scans(small_demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = small_demo
    scan = nib.load(folder / "data" / "case_00003" / "imaging.nii.gz")
    prediction = nib.load(folder / "predictions" / "case_00003.nii.gz")
    assert prediction.shape == scan.shape
    np.testing.assert_allclose(prediction.affine, scan.affine, atol=1e-4)
    assert np.issubdtype(prediction.get_data_dtype(), np.integer)
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 1, 2}


def test_the_dice_in_the_summary_is_that_of_the_files(small_demo: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = small_demo
    truth = np.asarray(nib.load(folder / "data" / "case_00003" / "segmentation.nii.gz").dataobj)
    prediction = np.asarray(nib.load(folder / "predictions" / "case_00003.nii.gz").dataobj)
    for label, name in enumerate(("kidney", "tumour"), start=1):
        total = np.sum(truth == label) + np.sum(prediction == label)
        stated = summary["dice"]["case_00003"][name]
        if total == 0:
            assert stated is None
        else:
            assert stated == pytest.approx(2 * np.sum((truth == label) & (prediction == label)) / total, abs=1e-5)
        assert summary["mean_dice"][name] == stated


def test_the_model_file_predicts_the_same(small_demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from miscnn_tf import load_model

    folder, _ = small_demo
    load_model(folder / "model.keras").predict_file(
        folder / "data" / "case_00003" / "imaging.nii.gz", tmp_path / "seg.nii.gz"
    )
    again, first = (
        np.asarray(nib.load(file).dataobj)
        for file in (tmp_path / "seg.nii.gz", folder / "predictions/case_00003.nii.gz")
    )
    np.testing.assert_array_equal(again, first)


def test_the_page_needs_no_network_and_its_links_lead_somewhere(small_demo: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = small_demo
    html = (folder / "index.html").read_text(encoding="utf-8")
    addresses: list[str] = []

    class Addresses(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            addresses.extend(value or "" for name, value in attrs if name in ("src", "href"))

    Addresses().feed(html)
    assert sum(address.startswith("data:image/png;base64,") for address in addresses) == 2
    links = [address for address in addresses if not address.startswith("data:")]
    assert links
    for link in links:
        assert (folder / link).is_file(), link
    assert not re.search(r"https?://|@import|<script", html)
    kidney = summary["mean_dice"]["kidney"]
    assert f"{kidney:.3f}" in html


def test_same_seed_same_numbers(small_demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, summary = small_demo
    run_in_new_process(tmp_path / "again")
    again = read_summary(tmp_path / "again")
    # How long something took is no result.
    for run in (summary["history"], again["history"]):
        run.pop("data_wait", None)
    for part in ("dice", "mean_dice", "history", "settings", "training_cases"):
        assert again[part] == summary[part], part
    assert (tmp_path / "again/predictions/case_00003.nii.gz").read_bytes() == (
        folder / "predictions/case_00003.nii.gz"
    ).read_bytes()


def test_importing_starts_no_tensorflow_so_that_its_threads_can_still_be_set() -> None:
    """Else `deterministic=True` has no effect and the same seed gives other numbers; nor could GPU memory grow."""
    code = (
        "import tensorflow as tf\nimport miscnn_tf.cli.demo_run\nfrom miscnn_tf.neural_network import losses, metrics\n"
        "tf.config.threading.set_inter_op_parallelism_threads(1)\n"
        "print(tf.config.threading.get_inter_op_parallelism_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    from miscnn_tf.cli.demo_run import run_demo

    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(StorageError, match=r"files of other programs.*--output"):
        run_demo(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize("content", ["", "[]", "3", '{"other": 1}'])
def test_a_summary_of_something_else_is_no_mark(tmp_path: Path, content: str) -> None:
    from miscnn_tf.cli.demo_run import run_demo

    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(StorageError, match="files of other programs"):
        run_demo(tmp_path, **SMALL)


def test_an_interrupted_demo_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miscnn_tf.cli import demo_run

    def interrupted(*args: object, **kwargs: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_run, "write_kits_phantoms", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            demo_run.run_demo(tmp_path / "out", **SMALL)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "not finished"


def test_an_output_that_is_a_file_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert cli.main(["demo", "--output", str(tmp_path / "taken"), "-v"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("miscnn-tf: error: ")
    assert "taken" in error


def test_the_table_shows_numbers_and_dashes() -> None:
    table = demo.score_table(
        ["kidney", "tumour"],
        {"case_00000": {"kidney": 0.95, "tumour": None}, "case_00001": {"kidney": 1.0, "tumour": 0.1234}},
        {"kidney": 0.975, "tumour": 0.1234},
    )
    assert [line.split() for line in table.splitlines()] == [
        ["Dice", "kidney", "tumour"],
        ["case_00000", "0.950", "–"],
        ["case_00001", "1.000", "0.123"],
        ["mean", "0.975", "0.123"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_defaults_are_what_the_help_says() -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    arguments = parser.parse_args([])
    assert (arguments.output, arguments.cases, arguments.seed) == (Path("miscnn_tf_demo"), demo.DEFAULT_CASES, 0)


@pytest.mark.slow
def test_the_demo_reaches_its_dice_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo as a newcomer runs it: a mean kidney Dice of at least 0.90 within 2.5 minutes of two cores.

    Processor time is measured, since others may use the machine.
    """
    begin = time.process_time()
    assert cli.main(["demo", "--output", str(tmp_path / "demo")]) == 0
    assert time.process_time() - begin < 2 * 150
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["mean_dice"]["kidney"] >= 0.90
    assert len(summary["held_out_cases"]) == 6
    assert all(row["tumour"] is not None for row in summary["dice"].values())  # each has one
    assert math.isclose(
        summary["mean_dice"]["kidney"], np.mean([row["kidney"] for row in summary["dice"].values()]), abs_tol=1e-5
    )
    table = capsys.readouterr().out
    assert f"{summary['mean_dice']['kidney']:.3f}" in table
