"""Check for the packages of the extra ``dicom``."""

from __future__ import annotations

import importlib.util

from miscnn_tf.errors import MissingExtraError


def require_dicom() -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        MissingExtraError: If a package is missing.
    """
    for name in ("pydicom", "highdicom", "shapely"):
        if not _is_installed(name):
            raise MissingExtraError(f"DICOM files need the package {name}: pip install 'miscnn_tf[dicom]'")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
