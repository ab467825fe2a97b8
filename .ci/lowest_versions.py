"""Prints pip constraints that hold every dependency of setup.cfg at its lower bound."""

import configparser
import re
from pathlib import Path

# What formats, lints, checks types and builds is used as it is today, and CUDA is not installed at all.
SKIPPED = {"ruff", "mypy", "build", "twine"}

config = configparser.ConfigParser()
config.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
requirements = [config["options"]["install_requires"], *config["options.extras_require"].values()]
bounds = dict(re.findall(r"^([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)$", "\n".join(requirements), re.MULTILINE))
for name, version in sorted(bounds.items()):
    if name not in SKIPPED:
        print(f"{name}=={version}")
