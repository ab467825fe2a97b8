"""Reading and writing of configurations and plans. Errors list all mistakes."""

from __future__ import annotations

import copy
import os
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tomlkit
from pydantic import ValidationError

from miscnn_tf._base.files import atomic_path, read_bounded
from miscnn_tf._base.messages import did_you_mean, plural
from miscnn_tf._base.plain_limits import key_name, real, shown, walk
from miscnn_tf._base.typed_data import wanted as wanted_by
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.experiment.fingerprint import Fingerprint
from miscnn_tf.experiment.planner import Choice, Plan
from miscnn_tf.experiment.schema import Experiment, Named, Table, listed_mistakes
from miscnn_tf.runs.names import KEPT_CONFIGURATIONS

#: Keys that hold a path relative to the folder of the file.
_PATHS: Final = (
    ("data", "path"),
    ("data", "previous_stage"),
    ("split", "file"),
    ("preprocessing", "prepared_folder"),
    ("network", "weights"),
    ("output", "folder"),
)

#: Maximum size of a configuration in bytes; the names of ten thousand samples take 0.3 MB.
_LARGEST: Final = 16 * 2**20

_KEPT: Final = "The configuration of this {}, with absolute paths."
_WIDTH: Final = 110


def read_experiment(path: str | Path, changes: Sequence[str] = ()) -> Experiment:
    """Read a configuration and check all of it.

    Args:
        path: A TOML file.
        changes: Changes of keys, ``"network.epochs=5"``. The value is written as in TOML; quotes around text are
            optional.

    Returns:
        The configuration, with absolute paths.

    Raises:
        MissingDataError: If the file does not exist.
        ConfigurationError: If it is not a TOML file, or has an unknown key or an invalid value; all mistakes are
            listed.

    Example:
        >>> read_experiment("experiment.toml", ["network.epochs=5"]).network.epochs  # doctest: +SKIP
        5
    """
    path = Path(path)
    content = _read(path)
    apply_changes(content, changes)
    content = _with_absolute_paths(content, Path(os.path.abspath(path)).parent)
    return check_experiment(content, path)


def apply_changes(content: dict[str, Any], changes: Sequence[str]) -> None:
    """Change keys of tables.

    Args:
        content: The tables, which are changed.
        changes: ``"network.epochs=5"``, each.

    Raises:
        ConfigurationError: If any is not written in this form; all are listed.

    Example:
        >>> content = {"network": {"epochs": 100}}
        >>> apply_changes(content, ["network.epochs=5", "network.precision=float32"])
        >>> content
        {'network': {'epochs': 5, 'precision': 'float32'}}
    """
    mistakes = []
    for change in changes:
        try:
            _apply(content, change)
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))


def check_experiment(content: Mapping[str, Any], where: str | Path) -> Experiment:
    """Check the tables of a configuration.

    Args:
        content: The tables.
        where: The file, for messages.

    Raises:
        ConfigurationError: If there are mistakes; all are listed.
    """
    lines = [*_mistakes(content), *_wrong_weights(content)]
    if not lines:
        return Experiment.model_validate(content)
    # Starting TensorFlow for the names of losses and other parts takes seconds; a correct file is not delayed.
    from miscnn_tf.experiment.build_network import mistakes_of_parts

    raise ConfigurationError(listed_mistakes([*lines, *mistakes_of_parts(content.get("network"))], where))


def write_experiment(experiment: Experiment, path: str | Path, comment: str) -> None:
    """Write the given keys of a configuration, atomically; reading the file gives an equal one.

    Args:
        experiment: The configuration.
        path: The file.
        comment: Its first line.

    Raises:
        StorageError: If it cannot be written.
    """
    write_text(path, _as_text(experiment, comment))


def _as_text(experiment: Experiment, comment: str) -> str:
    document = tomlkit.document()
    document.add(tomlkit.comment(comment))
    for name, table in experiment.given().items():
        document.add(name, tomlkit.item(table))
    return tomlkit.dumps(document)


def keep_configuration(experiment: Experiment, folder: Path, kind: str) -> None:
    """Write the configuration of a run into its folder.

    Args:
        experiment: The configuration.
        folder: The folder.
        kind: One of `KEPT_CONFIGURATIONS`.
    """
    write_experiment(experiment, folder / KEPT_CONFIGURATIONS[kind], _KEPT.format(kind))


def is_kept_configuration(path: Path) -> bool:
    """Return True if a file is unchanged since `keep_configuration` wrote it."""
    kinds = [kind for kind, name in KEPT_CONFIGURATIONS.items() if name == path.name]
    return bool(kinds) and path.read_text(encoding="utf-8") == _as_text(read_experiment(path), _KEPT.format(kinds[0]))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, atomically.

    Raises:
        ConfigurationError: If it holds a name that is not UTF-8, which TOML files are.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{path}: {text[error.start - 40 if error.start > 40 else 0 : error.end]!r} is not UTF-8, which "
            "configurations must be; rename this folder or file"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def changed_keys(before: Experiment, now: Experiment, leave_out: Sequence[str] = ()) -> list[str]:
    """Describe each key that has changed: ``"network.epochs was 5, now 10"``.

    Args:
        before: The earlier configuration.
        now: The present one.
        leave_out: Tables, and keys with their tables, to ignore.
    """
    first, second = dict(_flat(before.given())), dict(_flat(now.given()))
    found = []
    for key in dict.fromkeys([*first, *second]):
        if any(f"{key}.".startswith(f"{name}.") for name in leave_out):
            continue
        if key in first and key in second and first[key] == second[key]:
            continue
        old, new = (toml_value(values[key]) if key in values else "not given" for values in (first, second))
        found.append(f"{key} was {old}, now {new}")
    return found


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


# ---------------------------------------------------------------- reading


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; give the TOML file of the configuration")
    try:
        # Editors on Windows write a byte order mark, which is not valid TOML.
        return _parse(read_bounded(path, _LARGEST).decode("utf-8-sig"))
    except MissingDataError:
        raise MissingDataError(
            f"the configuration {path} does not exist; to create one for a data set: miscnn-tf init FOLDER "
            f"-o {shlex.quote(str(path))}"
        ) from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise ConfigurationError(
            f"{path} is not a valid TOML file: {error}. Text needs quotes, lists need brackets: https://toml.io"
        ) from error


def _parse(text: str) -> dict[str, Any]:
    """Parse the tables of a TOML document.

    Raises:
        ValueError: If it is not TOML, nested more than 100 levels, or has a number of more than 64 bits.
    """
    try:
        content = tomllib.loads(text, parse_float=real)
    except RecursionError:
        raise ValueError("too many levels of lists and tables") from None
    for place, value in walk(content):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{key_name(place)} is a whole number of more than 64 bits: {shown(value)}")
    return content


def _apply(content: dict[str, Any], change: str) -> None:
    """Change one key of the tables."""
    key, equals, text = change.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigurationError(
            f"--set {change}: write table.key=value, for instance --set network.epochs=5 --set data.layout=NIFTI"
        )
    place = content
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if isinstance(inner, str):  # architecture = "unet_plain" is short for a table with that name
            inner = place[part] = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigurationError(f"--set {change}: {part} is not a table, but {inner!r}")
        place = inner
    try:
        place[parts[-1]] = _parsed(text.strip())
    except ValueError as error:
        raise ConfigurationError(f"--set {'.'.join(parts)}: {error}") from error


def _parsed(text: str) -> Any:
    try:
        content = _parse(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # Otherwise only the first of several lines would be the value.
    return content["value"] if content.keys() == {"value"} else text


def _with_absolute_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    content = dict(content)
    for table, key in _PATHS:
        inside = content.get(table)
        if isinstance(inside, dict) and isinstance(inside.get(key), str):
            # "~" is the home folder, as in a shell; with an unknown user it is the name of a folder.
            content[table] = {**inside, key: os.path.normpath(folder / os.path.expanduser(inside[key]))}
    return content


# ---------------------------------------------------------------- mistakes


def _mistakes(content: Mapping[str, Any]) -> list[str]:
    """Return all mistakes that the schema finds.

    A table is checked as a whole only if each of its keys is valid. Wrong keys are therefore removed, and the tables
    are checked again, until nothing new is found.
    """
    tables: dict[str, Any] = copy.deepcopy(dict(content))
    lines: list[str] = []
    removed: set[str] = set()
    while True:
        try:
            Experiment.model_validate(tables)
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            return lines
        new = [detail for detail in details if not _follows(detail, removed)]
        lines += [_mistake(detail) for detail in new]
        places = [detail["loc"] for detail in new if detail["type"] != "missing"]
        gone = [_remove(tables, place) for place in places]
        if not any(gone):
            return lines
        removed |= {str(place[1]) for place in places if len(place) > 1}


def _follows(detail: Mapping[str, Any], removed: set[str]) -> bool:
    """Return True if a mistake is a consequence of removed keys: one of them is missing, or the message names it."""
    if detail["type"] == "missing":
        return str(detail["loc"][-1]) in removed
    words = set(re.findall(r"\w+", str(detail.get("ctx", {}).get("error", ""))))
    return bool(removed & words)


def _remove(tables: dict[str, Any], place: tuple[int | str, ...]) -> bool:
    """Remove a key of a table; False if the place is a whole table, or is not there."""
    table = tables.get(str(place[0])) if place else None
    if len(place) < 2 or not isinstance(table, dict):
        return False
    return table.pop(place[1], None) is not None


def _wrong_weights(content: Mapping[str, Any]) -> list[str]:
    """Return the mistake of class weights that do not fit the classes, which are in another table."""
    network, data = content.get("network"), content.get("data")
    weights = network.get("class_weight") if isinstance(network, Mapping) else None
    if not isinstance(weights, list) or not isinstance(data, Mapping):
        return []
    classes, names = data.get("classes"), data.get("class_names")
    classes = len(names) if classes is None and isinstance(names, list) else classes
    if isinstance(classes, int) and len(weights) != classes:
        return [f"[network] class_weight has {plural(len(weights), 'weight')}, but there are {classes} classes"]
    if weights and not any(weights):
        return ["[network] class_weight is 0 for every class; give at least one class a positive weight"]
    return []


def _mistake(detail: Mapping[str, Any]) -> str:
    """Describe one mistake."""
    place, kind = detail["loc"], detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(place)
    if kind == "missing":
        return f"{_table(place[:-1])}{place[-1]} is missing{_needed(place)}"
    if kind in ("value_error", "assertion_error"):
        return f"{_named(place)}{context.get('error', detail['msg'])}"
    named = kind in ("model_type", "model_attributes_type") and len(place) > 1
    wanted = "a name, or a table with a name" if named else wanted_by(detail)
    where = f"{place[-2]}, entry {place[-1] + 1}," if isinstance(place[-1], int) else place[-1]
    return (
        f"{_table(place[: -2 if isinstance(place[-1], int) else -1])}{where} must be {wanted}, got "
        f"{shown(detail['input'])}"
    )


def _unknown(place: tuple[int | str, ...]) -> str:
    key, table = str(place[-1]), place[:-1]
    known = _keys(table)
    home = next((name for name in Experiment.model_fields if key in _keys((name,))), None)
    if not table and home is not None:
        return f"{key} is outside any table; move it to [{home}]"
    # Users of the Python interface may try its longer names.
    hint = did_you_mean(key.removeprefix("patchwise_").removeprefix("config_"), known)
    if home is not None:
        hint = f" Move it to [{home}]"
    hint = hint or f" Known: {', '.join(known)}"
    return f"{_table(table)}the key {key!r} is unknown.{hint}" if table else f"the table [{key}] is unknown.{hint}"


def _keys(table: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a table may have."""
    model: Any = Experiment
    for part in table:
        field = getattr(model, "model_fields", {}).get(part)
        model = None if field is None else field.annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Table) else []


def _needed(place: tuple[int | str, ...]) -> str:
    known = Experiment.model_fields if len(place) == 1 else None
    if known is not None:
        return f": add the table [{place[0]}]"
    return f": add the name{' of a subfunction' if 'steps' in place else ''}" if place[-1] in Named.model_fields else ""


def _table(place: tuple[int | str, ...]) -> str:
    """Format the place of a table: ``"[network] "``; of the third step ``"[[preprocessing.steps]] number 3: "``."""
    if not place:
        return ""
    names = [str(part) for part in place if isinstance(part, str)]
    numbers = [part for part in place if isinstance(part, int)]
    if numbers and len(names) > 1:
        return f"[[{'.'.join(names)}]] number {numbers[0] + 1}: "
    return f"[{names[0]}] {'.'.join(names[1:])}{'.' if len(names) > 1 else ''}"


def _named(place: tuple[int | str, ...]) -> str:
    """Format the key before a message that does not name it."""
    if not place:
        return ""
    if len(place) == 1:
        return f"[{place[0]}] "
    text = _table(place)
    return f"{text[:-1]}: " if text.endswith(".") else text


def plan_text(data: Mapping[str, Choice], plan: Plan, header: Sequence[str]) -> str:
    """Return the text of a configuration.

    Args:
        data: The table ``[data]``.
        plan: All other tables.
        header: Lines of the comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in header]
    for name, choices in {"data": data, **plan}.items():
        lines += ["", f"[{name}]"]
        for key, choice in choices.items():
            lines += _entry(key, choice)
    return "\n".join(lines) + "\n"


def describe_data(fingerprint: Fingerprint, class_names: Sequence[str], channels: int, path: str) -> list[str]:
    """Describe the data set in a few lines, for the comment at the top of a file."""
    shapes = [[min(sizes), max(sizes)] for sizes in zip(*fingerprint.shapes, strict=True)]
    ranges = " x ".join(f"{low}" if low == high else f"{low}..{high}" for low, high in shapes)
    spacing = fingerprint.median_spacing
    size = "" if spacing is None else f"; median voxel size {' x '.join(f'{one:g}' for one in spacing)} mm"
    kind = f"{len(shapes)}D, {plural(channels, 'channel')}"
    shares = ", ".join(
        f"{name}: {100 * share:.3g} % ({samples})"
        for name, share, samples in zip(class_names, fingerprint.class_shares, fingerprint.class_cases, strict=True)
    )
    lines = [
        f"{plural(fingerprint.cases, 'sample')} in {path}: {kind}, {ranges} voxels{size}",
        f"Share of each class, and samples that contain it, of {len(fingerprint.measured)} measured: {shares}",
    ]
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH)]


def _entry(key: str, choice: Choice) -> list[str]:
    text = f"{key} = {toml_value(choice.value)}"
    if not choice.reason:
        return [text]
    together = f"{text}  # {choice.reason}"
    if len(together) <= _WIDTH:
        return [together]
    return [f"# {line}" for line in textwrap.wrap(choice.reason, _WIDTH - 2)] + [text]


def toml_value(value: Any) -> str:
    """Format a value as TOML, with inline tables.

    Example:
        >>> toml_value({"name": "unet_standard", "depth": 3})
        '{name = "unet_standard", depth = 3}'
    """
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{tomlkit.key(str(key)).as_string()} = {toml_value(one)}" for key, one in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return tomlkit.item(value).as_string()
