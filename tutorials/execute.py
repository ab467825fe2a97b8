"""Execute notebooks and store their outputs: ``python tutorials/execute.py [NOTEBOOK …]``.

Each runs in a new process and an empty folder. Pictures are stored with 256 colours, so that notebooks are small enough
to be displayed on the web. Outputs that differ from run to run (times, versions) are removed.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import tempfile
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
#: Largest size of a stored notebook.
MOST_BYTES = 500_000
# Messages of TensorFlow's libraries.
_NOISE = re.compile(r"^(WARNING: All log messages before absl|[IWEF]\d{4} |20\d\d-\d\d-\d\d [\d:.]+: )")
_PROGRESS = re.compile(r"\d%\|.*\d+/\d+ \[")


def run(notebook: nbformat.NotebookNode, folder: str | Path, timeout: int = 3600) -> nbformat.NotebookNode:
    """Execute all cells in `folder`, put the outputs into `notebook` and return it.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Number the cells, reduce pictures, and remove outputs that differ from run to run."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {}
        kept = []
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                output["text"] = "".join(
                    line
                    for line in output["text"].splitlines(keepends=True)
                    if not _NOISE.match(line) and not _PROGRESS.search(line)
                )
                if not output["text"].strip():
                    continue
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _small(data["image/png"])
                data["text/plain"] = "<picture>"
                output["metadata"] = {}
            elif "image/gif" in data:
                data["text/plain"] = "<film>"
                output["metadata"] = {}
            kept.append(output)
        if cell["cell_type"] == "code":
            cell["outputs"] = kept


def _small(png: str) -> str:
    picture = Image.open(BytesIO(base64.b64decode(png))).convert("RGB")
    if picture.width > 900:
        picture = picture.resize((900, round(picture.height * 900 / picture.width)), Image.Resampling.LANCZOS)
    store = BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(store, "PNG", optimize=True)
    return base64.b64encode(store.getvalue()).decode()


def main() -> None:
    """Execute the given notebooks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to execute; all by default")
    chosen = parser.parse_args().notebooks or sorted(HERE.glob("*.ipynb"))
    for path in chosen:
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, folder)
        tidy(notebook)
        text = nbformat.writes(notebook) + "\n"
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        size = len(text.encode())
        print(f"{path.name}: {size / 1000:.0f} kB" + (", TOO LARGE" if size > MOST_BYTES else ""))


if __name__ == "__main__":
    main()
