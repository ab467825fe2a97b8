"""The data set of a run, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import build_interface
from miscnn_tf.data_loading.label_scheme import region_settings
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import MissingDataError
from miscnn_tf.runs.names import RUN_FILE


def recorded_data(record: Mapping[str, Any] | None, run: Path, folder: str | Path | None, advice: str) -> Data_IO:
    """Return the samples that are recorded in ``run.json``, in `folder` if it is given.

    Args:
        record: Content of ``run.json``; None if it is missing.
        run: The run folder.
        folder: Folder of the data, if they were moved.
        advice: The call that takes a `Data_IO` instead, for errors.

    Raises:
        MissingDataError: If the folder is missing, or the interface cannot be built.
    """
    if folder is not None and not Path(folder).is_dir():
        raise MissingDataError(f"the folder of the data, {folder}, does not exist; correct it")
    data = (record or {}).get("data") or {}
    described = data.get("interface")
    interface = None
    if isinstance(described, dict):
        interface = build_interface(described, None, data.get("class_names"), region_settings(data))
    if folder is not None:
        return Data_IO(interface or find_interface(folder), folder)
    if not isinstance(described, dict):
        raise MissingDataError(
            f"{run / RUN_FILE} does not contain the path of the data; pass it with --data, or the data to {advice}"
        )
    if interface is None:
        raise MissingDataError(
            f"the data were read by {described.get('class_name')}, which cannot be rebuilt without your program; call "
            f"{advice} there"
        )
    return Data_IO(interface, data.get("input_path") or "")
