"""Required and optional packages, their purposes and installed versions."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, distributions, metadata, version
from typing import Any, Final

from packaging.requirements import Requirement

PACKAGE: Final = "miscnn_tf"

#: Purpose of each extra.
FEATURES: Final[dict[str, str]] = {
    "gpu": "NVIDIA GPUs: TensorFlow's CUDA libraries",
    "dicom": "DICOM series, RTSTRUCT, DICOM SEG",
    "staple": "groups of models merged by STAPLE",
    "onnx": "networks as ONNX files",
    "tensorboard": "the callback keras.callbacks.TensorBoard",
    "dask": "cross-validation on a Dask cluster",
    "docs": "the documentation, built from its source",
    "test": "this package's own tests",
}


def required() -> list[dict[str, Any]] | None:
    """Return the required packages; None if this package is only on the path, not installed.

    Returns:
        ``{"name", "wanted", "installed", "fits"}`` for each.
    """
    return _of_extra(None)


def extras() -> dict[str, list[dict[str, Any]]]:
    """Return the packages of each extra, in the format of `required`."""
    try:
        names = metadata(PACKAGE).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    return {name: _of_extra(name) or [] for name in names}


@functools.cache  # it reads the metadata of every installed package
def nvidia_packages() -> dict[str, str]:
    """Return the installed Python packages with NVIDIA's libraries, such as those of the extra ``gpu``."""
    found = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    return {name: found[name] for name in sorted(found) if name.lower().startswith("nvidia-")}


def _of_extra(extra: str | None) -> list[dict[str, Any]] | None:
    try:
        lines = metadata(PACKAGE).get_all("Requires-Dist") or []
    except PackageNotFoundError:
        return None
    found = []
    for line in lines:
        requirement = Requirement(line)
        in_base = _is_wanted(requirement, "")
        if in_base if extra is None else not in_base and _is_wanted(requirement, extra):
            found.append(_look_up(requirement))
    return found


def _is_wanted(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _look_up(requirement: Requirement) -> dict[str, Any]:
    try:
        installed: str | None = version(requirement.name)
    except PackageNotFoundError:
        installed = None
    fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    if "and-cuda" in requirement.extras:
        # TensorFlow is required anyway.
        fits = fits and any(name.startswith("nvidia-cudnn") for name in nvidia_packages())
    asked = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return {
        "name": requirement.name + asked,
        "wanted": str(requirement.specifier),
        "installed": installed,
        "fits": fits,
    }
