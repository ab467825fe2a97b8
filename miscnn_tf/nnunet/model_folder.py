"""The files of a trained model of nnU-Net: its folder, the zip archive that nnU-Net exports, and its checkpoints."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.nnunet.plans import PLANS_FILE
from miscnn_tf.nnunet.torch_file import StoredTensor, TorchFile

ALL: Final = "all"
DATASET_JSON: Final = "dataset.json"
_FOLD = re.compile(r"fold_(\d+|all)")
#: Most bytes of the unpacked files of an archive. Weights, which are most of them, cannot be compressed much.
_MOST_GROWTH: Final = 4
_SMALL: Final = 2**24
_TEXTS: Final = (DATASET_JSON, PLANS_FILE)
_LICENCES: Final = ("license", "licence", "license.txt", "licence.txt", "license.md", "licence.md")


@dataclass(frozen=True)
class Checkpoint:
    """A trained fold.

    Attributes:
        path: The file.
        configuration: Name of its configuration.
        trainer: Name of its trainer.
        mirroring: Axes of the network along which predictions are averaged over flips.
        weights: The parameters by their names in PyTorch.
    """

    path: Path
    configuration: str
    trainer: str
    mirroring: tuple[int, ...]
    weights: Mapping[str, np.ndarray]


@contextmanager
def opened_model(source: str | Path) -> Iterator[Path]:
    """Yield the folder of a trained model, ``<trainer>__<plans>__<configuration>``, with its two JSON files.

    Args:
        source: This folder, one above it that has a single such folder, or the archive of ``nnUNetv2_export_model``,
            which is unpacked to a temporary folder.

    Raises:
        MissingDataError: If it has no model.
        ConfigurationError: If it has several models.
        ModelFileError: If the archive is damaged, or has names outside of itself.
    """
    source = Path(source)
    if not source.exists():
        raise MissingDataError(f"the model {source} does not exist; name the folder or the zip archive of the model")
    if source.is_dir():
        yield _only_model(source, source)
        return
    with tempfile.TemporaryDirectory(prefix="miscnn_tf-") as folder:
        _unpack(source, Path(folder))
        yield _only_model(Path(folder), source)


def fold_files(folder: Path, folds: str | Sequence[int | str], checkpoint: str) -> list[Path]:
    """Return the files of the checkpoints.

    Args:
        folder: The folder of the model.
        folds: Numbers of the folds; ``"all"`` takes every numbered fold, or that of all samples (``fold_all``) if it is
            the only one. ``["all"]`` names the latter.
        checkpoint: ``"final"`` or ``"best"``.

    Raises:
        MissingDataError: If one does not exist; the message lists those that do.
    """
    if checkpoint not in ("final", "best"):
        raise ConfigurationError(f"checkpoint={checkpoint!r} must be 'final' or 'best'")
    name = f"checkpoint_{checkpoint}.pth"
    there = {match[1]: one / name for one in folder.iterdir() if (match := _FOLD.fullmatch(one.name))}
    there = {fold: path for fold, path in there.items() if path.is_file()}
    numbered = sorted((fold for fold in there if fold != ALL), key=int)
    chosen = (numbered or list(there)) if folds == ALL else [str(fold) for fold in folds]
    missing = [fold for fold in chosen if fold not in there]
    if missing or not chosen:
        raise MissingDataError(
            f"{folder} has no {name} of fold {', '.join(missing) or 'any number'}; it has those of "
            f"{', '.join((*numbered, *(['all'] if ALL in there else []))) or 'no fold'}"
        )
    return [there[fold] for fold in chosen]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, without running anything in it: see `TorchFile`.

    Raises:
        ModelFileError: If it is damaged, or another kind of file.
    """
    with TorchFile(path) as file:
        content = file.content
        try:
            weights: Mapping[str, StoredTensor] = content["network_weights"]
            configuration, trainer = content["init_args"]["configuration"], content["trainer_name"]
            mirroring = content.get("inference_allowed_mirroring_axes") or ()
            whole = [configuration, trainer, *weights]
            if not all(isinstance(one, str) for one in whole) or not all(isinstance(one, int) for one in mirroring):
                raise TypeError("texts and numbers of axes are needed")
            return Checkpoint(
                *(path, configuration, trainer, tuple(mirroring)),
                {name: tensor.numpy() for name, tensor in weights.items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"{path} is not a checkpoint of nnU-Net version 2, which has network_weights, init_args and "
                f"trainer_name ({error!r}); name the folder of a model that nnUNetv2_train wrote"
            ) from error


def licence(folder: Path) -> str | None:
    """Return the text of a licence beside the model, or above it; None if there is none."""
    for place in (folder, folder.parent):
        for file in sorted(place.iterdir()):
            if file.name.lower() in _LICENCES and file.is_file():
                return file.read_text(encoding="utf-8", errors="replace")
    return None


def _only_model(folder: Path, source: Path) -> Path:
    found = [folder] if (folder / PLANS_FILE).is_file() else sorted(path.parent for path in _plans_below(folder))
    if not found:
        raise MissingDataError(
            f"{source} has no trained model of nnU-Net: a folder with {PLANS_FILE}, {DATASET_JSON} and fold_0"
        )
    if len(found) > 1:
        names = some_of([str(path.relative_to(folder)) for path in found])
        advice = "unpack it, and name one of them" if source.is_file() else "name one of them"
        raise ConfigurationError(f"{source} has several models: {names}; {advice}")
    if not (found[0] / DATASET_JSON).is_file():
        raise MissingDataError(f"{source} has no {DATASET_JSON} beside {PLANS_FILE}; copy it from the data set")
    return found[0]


def _plans_below(folder: Path) -> list[Path]:
    return [*folder.glob(f"*/{PLANS_FILE}"), *folder.glob(f"*/*/{PLANS_FILE}"), *folder.glob(f"*/*/*/{PLANS_FILE}")]


def _unpack(source: Path, folder: Path) -> None:
    """Unpack the files of models in an archive; others, such as pictures, are left out."""
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelFileError(
            f"{source} is not a zip archive ({error}); name the folder of the model, or its archive"
        ) from error
    with archive:
        wanted = [one for one in archive.infolist() if _is_wanted(PurePosixPath(one.filename))]
        size, most = sum(one.file_size for one in wanted), _SMALL + _MOST_GROWTH * source.stat().st_size
        if size > most:
            raise ModelFileError(f"{source}: its files have {size} bytes unpacked, more than weights can have")
        for member in wanted:
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                raise ModelFileError(f"{source}: {member.filename!r} is a path outside of the archive")
            target = folder.joinpath(*name.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(member) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file, 2**20)
            except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
                raise ModelFileError(f"{source}: {member.filename!r} is damaged ({error})") from error


def _is_wanted(name: PurePosixPath) -> bool:
    checkpoint = bool(_FOLD.fullmatch(name.parent.name)) and name.suffix == ".pth"
    return checkpoint or name.name in _TEXTS or name.name.lower() in _LICENCES
