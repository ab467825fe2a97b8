"""The predictions of validation samples, kept beside their scores: to be looked at, and never to be made twice."""

from __future__ import annotations

import copy
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.configuration import fingerprint
from miscnn_tf.data_loading.array_file import read_array
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import label_values_of
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.data_loading.json_file import read_json, write_json
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.data_loading.storage import atomic_path, inside, make_folder
from miscnn_tf.errors import DataError, MissingDataError, StorageError
from miscnn_tf.evaluation.fold_record import model_settings
from miscnn_tf.evaluation.run_record import PREDICTIONS_FOLDER

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)

# In the folder: that it is ours, and which weights and settings made what is in it.
_MARK = "made_by.json"


class KeptPredictions:
    """Label maps in a folder, in the format of the model's interface, made by the model as it is now.

    What the folder holds of the same weights and settings is used again, so that an interrupted evaluation goes on
    where it stopped; what it holds of others is removed first.

    Data in memory, and interfaces of a user's own that cannot save, have no files: their predictions are ``.npy``.

    Args:
        evaluation_path: The folder of the scores; predictions go to ``predictions/`` in it.
        model: The model.

    Raises:
        StorageError: If the folder cannot be written.
    """

    def __init__(self, evaluation_path: str | Path, model: Neural_Network) -> None:
        self.folder = Path(evaluation_path) / PREDICTIONS_FOLDER
        self._data_io = model.preprocessor.data_io
        self._told = False
        state = _state(model)
        if state is None or _made_by(self.folder) != state:
            remove_predictions(evaluation_path)
        make_folder(self.folder)
        # Somebody else's files in it are neither used nor, because there is no mark, ever removed.
        ours = not any(self.folder.iterdir()) or _made_by(self.folder) is not None
        self._usable = ours and state is not None
        if ours:
            write_json(self.folder / _MARK, {"made_by": state or "a model without weights"})

    def load(self, index: Hashable) -> np.ndarray | None:
        """The label map ``(x, y[, z])`` of a sample, or None where this model has not predicted it yet."""
        if not self._usable:
            return None
        try:
            return load_prediction(self._data_io, index, self.folder)
        except Exception as reason:  # whatever a user's interface raises: it is predicted anew
            logger.debug("sample %r is predicted: %s", index, reason)
            return None

    def save(self, index: Hashable, prediction: np.ndarray) -> None:
        """Keep the label map ``(x, y[, z])`` of a sample, unless its name leaves no room for an ending.

        Raises:
            StorageError: If it cannot be written.
        """
        try:
            self._save(index, prediction)
        except StorageError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.ENAMETOOLONG:
                raise
            # The scores are what was asked for, and a training of days may have come before them.
            logger.warning("the prediction of sample %r is not kept: %s", index, error)

    def _save(self, index: Hashable, prediction: np.ndarray) -> None:
        if isinstance(self._data_io.interface, Dictionary_interface) or not self._saved_by_interface(index, prediction):
            with atomic_path(inside(self.folder, index, ".npy")) as temporary:
                np.save(temporary, prediction, allow_pickle=False)

    def _saved_by_interface(self, index: Hashable, prediction: np.ndarray) -> bool:
        try:
            # The same samples, but another place for what is predicted.
            data_io = copy.copy(self._data_io)
            data_io.output_path = self.folder
            sample = data_io.sample_loader(index, load_seg=False)
            sample.add_prediction(prediction)
            data_io.save_prediction(sample)
            # Many a user's interface only pretends to save, because nobody ever asked it to.
            if np.array_equal(load_prediction(data_io, index, self.folder), prediction):
                return True
            reason = "what it loads is not what it saved"
        except StorageError:
            raise
        except Exception as error:  # the scores are what was asked for, and they are there
            reason = f"{type(error).__name__}: {error}"
        logger.log(
            logging.DEBUG if self._told else logging.WARNING,
            "%s: %s does not keep the prediction of sample %r (%s); it is written as .npy",
            self.folder, type(self._data_io.interface).__name__, index, reason,
        )  # fmt: skip
        self._told = True
        return False


def load_prediction(data_io: Data_IO, index: Hashable, folder: str | Path) -> np.ndarray:
    """A prediction that `KeptPredictions` saved, or `Data_IO.save_prediction` wrote into this folder.

    Args:
        data_io: Where the sample comes from.
        index: Its name.
        folder: Where the predictions are.

    Returns:
        Labels ``(x, y[, z])``; of saved class probabilities the most likely class.

    Raises:
        MissingDataError: If there is none.
        DataError: If it holds something else than labels.
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
    """Delete the predictions that were kept in a folder of scores, and nothing that is somebody else's."""
    folder = Path(evaluation_path) / PREDICTIONS_FOLDER
    if not (folder / _MARK).is_file():
        return
    # The mark last: what is left by an interruption still is ours.
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()
    (folder / _MARK).unlink()
    folder.rmdir()


def _made_by(folder: Path) -> str | None:
    try:
        content = read_json(folder / _MARK, "")
        return str(content["made_by"])
    except (MissingDataError, DataError, KeyError, TypeError):
        return None


def _state(model: Neural_Network) -> str | None:
    """A digest of the weights and settings; None where a model has no weights that can be asked for."""
    get_weights = getattr(getattr(model, "model", None), "get_weights", None)
    if not callable(get_weights):
        return None
    digest = hashlib.blake2b(digest_size=16)
    for weight in get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    data_io = model.preprocessor.data_io
    parts: list[Any] = [digest.hexdigest(), model_settings(model), os.path.abspath(str(data_io.input_path))]
    values = label_values_of(data_io.interface)
    if values is not None:  # as they are written: files of another label map, or without one, say something else
        parts.append(values)
    return fingerprint(*parts)
