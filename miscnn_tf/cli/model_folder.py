"""Models of ``miscnn-tf predict MODEL``: a file, or the folder of a training, a cross-validation or a group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.configuration import fingerprint
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, stat_fingerprint
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.multi_model.group_file import METADATA
from miscnn_tf.multi_model.loading import fold_model_files, load_fold_models, load_group
from miscnn_tf.neural_network.model_description import interface_of
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.runs.names import MODEL_FILE, fold_folders

_ENDINGS: Final = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk.

    Attributes:
        path: The given path.
        kind: ``"network"``, ``"folds"`` or ``"group"``.
        files: The model files.
    """

    path: Path
    kind: str
    files: tuple[Path, ...]

    @property
    def description(self) -> str:
        """Text for users."""
        many = f"{len(self.files)} models, averaged" if len(self.files) > 1 else "one model"
        return f"{self.path} ({many})"

    def fingerprint(self) -> str:
        """Return a digest that changes with the model."""
        return fingerprint(self.kind, stat_fingerprint(list(self.files)))

    def interface(self) -> Abstract_IO:
        """Return the interface of the training, without data."""
        return interface_of(self.files[0])

    def load(self, data_io: Data_IO | None = None) -> Any:
        """Load the `Neural_Network` or `Model_Group`."""
        if self.kind == "network":
            return load_model(self.files[0], data_io)
        return load_fold_models(self.path, data_io) if self.kind == "folds" else load_group(self.path, data_io)


def find_model(path: str | Path) -> TrainedModel:
    """Find the model of a path.

    Raises:
        MissingDataError: If the path does not have a model; the message lists the supported files.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in _ENDINGS:
            raise ConfigurationError(f"{path} is not a model file; its name must end in .keras")
        return TrainedModel(path, "network", (path,))
    if not path.is_dir():
        raise MissingDataError(f"the model {path} does not exist; create one with 'miscnn-tf train'")
    if (path / MODEL_FILE).is_file():
        return TrainedModel(path, "network", (path / MODEL_FILE,))
    if fold_folders(path):
        return TrainedModel(path, "folds", tuple(fold_model_files(path)))
    if (path / METADATA).is_file() or any(path.glob(f"group_*/{METADATA}")):
        return TrainedModel(path, "group", tuple(sorted(path.rglob("member_*.keras"))))
    raise MissingDataError(
        f"{path} does not have a model: neither {MODEL_FILE} (a training), nor fold_0/{MODEL_FILE} (a "
        f"cross-validation), nor group_…/{METADATA}. It has {some_of(sorted(one.name for one in path.iterdir()))}"
    )
