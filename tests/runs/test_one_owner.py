"""One package owns the names and formats of a run folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import miscnn_tf
from miscnn_tf.runs import names

PACKAGE = Path(miscnn_tf.__file__).parent


def test_names_of_files_are_written_once():
    """Defect: the names were in nine modules of five packages."""
    # "predictions" is also an ordinary word; "model.keras" and "summary.json" are also files of the demonstration.
    own = {
        *(value for value in vars(names).values() if isinstance(value, str) and value.rpartition(".")[2] in ENDINGS),
        *names.KEPT_CONFIGURATIONS.values(),
    }
    assert len(own) >= 14
    elsewhere = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for path in PACKAGE.rglob("*.py")
        # The folders of nnU-Net's folds have the same name.
        if path not in (PACKAGE / "runs/names.py", PACKAGE / "cli/demo_run.py", PACKAGE / "nnunet/model_folder.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and (node.value in own or str(node.value).startswith("fold_"))
    ]
    assert elsewhere == []


ENDINGS = ("json", "tsv", "csv", "npz", "png", "html", "keras", "lock")


def test_importing_any_of_it_does_not_import_tensorflow():
    own = sorted(f"miscnn_tf.runs.{path.stem}" for path in (PACKAGE / "runs").glob("*.py") if path.stem != "__init__")
    assert len(own) > 10
    script = f"import sys, {', '.join(own)}\nassert not {{'tensorflow', 'keras', 'matplotlib'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)


def test_folders_of_folds_are_found_by_number(tmp_path):
    for name in ("fold_10", "fold_2", "fold_x", "folds"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold_3").write_text("a file")
    assert list(names.fold_folders(tmp_path)) == [2, 10]
    assert names.fold_folder(tmp_path, 2) == names.fold_folders(tmp_path)[2]


def test_a_curve_belongs_to_its_metric():
    assert names.curve_file("a metric/b") == "validation.a_metric_b.png"
    assert names.is_curve_of("validation.a_metric_b.png", {"loss", "a metric/b"})
    assert not names.is_curve_of("validation.notes.png", {"loss"})
    assert not names.is_curve_of("notes.png", {"notes"})
