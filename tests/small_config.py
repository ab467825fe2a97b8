"""A configuration for the data of `small_data` and a network that trains in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit

CONFIG: dict[str, dict[str, Any]] = {
    "data": {"path": "data", "classes": 3},
    "preprocessing": {"normalization": "z-score", "patch_shape": [8, 8, 4]},
    "augmentation": {"enabled": False},
    "network": {
        "architecture": {"name": "unet_standard", "n_filters": 2, "depth": 1},
        "epochs": 2,
        "iterations": 2,
        "seed": 1,
        "precision": "float32",
    },
    "cross_validation": {"k_fold": 2},
    "output": {"figures": False},
}


def write_config(path: Path, **changes: dict[str, Any]) -> Path:
    """Write the configuration.

    Args:
        path: The file.
        changes: For each table the keys that differ; None leaves a key out.
    """
    tables = {name: {**CONFIG.get(name, {}), **changes.get(name, {})} for name in {**CONFIG, **changes}}
    kept = {name: {key: value for key, value in table.items() if value is not None} for name, table in tables.items()}
    path.write_text(tomlkit.dumps(kept), encoding="utf-8")
    return path
