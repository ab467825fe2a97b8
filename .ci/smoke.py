"""Check the installed package: every public name, the files beside the code, and one short training.

Run it with the interpreter that has the package installed. It fails if the package is imported from the clone.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import miscnn_tf
from miscnn_tf.cli.main import main

CLONE = Path(__file__).resolve().parents[1]

if CLONE in Path(miscnn_tf.__file__).resolve().parents:
    sys.exit(f"miscnn_tf comes from the clone ({miscnn_tf.__file__}): install the wheel, and run this with its Python")

package = files("miscnn_tf")
clone = CLONE / "miscnn_tf"
data = [path.relative_to(clone) for path in clone.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
missing = [str(path) for path in data if not package.joinpath(*path.parts).is_file()]
if not data or missing:
    sys.exit(f"The installed package lacks {', '.join(missing)}: list them under package_data in setup.cfg")

for name in dir(miscnn_tf):
    getattr(miscnn_tf, name)

with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    if code := main(["demo", "--output", folder, "--cases", "4", "--epochs", "1"]):
        sys.exit(code)
    if not (Path(folder) / "index.html").is_file():
        sys.exit("miscnn-tf demo wrote no page")
print(f"miscnn_tf {miscnn_tf.__version__} works as installed in {package}")
