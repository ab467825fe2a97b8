"""Record of the output folder of ``miscnn-tf predict``: which model made which kind of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.json_file import read_json, write_json
from miscnn_tf.runs.names import PREDICTION_RECORD_FILE
from miscnn_tf.typed_data import Document, require


class _Record(Document):
    model: str
    fingerprint: str
    probabilities: bool


def write_prediction_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record: ``"model"``, ``"fingerprint"``, ``"probabilities"`` and optionally ``"label_values"``.

    Raises:
        StorageError: If it cannot be written.
    """
    write_json(folder / PREDICTION_RECORD_FILE, record)


def read_prediction_record(folder: Path) -> dict[str, Any] | None:
    """Read the record; None if the folder has none.

    Raises:
        DataError: If it is damaged.
    """
    path = folder / PREDICTION_RECORD_FILE
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path, "'miscnn-tf predict' writes it")
    require(_Record, record, path, "choose another folder, or delete it with the predictions beside it")
    return record
