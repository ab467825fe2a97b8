"""Progress of a training, ``progress.json``: what a report shows while it runs, and why it stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.runs.names import PROGRESS_FILE

#: Beginning of the reason of the end, if a time limit ended the training.
TIME_LIMIT: Final = "The time limit"


class _ProgressFile(Document):
    epoch: int
    epochs: int
    seconds_per_epoch: float | None
    seconds_left: float | None
    stopped: str | None
    written: str


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of one training.

    Args:
        epoch: Number of finished epochs.
        epochs: Number of requested epochs.
        seconds_per_epoch: Time of a recent epoch with its validation; None before the first one.
        seconds_left: Estimate of the remaining time of the training; None before the first epoch.
        stopped: Sentence with the reason of the end; None while it runs, and after it was killed.
        written: Time of writing, UTC in ISO format.
    """

    epoch: int
    epochs: int
    seconds_per_epoch: float | None
    seconds_left: float | None
    stopped: str | None
    written: str

    def write(self, folder: Path) -> None:
        """Write it into the folder of the training, atomically."""
        write_json(folder / PROGRESS_FILE, asdict(self))


def read_progress(folder: Path) -> TrainingProgress:
    """Read the progress in the folder of a training.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged.
    """
    path, advice = folder / PROGRESS_FILE, "delete it; the next training writes a new one"
    content = read_json(path, "a training writes it", advice)
    require(_ProgressFile, content, path, advice)
    return TrainingProgress(**{name: content[name] for name in _ProgressFile.model_fields})
