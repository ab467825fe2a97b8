"""One package owns the names and formats of a run folder, and the packages around it have no import circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import miscnn_tf
from miscnn_tf.runs import names

PACKAGE = Path(miscnn_tf.__file__).parent
#: Packages that write and read run folders.
USERS = ("runs", "evaluation", "report", "cli")


def modules() -> dict[str, Path]:
    return {
        "miscnn_tf." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for user in USERS
        for path in (PACKAGE / user).rglob("*.py")
        if path.name != "__init__.py"
    }


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the imported modules, those in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if name in known:
                    yield name
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        for name in edges[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def test_no_module_reaches_itself_by_imports():
    """Defect: evaluation and report imported each other, as did another_run and fold_run, and three others."""
    known = modules()
    edges = {name: set(imported(path, known)) for name, path in known.items()}
    assert [name for name in known if name in reached(name, edges)] == []


def test_packages_import_in_one_direction():
    known = modules()
    edges: dict[str, set[str]] = {user: set() for user in USERS}
    for name, path in known.items():
        own = name.split(".")[1]
        edges[own] |= {other.split(".")[1] for other in imported(path, known)} - {own}
    assert edges == {"runs": set(), "report": {"runs"}, "evaluation": {"runs", "report"}, "cli": set(USERS) - {"cli"}}


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
        if path not in (PACKAGE / "runs" / "names.py", PACKAGE / "cli" / "demo_run.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and (node.value in own or str(node.value).startswith("fold_"))
    ]
    assert elsewhere == []


ENDINGS = ("json", "tsv", "csv", "npz", "png", "html", "keras", "lock")


def test_importing_any_of_it_does_not_import_tensorflow():
    own = sorted(name for name in modules() if name.startswith("miscnn_tf.runs."))
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
