"""The folder of a run: the configuration in it says what it is, and whether a run may go on in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from miscnn_tf.cluster import is_chief, read_cluster
from miscnn_tf.data_loading.folder_lock import LOCK_FILE, locked_folder, move_aside
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.planning.experiment import Experiment
from miscnn_tf.planning.toml_file import KEPT_CONFIGURATIONS, changed_keys, keep_configuration, read_experiment

#: Keys and tables that change nothing about the result.
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
    """Where the results of a run land.

    Args:
        experiment: The configuration.
        config: Its file.
        kind: ``"training"`` or ``"cross-validation"``.
        output: What the command line says; it comes first.
    """
    if output is not None:
        return Path(output)
    if experiment.output.folder is not None:
        return Path(experiment.output.folder)
    config = Path(config)
    return config.parent / f"{config.stem}_{Path(KEPT_CONFIGURATIONS[kind]).stem}"


def alone_in(folder: Path) -> AbstractContextManager[Any]:
    """Hold the lock on the folder of a run, before TensorFlow starts.

    Of several machines that train together, the first one takes it later, where the others hear of a refusal.

    Raises:
        FolderInUseError: If another run writes into the folder.
    """
    return locked_folder(folder) if read_cluster() is None else nullcontext()


def claim(folder: Path, experiment: Experiment, kind: str) -> None:
    """Make a folder, which `check_folder` was asked about, that of this run, by keeping the configuration in it."""
    make_folder(folder)
    keep_configuration(experiment, folder, kind)


def check_folder(folder: Path, experiment: Experiment, kind: str, fresh: bool, archive: bool = False) -> None:
    """Make sure that a run may go on, or begin, in a folder: what another one left is not touched.

    Args:
        folder: The folder; it may be missing.
        experiment: The configuration.
        kind: ``"training"`` or ``"cross-validation"``.
        fresh: Whether results of the same kind may be thrown away.
        archive: Whether results of another run are moved aside, or, with `fresh`, all.

    Raises:
        StorageError: If it holds files that no run wrote.
        ConfigurationError: If it holds a run of another kind, or of another configuration.
    """
    mark = folder / KEPT_CONFIGURATIONS[kind]
    if archive:
        if not is_chief():
            return  # the first machine moves it
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
        changed = changed_keys(read_experiment(mark), experiment, _HARMLESS)
        if changed:
            raise ConfigurationError(
                f"{folder} holds a {kind} with another configuration: {'; '.join(changed)}. Change it back to go on, "
                "choose another folder with --output, move the earlier results to a dated folder with --archive, or "
                "throw them away with --fresh"
            )
    elif not mark.is_file() and folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise StorageError(
            f"the folder {folder} holds files that no {kind} wrote; choose an empty or new one with --output"
        )


def _holds_another(folder: Path, mark: Path, experiment: Experiment, fresh: bool) -> bool:
    """Whether a folder holds a run that is not to go on."""
    if mark.is_file():
        return fresh or bool(changed_keys(read_experiment(mark), experiment, _HARMLESS))
    return any((folder / name).is_file() for name in KEPT_CONFIGURATIONS.values())
