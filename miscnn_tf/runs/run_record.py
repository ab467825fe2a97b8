"""Record of a run, ``run.json``, from which the report is made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

import miscnn_tf
from miscnn_tf._base.configuration import plain
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Described, Document, require
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import (
    class_names_of,
    describe_interface,
    label_values_of,
    regions_of,
)
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.model_settings import model_facts
from miscnn_tf.runs.names import RUN_FILE

KINDS: Final = ("training", "cross-validation", "evaluation")


class _Data(Document):
    interface: Described | None = None
    class_names: list[str] | None = None
    input_path: str | None = None


class _RunRecord(Document):
    kind: Literal["training", "cross-validation", "evaluation"]
    written: str | None = None
    versions: dict[str, str]
    data: _Data | None = None
    predictions: str | None = None
    settings: dict[str, Any]


_LIBRARIES = ("tensorflow", "keras", "numpy")


def write_run_record(
    folder: str | Path,
    kind: str,
    model: Any = None,
    *,
    settings: Mapping[str, Any] | None = None,
    data_io: Data_IO | None = None,
    predictions: str | Path | None = None,
    **facts: Any,
) -> Path:
    """Write ``run.json``, replacing an earlier one.

    ::

        {"kind": "cross-validation", "written": "2026-11-23T10:00:00+00:00", "versions": {"miscnn_tf": …, …},
         "data": {"interface": {"class_name": "NIFTI", "config": {…}}, "class_names": ["background", …],
                  "label_values": null, "input_path": "/home/me/kits19/data"},
         "predictions": null, "settings": {"epochs": 100, …}}

    Args:
        folder: The run folder; created if missing.
        kind: ``"training"``, ``"cross-validation"`` or ``"evaluation"`` (of existing predictions).
        model: The model that was trained or evaluated; its settings are included.
        settings: Further settings, plain data, before the model's; a report shows them as a table.
        data_io: Source of the samples; by default the model's.
        predictions: The folder of the predictions; None if each fold has its own. Stored relative to `folder` if it is
            inside, absolute otherwise.
        **facts: Further entries, plain data.

    Returns:
        The path of the file.

    Raises:
        ConfigurationError: If `kind` is unknown, or a setting or fact is not plain data.
        StorageError: If the file cannot be written.

    Example:
        >>> write_run_record("run", "training", model, settings={"epochs": 100})  # doctest: +SKIP
        PosixPath('run/run.json')
    """
    if kind not in KINDS:
        raise ConfigurationError(f"kind={kind!r} must be one of {', '.join(map(repr, KINDS))}")
    if data_io is None and model is not None:
        data_io = model.preprocessor.data_io
    all_settings = dict(plain(settings or {}, "settings"))
    if model is not None:
        all_settings |= {name: value for name, value in model_facts(model).items() if name not in all_settings}
    record = {
        "kind": kind,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "data": None if data_io is None else _describe_data(data_io),
        "predictions": None if predictions is None else _place(Path(predictions), Path(folder)),
        "settings": all_settings,
        **{name: plain(value, name) for name, value in facts.items()},
    }
    path = Path(folder) / RUN_FILE
    write_json(path, record)
    return path


def read_run_record(folder: str | Path) -> dict[str, Any]:
    """Read the ``run.json`` of a folder.

    Raises:
        MissingDataError: If the folder holds no ``run.json``.
        DataError: If it is damaged.

    Example:
        >>> read_run_record("evaluation")["kind"]  # doctest: +SKIP
        'cross-validation'
    """
    path = Path(folder) / RUN_FILE
    advice = "delete it and run again"
    record: dict[str, Any] = read_json(
        path, "training and cross-validation write it into the folder of their results", advice
    )
    require(_RunRecord, record, path, advice, fault="is not the record of a run, or is damaged")
    return record


def _describe_data(data_io: Data_IO) -> dict[str, Any]:
    # A user's own Data_IO may lack some of the attributes.
    place = getattr(data_io, "input_path", None)
    return {
        "interface": describe_interface(data_io.interface),
        "class_names": class_names_of(data_io.interface),
        "label_values": label_values_of(data_io.interface),
        **regions_of(data_io.interface),
        "input_path": os.path.abspath(place) if isinstance(place, str | os.PathLike) else None,
    }


def _place(predictions: Path, folder: Path) -> str:
    absolute, root = Path(os.path.abspath(predictions)), Path(os.path.abspath(folder))
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def _versions() -> dict[str, str]:
    """Return the versions of the packages that affect the result, without importing them."""
    versions = {"miscnn_tf": miscnn_tf.__version__}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # installed under another name, such as tensorflow-cpu
            continue
    return {**versions, "python": platform.python_version()}
