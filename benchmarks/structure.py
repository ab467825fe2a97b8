"""Structure of the package: files that a training step and a prediction enter, import circles, and counts.

    python benchmarks/structure.py
    python benchmarks/structure.py --list

A training of one step and a prediction run on a NIfTI sample with Clipping, Resampling, Normalization and patches;
every call is traced, in all threads. A hand-over is a call from one file of the package to another. Print one line of
JSON: these counts; files and lines of the package; import circles (including imports in functions); files that import
classes of the package under ``TYPE_CHECKING``; and, per 1,000 lines of the package and the documentation, words to
avoid. ``--list`` adds the names of the files.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import nibabel
import numpy as np

import miscnn_tf

PACKAGE = Path(miscnn_tf.__file__).parent
ROOT = PACKAGE.parent
WORDS = {
    "is no / are no": r"\b(?:is|are) no\b(?! longer)",
    "told / tells": r"\btold\b|\btells?\b",
    "said / says": r"\bsaid\b|\bsays?\b",
    "lies / stands": r"\blies?\b|\bstands?\b",
    "docstring starts with What, Whether, Where": r'"""(?:What|Whether|Where)\b',
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the names of the files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        traces = traced(Path(folder))
    files = sorted(PACKAGE.rglob("*.py"))
    report: dict[str, Any] = {"benchmark": "structure"}
    for name, calls in traces.items():
        entered = sorted({file for pair in calls for file in pair} - {""})
        report[name] = {"files": len(entered), "hand-overs": sum(calls.values()), "ways": len(calls)}
        if options.list:
            report[name]["names"] = entered
    imports = {module(file): imported(file) for file in files}
    report["files"] = len(files)
    report["lines"] = sum(len(file.read_text().splitlines()) for file in files)
    report["circles"] = [sorted(circle) for circle in circles(imports)]
    report["files with own imports under TYPE_CHECKING"] = sum(map(imports_for_types, files))
    report |= counts([*files, *ROOT.joinpath("docs").rglob("*.md"), ROOT / "README.md"])
    print(json.dumps(report, indent=2 if options.list else None))


def traced(folder: Path) -> dict[str, Counter[tuple[str, str]]]:
    """Count the calls between files of the package, in a training of one step and in a prediction."""
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.data_loading.interfaces import NIFTI_interface
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.processing.preprocessor import Preprocessor
    from miscnn_tf.processing.subfunctions import Clipping, Normalization, Resampling

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        case = folder / "data" / name
        case.mkdir(parents=True)
        image = rng.normal(0, 100, (40, 36, 20)).astype(np.int16)
        for kind, array in (("imaging", image), ("segmentation", (image > 0).astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 2, 1])), case / f"{kind}.nii.gz")
    data_io = Data_IO(
        NIFTI_interface(channels=1, classes=2), folder / "data", folder / "out", batch_path=folder / "batches"
    )
    steps = [Clipping(-100, 100), Resampling((1, 1, 1)), Normalization()]
    preprocessor = Preprocessor(data_io, 1, steps, patch_shape=(16, 16, 16))
    network = Neural_Network(preprocessor, Architecture(n_filters=2, depth=2))
    network.verbose = 0
    return {
        "training step": between_files(lambda: network.train(["a"], epochs=1, iterations=1)),
        "prediction": between_files(lambda: network.predict(["b"])),
    }


def between_files(act: Callable[[], Any]) -> Counter[tuple[str, str]]:
    """Count calls from one file of the package to another, by their names."""
    seen: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or (file := own(frame)) is None or frame.f_code.co_name == "<module>":
            return
        caller = frame.f_back
        while caller is not None and own(caller) is None:
            caller = caller.f_back
        before = "" if caller is None else own(caller) or ""
        if before != file:
            seen[before, file] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return seen


def own(frame: FrameType) -> str | None:
    """Return the file of a frame relative to the package's folder; None for other code."""
    name = frame.f_code.co_filename
    return name[len(str(PACKAGE)) + 1 :] if name.startswith(f"{PACKAGE}{os.sep}") else None


def module(file: Path) -> str:
    """Return the module name of a file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> set[str]:
    """Return the modules of the package that a file imports, also in functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("miscnn_tf"):
            path = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (path / f"{alias.name}.py").exists() or (path / alias.name / "__init__.py").exists()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("miscnn_tf")}
    return found


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return groups of modules that import each other, directly or indirectly."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for name in imports.get(waiting.pop(), set()) - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reach = {name: reached(name) for name in imports}
    groups = {frozenset({name, *(other for other in reach[name] if name in reach.get(other, ()))}) for name in imports}
    return sorted((set(group) for group in groups if len(group) > 1), key=len, reverse=True)


def imports_for_types(file: Path) -> bool:
    """Return True if a file imports from the package under ``TYPE_CHECKING``."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith("miscnn_tf"):
                    return True
    return False


def counts(files: list[Path]) -> dict[str, float]:
    """Count the occurrences of each of `WORDS` per 1,000 lines."""
    text = "\n".join(file.read_text() for file in files)
    lines = len(text.splitlines())
    return {name: round(1000 * len(re.findall(words, text)) / lines, 2) for name, words in WORDS.items()}


if __name__ == "__main__":
    main()
