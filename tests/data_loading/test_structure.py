"""How the modules of data_loading are joined."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from small_data import write_cases

from miscnn_tf.data_loading import data_io as data_io_module
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import NIFTI_interface

FOLDER = Path(data_io_module.__file__).parent
PACKAGE = "miscnn_tf.data_loading"


def modules() -> dict[str, Path]:
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        found[".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= inner & known.keys() or {node.module}
    TopologicalSorter(graph).prepare()  # raises a CycleError that lists a circle


def test_reading_a_case_enters_few_files(tmp_path: Path) -> None:
    write_cases(tmp_path)
    io = Data_IO(NIFTI_interface(classes=3), tmp_path)
    entered: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(FOLDER):
            entered.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        sample = io.sample_loader(io.indices_list[0])
    finally:
        sys.setprofile(before)
    assert np.any(sample.seg_data)
    assert len(entered) <= 11, sorted(entered)
