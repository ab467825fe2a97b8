"""Compare each piece of the recipe with nnU-Net itself.

nnU-Net (nnunetv2, with PyTorch for CPUs or GPUs) and MONAI, for MedNeXt, are installed once into a virtual environment
of their own. Each piece prints one line per comparison: the largest difference, and what was compared.

Run: python benchmarks/parity.py [--python PYTHON] [--only planner networks …]
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).with_name("parity")
#: The order of the recipe.
PIECES = (
    "planner",
    "networks",
    "mednext",
    "step",
    "normalization",
    "augmentation",
    "labels",
    "prediction",
    "postprocessing",
)
REQUIREMENTS = ("nnunetv2>=2.8", "monai>=1.6")  # MONAI for MedNeXt


def main() -> int:
    """Run the comparisons and return the exit code: 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of an environment with nnunetv2 and monai (default: it is made)")
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path("nnunet-environment"),
        help="folder of the environment that is made (default: %(default)s)",
    )
    parser.add_argument("--only", nargs="+", choices=PIECES, default=PIECES, help="compare these pieces alone")
    arguments = parser.parse_args()
    python = arguments.python or environment(arguments.environment)
    sys.path.insert(0, str(FOLDER))
    different = 0
    for piece in arguments.only:
        for comparison in importlib.import_module(piece).compare(python):
            print(comparison.line, flush=True)
            different += not comparison.ok
    print("\nAll pieces equal nnU-Net's." if not different else f"\n{different} comparisons differ.")
    return min(1, different)


def environment(folder: Path) -> str:
    """Make a virtual environment with nnU-Net and MONAI, unless it exists, and return its interpreter."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return str(python.resolve().parent / python.name)


if __name__ == "__main__":
    sys.exit(main())
