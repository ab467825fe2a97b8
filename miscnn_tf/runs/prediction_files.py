"""Files in a folder of predictions, and how those of this package are recognised."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import inside, open_regular
from miscnn_tf._base.plain_files import read_array, read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import is_nifti
from miscnn_tf.data_loading.formats import image_file, nifti_writer
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.runs.names import MARK_FILE, PREDICTION_RECORD_FILE


def load_prediction(data_io: Data_IO, index: Hashable, folder: str | Path) -> np.ndarray:
    """Load a prediction that `KeptPredictions` or `Data_IO.save_prediction` wrote into this folder.

    Args:
        data_io: The Data_IO of the sample.
        index: Name of the sample.
        folder: Folder of the predictions.

    Returns:
        Labels ``(x, y[, z])``; for saved class probabilities, the most likely class.

    Raises:
        MissingDataError: If the prediction does not exist.
        DataError: If it does not hold labels.
    """
    return read_prediction(data_io.interface, index, folder)


def read_prediction(interface: Abstract_IO, index: Hashable, folder: str | Path) -> np.ndarray:
    """Load a prediction by the interface of the sample, as in `load_prediction`."""
    path = inside(folder, index, ".npy")
    labels: Any
    if path.is_file():
        labels = read_array(path, "delete it and evaluate again")
    elif isinstance(interface, Dictionary_interface):
        raise MissingDataError(f"the prediction of {index!r} is missing: {path} does not exist; evaluate again")
    else:
        labels = np.asarray(interface.load_prediction(index, folder))  # type: ignore[arg-type]  # as Data_IO hands it on
    axes = 3 if interface.three_dim else 2
    if labels.ndim == axes + 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else scheme_of(interface).decide(labels)
    return check_labels(labels, interface.classes, f"the prediction of {index!r} in {folder}")


def read_mark(folder: Path) -> dict[str, Any]:
    """Read the record in a folder of predictions; empty if it is missing or damaged."""
    try:
        content = read_json(folder / MARK_FILE, "")
    except (MissingDataError, DataError):
        return {}
    return content if isinstance(content, dict) else {}


def recorded_digests(folder: Path) -> dict[str, str]:
    """Return the recorded digests of files in a folder of predictions whose format has no room for a mark, by name."""
    files = read_mark(folder).get("files")
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def was_written_here(path: Path, digest: str | None) -> bool:
    """Return True if this package wrote a prediction and it is unchanged.

    Args:
        path: The file.
        digest: Its recorded digest, if any.
    """
    try:
        if path.is_symlink():
            return False
        if digest is not None and file_digest(path) == digest:
            return True
        if is_nifti(path.name.lower()):
            return nifti_writer.was_written_here(path)
        return path.suffix.lower().lstrip(".") in LOSSLESS and image_file.was_written_here(path)
    except Exception:  # parsers may raise any error for damaged files
        return False


def has_mark(path: Path) -> bool:
    """Return True if files of this format have room for a mark of this package."""
    name = path.name.lower()
    return is_nifti(name) or path.suffix.lower().lstrip(".") in set(LOSSLESS) - {"bmp"}


def file_digest(path: Path) -> str:
    """Return the digest of a file that the record in a folder of predictions has."""
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        while data := file.read(2**20):
            digest.update(data)
    return digest.hexdigest()


class _Record(Document):
    model: str
    fingerprint: str
    probabilities: bool


def write_prediction_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of ``miscnn-tf predict``.

    Args:
        folder: The folder.
        record: ``"model"``, ``"fingerprint"``, ``"probabilities"`` and optionally ``"label_values"``.

    Raises:
        StorageError: If it cannot be written.
    """
    write_json(folder / PREDICTION_RECORD_FILE, record)


def read_prediction_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of ``miscnn-tf predict``; None if the folder has none.

    Raises:
        DataError: If it is damaged.
    """
    path = folder / PREDICTION_RECORD_FILE
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path, "'miscnn-tf predict' writes it")
    require(_Record, record, path, "choose another folder, or delete it with the predictions beside it")
    return record
