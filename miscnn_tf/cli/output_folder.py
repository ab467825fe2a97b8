"""Output folder of a training or cross-validation, and its check by the configuration in it."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.files import make_folder
from miscnn_tf.errors import ConfigurationError, MissingDataError, StorageError
from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.experiment.toml_file import changed_keys, keep_configuration, read_experiment
from miscnn_tf.runs.folder_lock import locked_folder, move_aside
from miscnn_tf.runs.names import KEPT_CONFIGURATIONS, LOCK_FILE, MODEL_FILE, RECORD_FILE
from miscnn_tf.runs.writer import Writer

#: Keys and tables that do not change the result.
_HARMLESS: Final = (
    "output",
    "preprocessing.prepare_subfunctions",
    "preprocessing.prepared_folder",
    "preprocessing.cache_bytes",
    "preprocessing.use_multiprocessing",
    "preprocessing.threads",
    "network.workers",
    "network.batch_queue_size",
)


def run_folder(experiment: Experiment, config: str | Path, kind: str, output: str | Path | None) -> Path:
    """Return the run folder of a command.

    Args:
        experiment: The configuration.
        config: Its file.
        kind: ``"training"`` or ``"cross-validation"``.
        output: The folder of the command line, which overrides that of the configuration.
    """
    if output is not None:
        return Path(output)
    if experiment.output.folder is not None:
        return Path(experiment.output.folder)
    config = Path(config)
    return config.parent / f"{config.stem}_{Path(KEPT_CONFIGURATIONS[kind]).stem}"


def alone_in(folder: Path) -> AbstractContextManager[Any]:
    """Return a context manager that holds the lock on the folder of a run, before TensorFlow starts.

    With several cluster nodes it does nothing: the first node takes the lock later, when it can report a failure to the
    others.

    Raises:
        FolderInUseError: If another run holds the lock.
    """
    return locked_folder(folder) if Writer().is_alone else nullcontext()


def claim(folder: Path, experiment: Experiment, kind: str) -> None:
    """Create the folder of this run and store the configuration in it; call `check_folder` before."""
    make_folder(folder)
    keep_configuration(experiment, folder, kind)


def check_folder(folder: Path, experiment: Experiment, kind: str, fresh: bool, archive: bool = False) -> None:
    """Require that a run can start or continue in a folder without changing the results of another run.

    Args:
        folder: The folder; it may be missing.
        experiment: The configuration.
        kind: ``"training"`` or ``"cross-validation"``.
        fresh: Allow results of the same kind, which the run will delete.
        archive: Move results of another run (with `fresh`: all results) to a dated folder.

    Raises:
        StorageError: If it holds files that are not of a run.
        ConfigurationError: If it holds a run of another kind, or of another configuration.
    """
    mark = folder / KEPT_CONFIGURATIONS[kind]
    if archive:
        if not Writer().is_chief:
            return  # the first node moves it
        with locked_folder(folder):
            if _holds_another(folder, mark, experiment, fresh):
                move_aside(folder)
    for other, name in KEPT_CONFIGURATIONS.items():
        if other != kind and (folder / name).is_file():
            raise ConfigurationError(
                f"{folder} holds a {other}; choose another folder for this {kind} with --output, or "
                f"move the {other} to a dated folder with --archive"
            )
    if mark.is_file() and not fresh:
        before = read_experiment(mark)
        changed = changed_keys(before, experiment, _HARMLESS)
        longer = kind == "training" and _asks_for_more_epochs(before, experiment)
        if changed and not (longer and _can_go_on_longer(folder, experiment)):
            raise ConfigurationError(
                f"{folder} holds a {kind} with another configuration: {'; '.join(changed)}. Change it back to go on, "
                "choose another folder with --output, move the earlier results to a dated folder with --archive, or "
                "delete them with --fresh"
                + (
                    ". To train longer, start from its finished model: miscnn-tf train CONFIG --continue-from "
                    f"{shlex.quote(str(folder))} --output NEW_FOLDER"
                    if longer
                    else ""
                )
            )
    elif not mark.is_file() and folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise StorageError(
            f"the folder {folder} holds files that no {kind} wrote; choose an empty or new one with --output"
        )


def trained_weights(run: str | Path) -> Path:
    """Return the absolute path of the model file of a finished training.

    Args:
        run: The folder of the training, or the file.

    Raises:
        MissingDataError: If the model file does not exist.
    """
    path = Path(run).absolute()
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise MissingDataError(
            f"--continue-from {run}: {file} does not exist; name the folder of a finished training, or a model file "
            "(for a cross-validation: of a fold)"
        )
    return file


def _asks_for_more_epochs(before: Experiment, now: Experiment) -> bool:
    """Return True if only the number of epochs changed, and increased."""
    epochs = before.network.epochs, now.network.epochs
    more = None not in epochs and epochs[0] < epochs[1]  # type: ignore[operator]  # neither is None
    return more and not changed_keys(before, now, (*_HARMLESS, "network.epochs"))


def _can_go_on_longer(folder: Path, experiment: Experiment) -> bool:
    """Return True for an unfinished training whose learning rates do not depend on the number of epochs."""
    return not (folder / RECORD_FILE).is_file() and experiment.network.schedule == "constant"


def _holds_another(folder: Path, mark: Path, experiment: Experiment, fresh: bool) -> bool:
    """Return True if a folder holds a run that cannot be continued or, with `fresh`, any run."""
    if mark.is_file():
        return fresh or bool(changed_keys(read_experiment(mark), experiment, _HARMLESS))
    return any((folder / name).is_file() for name in KEPT_CONFIGURATIONS.values())
