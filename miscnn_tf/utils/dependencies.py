"""Which packages this one needs, which of them are installed, and what those that are missing are for."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, distributions, metadata, version
from typing import Any, Final

from packaging.requirements import Requirement

PACKAGE: Final = "miscnn_tf"

#: What each extra is for.
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
    """The packages that are needed for anything; None where this package itself is not installed, only on the path.

    Returns:
        ``{"name", "wanted", "installed", "fits"}`` for each.
    """
    return _of_extra(None)


def extras() -> dict[str, list[dict[str, Any]]]:
    """The packages of each extra, as `required` describes them."""
    try:
        names = metadata(PACKAGE).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    return {name: _of_extra(name) or [] for name in names}


@functools.cache  # it looks at every package that is installed
def nvidia_packages() -> dict[str, str]:
    """NVIDIA's libraries that were installed as Python packages, as the extra ``gpu`` does."""
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
        # TensorFlow itself is there in any case.
        fits = fits and any(name.startswith("nvidia-cudnn") for name in nvidia_packages())
    asked = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return {
        "name": requirement.name + asked,
        "wanted": str(requirement.specifier),
        "installed": installed,
        "fits": fits,
    }
