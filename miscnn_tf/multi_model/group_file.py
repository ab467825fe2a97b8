"""A group on disk: a folder with a file per member, and a JSON file that lists them.

The members are written first, under names that no earlier dump used, and the list last, so that the folder holds a
whole group at any time: the one before, or the new one. Nothing in the list is code, no class is imported because it
names it, and it can name only what lies in its folder.
"""

from __future__ import annotations

import logging
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import miscnn_tf
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.plain_files import read_json, write_json
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.messages import some_of
from miscnn_tf.neural_network.model_description import read_metadata, reading
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

if TYPE_CHECKING:
    from miscnn_tf.multi_model.model_group import Model_Group

logger = logging.getLogger(__name__)

FORMAT = 1
METADATA = "metadata.json"
_NETWORK = "Neural_Network"
_MEMBER_NAME = re.compile(r"member_\d+_[0-9a-f]{8}(\.keras)?")
_ID = re.compile(r"[\w-]+")


def folder_name(group_id: str) -> str:
    """The name of a group's folder."""
    return f"group_{group_id}"


# ---------------------------------------------------------------- writing


def write(group: Model_Group, path: str | Path) -> Path:
    """Write a group into ``<path>/group_<id>/``, and return that folder.

    Raises:
        StorageError: If it cannot be written.
    """
    folder = make_folder(Path(path) / folder_name(group.id))
    token = uuid.uuid4().hex[:8]
    members = []
    for position, model in enumerate(group.models):
        kind = _kind(model)
        name = f"member_{position}_{token}" + (".keras" if kind == _NETWORK else "")
        model.dump(folder / name)
        members.append({"file": name, "kind": kind, "id": str(getattr(model, "id", position))})
    write_json(
        folder / METADATA,
        {
            "format": FORMAT,
            "version": miscnn_tf.__version__,
            "kind": _kind(group),
            "id": group.id,
            "verify_preprocessor": group.verify_preprocessor,
            "members": members,
            "description": group.description(),
        },
    )
    _remove_others(folder, {member["file"] for member in members})
    return folder


def _remove_others(folder: Path, keep: set[str]) -> None:
    """Remove members of earlier dumps, and nothing else."""
    for path in folder.iterdir():
        if path.name in keep or not _MEMBER_NAME.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _kind(model: Any) -> str:
    from miscnn_tf.multi_model.cross_validation_group import CrossValidationGroup
    from miscnn_tf.multi_model.model_group import Model_Group
    from miscnn_tf.neural_network.model import Neural_Network

    for cls in (Neural_Network, CrossValidationGroup, Model_Group):
        if isinstance(model, cls):
            return cls.__name__
    return type(model).__name__


# ---------------------------------------------------------------- reading


def load_group(
    path: str | Path,
    data_io: Data_IO | None = None,
    subfunctions: Sequence[Abstract_Subfunction] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Model_Group:
    """Read a group that ``dump`` wrote, ready to predict with the preprocessing it was trained with.

    Members that were trained with the same preprocessing share one preprocessor.

    Args:
        path: The folder that was given to ``dump``, where it holds one group, or the folder ``group_<id>`` in it.
        data_io: Samples to predict by name, or to train on; not needed for single files and arrays.
        subfunctions: The steps, where the files could not store them (it was said when they were written).
        custom_objects: Classes of your own by name: models, and what `miscnn_tf.load_model` may need. A model class is
            called with the group's preprocessor, and its ``load`` with the file.

    Returns:
        A `Model_Group`, or `CrossValidationGroup`.

    Raises:
        MissingDataError: If there is no group, or a file of it is missing.
        DataError: If its list is not JSON.
        ModelFileError: If it is damaged, of another format, or names something outside its folder.
        ConfigurationError: If the folder holds several groups, or a class is not known here.

    Example:
        >>> group = load_group("models")  # doctest: +SKIP
        >>> group.predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
    """
    from miscnn_tf.multi_model.cross_validation_group import CrossValidationGroup
    from miscnn_tf.multi_model.model_group import Model_Group
    from miscnn_tf.neural_network.model_file import load_model

    folder = _find(path, None)
    metadata = _read(folder)
    own = dict(custom_objects or {})
    models: list[Any] = []
    settings: list[Any] = []
    waiting: list[tuple[int, type, Path]] = []
    for member in metadata["members"]:
        kind, file = member["kind"], _member_path(folder, member)
        models.append(None)
        settings.append(None)
        if kind == _NETWORK:
            models[-1] = load_model(file, data_io, subfunctions, own)
            described = read_metadata(file)
            settings[-1] = (described["preprocessor"], described["interface"])
        elif kind in (Model_Group.__name__, CrossValidationGroup.__name__):
            models[-1] = load_group(file, data_io, subfunctions, own)
        elif kind in own:
            waiting.append((len(models) - 1, own[kind], file))
        else:
            raise ConfigurationError(
                f"{folder / METADATA} names a model of the class {kind!r}, which is not known here; pass "
                f"custom_objects={{{kind!r}: {kind}}}"
            )
    loaded = [model for model in models if model is not None]
    if not loaded:
        raise ConfigurationError(
            f"{folder} holds models of your own classes only, which do not say how to preprocess; make the Model_Group "
            "yourself, and call its load()"
        )
    for position, model in enumerate(models):
        twin = settings.index(settings[position])
        if settings[position] is not None and twin < position:
            model.preprocessor = models[twin].preprocessor
    preprocessor = loaded[0].preprocessor
    for position, cls, file in waiting:
        models[position] = cls(preprocessor)
        models[position].load(file)
    if metadata["verify_preprocessor"]:
        for model in models:
            _share(model, preprocessor)
    classes = {cls.__name__: cls for cls in (Model_Group, CrossValidationGroup)}
    with reading(folder / METADATA):
        group = classes[metadata["kind"]].from_description(
            models, preprocessor, metadata["description"], metadata["verify_preprocessor"]
        )
    group.id = metadata["id"]
    for model, member in zip(models, metadata["members"], strict=True):
        model.id = member["id"]
    return group


def read_into(group: Model_Group, path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> None:
    """Read the members of a dump into those of a group, which are looked at first, all of them.

    Raises:
        MissingDataError: If there is no group, or a file of it is missing.
        ModelFileError: If it is damaged, of another format, or of other members.
    """
    folder = _find(path, group.id)
    metadata = _read(folder)
    found, needed = [member["kind"] for member in metadata["members"]], [_kind(model) for model in group.models]
    if found != needed:
        raise ModelFileError(
            f"{folder} holds a group of {', '.join(found)}, but this one has {', '.join(needed)}; read it with "
            "load_group(), or make a group of such members first"
        )
    files = [_member_path(folder, member) for member in metadata["members"]]
    for model, file in zip(group.models, files, strict=True):
        model.load(file, custom_objects)
    group.id = metadata["id"]
    for model, member in zip(group.models, metadata["members"], strict=True):
        model.id = member["id"]


def _share(model: Any, preprocessor: Any) -> None:
    """Give a loaded model, and the members of a loaded group, the group's preprocessor."""
    model.preprocessor = preprocessor
    for member in getattr(model, "models", ()):
        if getattr(model, "verify_preprocessor", True):
            _share(member, preprocessor)


def _find(path: str | Path, group_id: str | None) -> Path:
    """The folder of a group: `path` itself, or the one in it."""
    path = Path(path)
    if (path / METADATA).is_file():
        return path
    if group_id is not None and (path / folder_name(group_id) / METADATA).is_file():
        return path / folder_name(group_id)
    found = sorted(file.parent for file in path.glob(f"{folder_name('*')}/{METADATA}"))
    if not found:
        raise MissingDataError(f"there is no group of models in {path}: no group_<id>/{METADATA}; dump() writes it")
    if len(found) > 1:
        raise ConfigurationError(
            f"{path} holds {len(found)} groups ({some_of([each.name for each in found], 3)}); name the folder of one"
        )
    return found[0]


def _read(folder: Path) -> dict[str, Any]:
    """The metadata, looked at before anything is done with them."""
    file = folder / METADATA
    content = read_json(file, "dump() writes it", "dump the group anew")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise ModelFileError(
            f"{file} has the format {found!r}, but this version of miscnn_tf reads {FORMAT}; update miscnn_tf, or dump "
            "the group anew"
        )
    members = content.get("members")
    whole = (
        isinstance(members, list)
        and members
        and all(
            isinstance(member, dict) and all(isinstance(member.get(key), str) for key in ("file", "kind", "id"))
            for member in members
        )
        and content.get("kind") in ("Model_Group", "CrossValidationGroup")
        and isinstance(content.get("id"), str)
        and isinstance(content.get("verify_preprocessor"), bool)
        and isinstance(content.get("description"), dict)
    )
    # An id becomes the name of a folder.
    if not whole or not _ID.fullmatch(content["id"]):
        raise ModelFileError(f"{file} is damaged, or was not written by Model_Group.dump; dump the group anew")
    return content


def _member_path(folder: Path, member: Mapping[str, str]) -> Path:
    name = member["file"]
    path = folder / name
    # No way out: neither by the name, nor by a link that somebody put there.
    if not _MEMBER_NAME.fullmatch(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFileError(
            f"{folder / METADATA} names the file {name!r}, which is no member of this group; dump the group anew"
        )
    if not path.exists():
        raise MissingDataError(f"there is no {path}, which {METADATA} names; dump the group anew")
    return path
