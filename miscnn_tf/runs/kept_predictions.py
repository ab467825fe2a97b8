"""Storage of the predictions of validation samples beside their scores, for viewing and for resuming evaluations."""

from __future__ import annotations

import copy
import errno
import logging
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import atomic_path, inside, make_folder, watched_writes
from miscnn_tf._base.plain_files import write_json
from miscnn_tf.data_loading import file_names
from miscnn_tf.data_loading.formats.image_file import LOSSLESS
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.errors import StorageError
from miscnn_tf.runs.earlier_files import remove_predictions
from miscnn_tf.runs.model_settings import weights_digest
from miscnn_tf.runs.names import MARK_FILE, PREDICTIONS_FOLDER
from miscnn_tf.runs.prediction_files import (
    file_digest,
    has_mark,
    load_prediction,
    read_mark,
    recorded_digests,
    was_written_here,
)

logger = logging.getLogger(__name__)

# Possible endings of a sample's prediction.
_ENDINGS = (*file_names.ENDINGS, *(f".{ending}" for ending in LOSSLESS), ".npy", ".dcm")


class KeptPredictions:
    """Label maps in a folder, predicted by the model with its current weights, in the format of its interface.

    Predictions made with the same weights and settings are reused, so that an interrupted evaluation can be continued;
    those from other weights are removed first. Only files that this package wrote and that are unchanged since then are
    used, replaced or removed. Any other file with the name of a prediction is renamed.

    Predictions are ``.npy`` files for data in memory and for custom interfaces that cannot save.

    Args:
        evaluation_path: The folder of the scores; predictions go to ``predictions/`` in it.
        model: The model.

    Raises:
        StorageError: If the folder cannot be written.
    """

    def __init__(self, evaluation_path: str | Path, model: Any) -> None:
        self.folder = Path(evaluation_path) / PREDICTIONS_FOLDER
        self._data_io = model.preprocessor.data_io
        self._warned = False
        state = weights_digest(model)
        if state is None or _made_by(self.folder) != state:
            remove_predictions(evaluation_path)
        make_folder(self.folder)
        self._usable = state is not None
        self._made_by = state or "a model without weights"
        # Earlier versions did not record digests: their predictions cannot be distinguished from other files.
        self._knows_digests = _made_by(self.folder) is None or "files" in read_mark(self.folder)
        self._digests = recorded_digests(self.folder)
        # Samples whose predictions a custom interface saved under unknown names.
        self._others: list[str] = read_mark(self.folder).get("others", [])
        # The sample that a custom interface was saving when an earlier run was interrupted.
        self._saving: str | None = read_mark(self.folder).get("saving")
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
        """Save the label map ``(x, y[, z])`` of a sample; log a warning if its name is too long for a file name.

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
            # A long training must not fail because of this: the scores do not need the file.
            logger.warning("the prediction of sample %r is not kept: %s", index, error)
            return
        # A custom interface may write files without atomic_path.
        files = list(self._files(index))
        new = [path for path in files if not was_written_here(path, self._digests.get(self._name(path)))]
        self._digests |= {self._name(path): file_digest(path) for path in new}
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
        if path.is_relative_to(self.folder) and path.name != MARK_FILE and not has_mark(path):
            self._digests[self._name(path)] = file_digest(temporary)
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


def _set_aside(path: Path) -> None:
    """Rename a file that this package did not write."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.kept{number}")):
        number += 1
    os.rename(path, target)
    logger.warning("%s was not written by this package; it was renamed to %s", path, target.name)


def _made_by(folder: Path) -> str | None:
    made_by = read_mark(folder).get("made_by")
    return None if made_by is None else str(made_by)
