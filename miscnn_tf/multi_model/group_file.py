"""The files of a group: a folder with a file per member, and a JSON file that lists them.

The members are written first, under names that no earlier dump used, and the list last: at any time the folder holds a
whole group, the previous one or the new one. The list holds no code, no class is imported because of a name in it, and
it can name only files in its folder.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import miscnn_tf
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import some_of
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.multi_model.model import Identified
from miscnn_tf.processing.segmenter import Segmenter

FORMAT = 1
METADATA = "metadata.json"
NETWORK_KIND = "Neural_Network"
GROUP_KINDS = ("Model_Group", "CrossValidationGroup")
_MEMBER_NAME = re.compile(r"member_\d+_[0-9a-f]{8}(\.keras)?")
_ID = re.compile(r"[\w-]+")


def folder_name(group_id: str) -> str:
    """Return the name of a group's folder."""
    return f"group_{group_id}"


def kind_of(model: Any) -> str:
    """Return the name of a model's class, as files of groups name it."""
    return model.kind if isinstance(model, Segmenter) else type(model).__name__


# ---------------------------------------------------------------- writing


def write(path: str | Path, models: Sequence[Any], metadata: Mapping[str, Any]) -> None:
    """Write a group into ``<path>/group_<id>/``.

    Args:
        path: A folder; created if missing.
        models: The members.
        metadata: The other entries of the list; ``"id"`` is among them.

    Raises:
        StorageError: If it cannot be written.
    """
    folder = make_folder(Path(path) / folder_name(metadata["id"]))
    token = uuid.uuid4().hex[:8]
    members = []
    for position, model in enumerate(models):
        kind = kind_of(model)
        name = f"member_{position}_{token}" + (".keras" if kind == NETWORK_KIND else "")
        model.dump(folder / name)
        members.append({"file": name, "kind": kind, "id": str(model.id if isinstance(model, Identified) else position)})
    content = {"format": FORMAT, "version": miscnn_tf.__version__, **metadata, "members": members}
    write_json(folder / METADATA, content)
    _remove_others(folder, {member["file"] for member in members})


def _remove_others(folder: Path, keep: set[str]) -> None:
    """Remove members of earlier dumps, and nothing else."""
    for path in folder.iterdir():
        if path.name in keep or not _MEMBER_NAME.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- reading


def find_folder(path: str | Path, group_id: str | None) -> Path:
    """Return the folder of a group: `path` itself, or the one in it.

    Args:
        path: The folder.
        group_id: Id of the group, if `path` may hold several; None for any.

    Raises:
        MissingDataError: If there is no group.
        ConfigurationError: If there are several.
    """
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


def read(folder: Path) -> dict[str, Any]:
    """Read and check the list of a group's folder.

    Raises:
        DataError: If it is not JSON.
        ModelFileError: If it is damaged, or of another format.
    """
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
        and content.get("kind") in GROUP_KINDS
        and isinstance(content.get("id"), str)
        and isinstance(content.get("verify_preprocessor"), bool)
        and isinstance(content.get("description"), dict)
    )
    # An id becomes the name of a folder.
    if not whole or not _ID.fullmatch(content["id"]):
        raise ModelFileError(f"{file} is damaged, or was not written by Model_Group.dump; dump the group anew")
    return content


def member_path(folder: Path, member: Mapping[str, str]) -> Path:
    """Return the file of a member.

    Raises:
        ModelFileError: If its name leads out of the folder.
        MissingDataError: If it is missing.
    """
    name = member["file"]
    path = folder / name
    # No way out: neither by the name, nor by a link.
    if not _MEMBER_NAME.fullmatch(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFileError(
            f"{folder / METADATA} names the file {name!r}, which is not a member of this group; dump the group anew"
        )
    if not path.exists():
        raise MissingDataError(f"there is no {path}, which {METADATA} names; dump the group anew")
    return path
