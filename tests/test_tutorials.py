"""The tutorials: each runs from start to end, and what is stored in them can be read on the web."""

from __future__ import annotations

import base64
import itertools
import os
import re
import runpy
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))

#: What is made smaller in the normal test run, so that a notebook takes seconds: its text, and what is run instead.
SMALLER: dict[str, dict[str, str]] = {
    "1_first_pipeline": {
        "cases=12,": "cases=4, shape=(16, 32, 40),",
        "Resampling((4.8, 4.0, 4.0))": "Resampling((14, 12, 12))",
        "patch_shape=(32, 48, 64)": "patch_shape=(8, 16, 16)",
        "(16, 24, 32)": "(4, 8, 8)",
        "n_filters=8, depth=3": "n_filters=2, depth=2",
        "samples[:9], samples[9:]": "samples[:3], samples[3:]",
        "epochs=16, iterations=12": "epochs=1, iterations=1",
    },
    "2_custom_interface": {
        "range(1, 7)": "range(1, 4)",
        "shape=(24, 56, 80)": "shape=(16, 32, 40)",
        "Resampling((6.5, 5.0, 5.0))": "Resampling((14, 12, 12))",
        "patch_shape=(16, 32, 48)": "patch_shape=(8, 16, 16)",
        "(8, 16, 24)": "(4, 8, 8)",
        "n_filters=8, depth=2": "n_filters=2, depth=2",
        "samples[:5], epochs=6, iterations=10": "samples[:2], epochs=1, iterations=1",
        "samples[5:]": "samples[2:]",
        "samples[5]": "samples[2]",
    },
    "3_own_parts": {
        "cases=8, shape=(24, 56, 80)": "cases=3, shape=(16, 32, 40)",
        "Resampling((6.5, 5.0, 5.0))": "Resampling((14, 12, 12))",
        "patch_shape=(16, 32, 48)": "patch_shape=(8, 16, 16)",
        "(8, 16, 24)": "(4, 8, 8)",
        "n_filters=12, dilations=(1, 2, 4, 2, 1)": "n_filters=2, dilations=(1, 2)",
        "samples[:6], samples[6:], epochs=20, iterations=12": "samples[:2], samples[2:], epochs=1, iterations=1",
        "samples[6:7]": "samples[2:3]",
        "samples[6:]": "samples[2:]",
        "samples[6]": "samples[2]",
    },
    "4_cross_validation": {
        "cases=14, shape=(24, 56, 80)": "cases=4, shape=(16, 32, 40)",
        "samples[:12], samples[12:]": "samples[:3], samples[3:]",
        "Resampling((6.5, 5.0, 5.0))": "Resampling((14, 12, 12))",
        "patch_shape=(16, 32, 48)": "patch_shape=(8, 16, 16)",
        "(8, 16, 24)": "(4, 8, 8)",
        "n_filters=8, depth=2": "n_filters=2, depth=2",
        "epochs=12": "epochs=1",
        "iterations=12": "iterations=1",
        "k_fold=3": "k_fold=2",
        "folds=3": "folds=2",
        "range(3)": "range(2)",
    },
    "5_microscopy": {
        "range(24)": "range(3)",
        "shape=(128, 128)": "shape=(48, 48)",
        "patch_shape=(64, 64)": "patch_shape=(32, 32)",
        "(32, 32)\n": "(16, 16)\n",
        "n_filters=12, depth=3": "n_filters=2, depth=2",
        "samples[:18], samples[18:]": "samples[:2], samples[2:]",
        "epochs=20, iterations=12": "epochs=1, iterations=1",
    },
    "6_dicom": {
        "cases=8, shape=(32, 64, 64)": "cases=3, shape=(10, 32, 32)",
        "Resampling((9, 8, 8))": "Resampling((30, 16, 16))",
        "patch_shape=(16, 32, 32)": "patch_shape=(8, 16, 16)",
        "(8, 16, 16)\n": "(4, 8, 8)\n",
        "n_filters=8, depth=3": "n_filters=2, depth=2",
        "samples[:6], samples[6:], epochs=24, iterations=12": "samples[:2], samples[2:], epochs=1, iterations=1",
        "samples[6:]": "samples[2:]",
        "samples[6]": "samples[2]",
    },
    "7_from_miscnn": {
        "shape=(16, 40, 56)": "shape=(16, 32, 40)",
        "patch_shape=(16, 32, 32)": "patch_shape=(8, 16, 16)",
        "n_filters=4, depth=2": "n_filters=2, depth=1",
        "epochs=2": "epochs=1",
    },
}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)


def smaller(name: str) -> nbformat.NotebookNode:
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for text, short in SMALLER[name].items():
        assert any(text in cell.source for cell in code), f"{text!r} is not in {name} any more"
        for cell in code:
            cell.source = cell.source.replace(text, short)
    return notebook


@pytest.fixture(scope="module")
def run_cell(tmp_path_factory):
    """One process for all shortened notebooks: TensorFlow is imported once. Run for real, each has its own."""
    manager = KernelManager(kernel_name="python3")
    folder = tmp_path_factory.mktemp("kernel")
    manager.start_kernel(cwd=str(folder), env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)

    def run(source):
        answer = client.execute_interactive(source, timeout=300, output_hook=lambda message: None)["content"]
        assert answer["status"] == "ok", "\n".join([source, *answer.get("traceback", [])])

    yield run
    client.stop_channels()
    manager.shutdown_kernel()


# Trains networks for folds and for a group: even the short form takes a while.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "4_cross_validation" else ()) for name in NAMES]
)
def test_it_runs_in_a_short_form(name, run_cell, tmp_path):
    run_cell(f"%reset -f\n%cd -q {str(tmp_path)!r}")
    for cell in smaller(name).cells:
        if cell.cell_type == "code":
            run_cell(cell.source)
    run_cell("%cd -q -")
    (only,) = tmp_path.iterdir()
    assert only.is_dir(), "all files go into one folder"


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each output that is not printed text is made of."""
    return [sorted(output.data) for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_it_stands(name, tmp_path):
    execute = runpy.run_path(str(TUTORIALS / "execute.py"))
    notebook = execute["run"](read(name), tmp_path)
    shown, stored = kinds(notebook), kinds(read(name))
    assert shown == stored


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_can_be_read_on_the_web(name):
    path = TUTORIALS / f"{name}.ipynb"
    assert path.stat().st_size < 500_000
    notebook = read(name)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [f"cell-{number:02}" for number in range(1, len(notebook.cells) + 1)]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "executed once, from start to end"
    pictures = 0
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            for kind, content in output.get("data", {}).items():
                if kind.startswith("image/"):
                    pictures += 1
                    with Image.open(BytesIO(base64.b64decode(content))) as picture:
                        assert 100 < picture.width <= 900
    assert pictures >= 1 or name == "7_from_miscnn"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_machine_is_stored(name):
    text = "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in read(name).cells
        for output in cell.get("outputs", [])
    )
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|usr|Users|private|var)/|[A-Z]:\\", text)
    assert "Traceback" not in text
    assert "Warning" not in text
    assert len(text.splitlines()) < 80, "no walls of output"


@pytest.mark.parametrize("name", NAMES)
def test_each_cell_is_introduced(name):
    """A sentence before each cell; several in a row only where one goes on with the other."""
    cells = read(name).cells
    assert cells[0].cell_type == "markdown"
    number = name.partition("_")[0]
    assert cells[0].source.startswith(f"# {number} · ")
    alone = [cell.id for before, cell in itertools.pairwise(cells) if before.cell_type == cell.cell_type == "code"]
    assert len(alone) <= 1, f"no text before {alone}"


def test_the_readme_lists_them():
    listed = re.findall(r"\]\(tutorials/(\w+)\.ipynb\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert listed == NAMES


# ---------------------------------------------------------------- execute.py


def test_outputs_are_made_small_and_alike():
    execute = runpy.run_path(str(TUTORIALS / "execute.py"))
    store = BytesIO()
    Image.effect_noise((1200, 600), 60).convert("RGB").save(store, "PNG")
    png = base64.b64encode(store.getvalue()).decode()
    new = nbformat.v4
    noise = "I0000 00:00:1795535251.028729   30153 port.cc:153] oneDNN custom operations are on\nmeant for you\n"
    cell = new.new_code_cell(
        "1",
        outputs=[
            new.new_output("stream", name="stderr", text=noise),
            new.new_output("stream", name="stderr", text="\rPreparing:  50%|#####     | 1/2 [00:01<00:01]"),
            new.new_output("display_data", data={"image/png": png, "text/plain": "<Figure size 640x480>"}),
        ],
        metadata={"execution": {"iopub.execute_input": "2026-11-24T00:00:00"}},
    )
    notebook = new.new_notebook(cells=[cell, new.new_markdown_cell("text")])
    execute["tidy"](notebook)
    assert [cell.id for cell in notebook.cells] == ["cell-01", "cell-02"]
    assert notebook.cells[0].metadata == {}
    stderr, picture = notebook.cells[0].outputs
    assert stderr["text"] == "meant for you\n"
    assert len(picture["data"]["image/png"]) < len(png) / 3
    with Image.open(BytesIO(base64.b64decode(picture["data"]["image/png"]))) as small:
        assert small.size == (900, 450)
    nbformat.validate(notebook)
