"""Storage of the predictions of validation samples beside their scores, for viewing and for resuming evaluations."""

from __future__ import annotations

import copy
import errno
import hashlib
import logging
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from miscnn_tf.configuration import fingerprint
from miscnn_tf.data_loading import file_names
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import is_nifti
from miscnn_tf.data_loading.formats import image_file, nifti_writer
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.interfaces.description import label_values_of
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.data_loading.opening import open_regular
from miscnn_tf.data_loading.plain_files import read_array, read_json, write_json
from miscnn_tf.data_loading.storage import atomic_path, inside, make_folder, watched_writes
from miscnn_tf.errors import DataError, MissingDataError, StorageError
from miscnn_tf.evaluation.fold_record import model_settings
from miscnn_tf.evaluation.run_record import PREDICTIONS_FOLDER

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)

#: File in the folder with the digest of weights and settings, and digests of files whose format has no room for a mark.
MARK_FILE: Final = "made_by.json"

# Possible endings of a sample's prediction.
_ENDINGS = (*file_names.ENDINGS, *(f".{ending}" for ending in LOSSLESS), ".npy", ".dcm")


class KeptPredictions:
    """Label maps in a folder, predicted by the model with its current weights, in the format of its interface.

    Predictions of the same weights and settings are used again, so that an interrupted evaluation can be continued;
    those of other weights are removed first. Only files that this package wrote and that are unchanged since are used,
    replaced or removed. Any other file with the name of a prediction is renamed.

    Predictions are ``.npy`` files for data in memory and for custom interfaces that cannot save.

    Args:
        evaluation_path: The folder of the scores; predictions go to ``predictions/`` in it.
        model: The model.

    Raises:
        StorageError: If the folder cannot be written.
    """

    def __init__(self, evaluation_path: str | Path, model: Neural_Network) -> None:
        self.folder = Path(evaluation_path) / PREDICTIONS_FOLDER
        self._data_io = model.preprocessor.data_io
        self._warned = False
        state = _state(model)
        if state is None or _made_by(self.folder) != state:
            remove_predictions(evaluation_path)
        make_folder(self.folder)
        self._usable = state is not None
        self._made_by = state or "a model without weights"
        # Earlier versions did not record digests: their predictions cannot be distinguished from other files.
        self._knows_digests = _made_by(self.folder) is None or "files" in _mark(self.folder)
        self._digests = recorded_digests(self.folder)
        # Samples whose predictions a custom interface saved under unknown names.
        self._others: list[str] = _mark(self.folder).get("others", [])
        # The sample that a custom interface was saving when an earlier run was interrupted.
        self._saving: str | None = _mark(self.folder).get("saving")
        if self._knows_digests:
            self._write_mark()

    def load(self, index: Hashable) -> np.ndarray | None:
        """Return the label map ``(x, y[, z])`` of a sample; None if this model has not predicted it yet."""
        if not self._usable or not self._is_kept(index):
            return None
        try:
            return load_prediction(self._data_io, index, self.folder)
        except Exception as reason:  # a custom interface may raise any error; the sample is predicted again
            logger.debug("sample %r is predicted: %s", index, reason)
            return None

    def save(self, index: Hashable, prediction: np.ndarray) -> None:
        """Save the label map ``(x, y[, z])`` of a sample; log a warning if its name is too long for a file.

        Raises:
            StorageError: If it cannot be written.
        """
        for path in list(self._files(index)):
            if str(index) != self._saving and not was_written_here(path, self._digests.get(self._name(path))):
                _set_aside(path)
        own = not type(self._data_io.interface).__module__.startswith("miscnn_tf.")
        if own:
            self._saving = str(index)
            self._write_mark()
        try:
            with watched_writes(self._note):
                self._save(index, prediction)
        except StorageError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.ENAMETOOLONG:
                raise
            # A long training must not fail for this: the scores do not need the file.
            logger.warning("the prediction of sample %r is not kept: %s", index, error)
            return
        # A custom interface may write files without atomic_path.
        files = list(self._files(index))
        new = [path for path in files if not was_written_here(path, self._digests.get(self._name(path)))]
        self._digests |= {self._name(path): _digest(path) for path in new}
        if not files and str(index) not in self._others:
            self._others.append(str(index))
        self._saving = None
        if new or own or not files:
            self._write_mark()

    def _save(self, index: Hashable, prediction: np.ndarray) -> None:
        if isinstance(self._data_io.interface, Dictionary_interface) or not self._saved_by_interface(index, prediction):
            with atomic_path(inside(self.folder, index, ".npy")) as temporary:
                np.save(temporary, prediction, allow_pickle=False)

    def _note(self, temporary: Path, path: Path) -> None:
        """Record the digest of a file without a mark before it gets its final name."""
        if path.is_relative_to(self.folder) and path.name != MARK_FILE and not _has_mark(path):
            self._digests[self._name(path)] = _digest(temporary)
            self._write_mark()

    def _write_mark(self) -> None:
        content = {"made_by": self._made_by, "files": self._digests, "others": self._others, "saving": self._saving}
        write_json(self.folder / MARK_FILE, content)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _files(self, index: Hashable) -> Iterator[Path]:
        """Yield the existing files with the name of a sample's prediction."""
        for ending in _ENDINGS:
            path = inside(self.folder, index, ending)
            if os.path.lexists(path) and not os.path.isdir(path):  # a name may be too long for Path
                yield path

    def _is_kept(self, index: Hashable) -> bool:
        """Return True if the folder holds the unchanged prediction of a sample."""
        if not self._knows_digests:
            return True
        if str(index) == self._saving:
            return False
        files = list(self._files(index))
        if not files:
            return str(index) in self._others
        return all(was_written_here(path, self._digests.get(self._name(path))) for path in files)

    def _saved_by_interface(self, index: Hashable, prediction: np.ndarray) -> bool:
        try:
            # The same samples, but another output folder.
            data_io = copy.copy(self._data_io)
            data_io.output_path = self.folder
            sample = data_io.sample_loader(index, load_seg=False)
            sample.add_prediction(prediction)
            data_io.save_prediction(sample)
            # The save_prediction() of a custom interface may do nothing.
            if np.array_equal(load_prediction(data_io, index, self.folder), prediction):
                return True
            reason = "the loaded label map differs from the saved one"
        except StorageError:
            raise
        except Exception as error:  # the scores do not need the file
            reason = f"{type(error).__name__}: {error}"
        logger.log(
            logging.DEBUG if self._warned else logging.WARNING,
            "%s: %s cannot save the prediction of sample %r (%s); it is written as .npy",
            self.folder, type(self._data_io.interface).__name__, index, reason,
        )  # fmt: skip
        self._warned = True
        return False


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
    interface = data_io.interface
    path = inside(folder, index, ".npy")
    labels: Any
    if path.is_file():
        labels = read_array(path, "delete it and evaluate again")
    elif isinstance(interface, Dictionary_interface):
        raise MissingDataError(f"there is no prediction of {index!r}: {path} is missing; evaluate again")
    else:
        labels = np.asarray(interface.load_prediction(index, folder))  # type: ignore[arg-type]  # as Data_IO hands it on
    axes = 3 if interface.three_dim else 2
    if labels.ndim == axes + 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    return check_labels(labels, interface.classes, f"the prediction of {index!r} in {folder}")


def remove_predictions(evaluation_path: str | Path) -> None:
    """Delete the predictions in a folder of scores that this package wrote, and no other files."""
    from miscnn_tf.utils.traces import find_predictions, remove

    folder = Path(evaluation_path) / PREDICTIONS_FOLDER
    if folder.is_symlink() or not (folder / MARK_FILE).is_file():
        return
    traces = find_predictions(folder)
    if traces is not None:
        # The mark is last, so that the rest can be recognised after an interruption.
        traces.ours.sort(key=lambda trace: trace.path == folder / MARK_FILE)
        _, failed = remove(traces)
        if failed:
            path, reason = failed[0]
            raise StorageError(f"could not delete {path}: {reason}; check its permissions and run again")


def recorded_digests(folder: Path) -> dict[str, str]:
    """Return the recorded digests of files in a folder of predictions whose format has no room for a mark, by name."""
    files = _mark(folder).get("files")
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
        if digest is not None and _digest(path) == digest:
            return True
        if is_nifti(path.name.lower()):
            return nifti_writer.was_written_here(path)
        return path.suffix.lower().lstrip(".") in LOSSLESS and image_file.was_written_here(path)
    except Exception:  # parsers may raise any error for damaged files
        return False


def _has_mark(path: Path) -> bool:
    """Return True if files of this format have room for a mark of this package."""
    name = path.name.lower()
    return is_nifti(name) or path.suffix.lower().lstrip(".") in set(LOSSLESS) - {"bmp"}


def _set_aside(path: Path) -> None:
    """Rename a file that this package did not write."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.kept{number}")):
        number += 1
    os.rename(path, target)
    logger.warning("%s was not written by this run; renamed it to %s", path, target.name)


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        while data := file.read(2**20):
            digest.update(data)
    return digest.hexdigest()


def _mark(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / MARK_FILE, "")
    except (MissingDataError, DataError):
        return {}
    return content if isinstance(content, dict) else {}


def _made_by(folder: Path) -> str | None:
    made_by = _mark(folder).get("made_by")
    return None if made_by is None else str(made_by)


def _state(model: Neural_Network) -> str | None:
    """Return the digest of weights and settings; None for a model without ``get_weights``."""
    get_weights = getattr(getattr(model, "model", None), "get_weights", None)
    if not callable(get_weights):
        return None
    digest = hashlib.blake2b(digest_size=16)
    for weight in get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    data_io = model.preprocessor.data_io
    parts: list[Any] = [digest.hexdigest(), model_settings(model), os.path.abspath(str(data_io.input_path))]
    values = label_values_of(data_io.interface)
    if values is not None:  # the same file values mean other classes with another label map
        parts.append(values)
    return fingerprint(*parts)
