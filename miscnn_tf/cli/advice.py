"""Advice of error messages as options of a command.

Messages of the package name arguments of Python functions, ``label_map={255: 1}``. Users of a command need its options,
``--label-map 255=1``, or the key of the configuration, ``--set 'data.label_map={255 = 1}'``.
"""

from __future__ import annotations

import ast
import logging
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Final

from miscnn_tf.cli.data_options import DATA_OPTIONS

#: Arguments of interfaces that are options of commands, or keys of a configuration.
_KEYS: Final[dict[str, str]] = {
    **{option.key.removeprefix("settings."): option.key for option in DATA_OPTIONS.values()},
    **{name: name for name in ("three_dim", "class_names")},
    **{name: f"settings.{name}" for name in ("part", "slice_axis", "img_type", "img_format", "truth")},
}
# Arguments of predictions, which are not keys of a configuration.
_OF_PREDICTIONS: Final = {
    "file_format": "--format",
    "values": "--values",
    "threshold": "--threshold",
    "memory_budget": "--memory",
}
_OPTION_OF: Final = {option.key: name for name, option in DATA_OPTIONS.items()} | _OF_PREDICTIONS
# These words also state facts, "with classes=3 labels are 0 to 2"; they are replaced only in advice.
_ALSO_FACTS: Final = ("channels", "classes", "slice_axis")

_NAMES: Final = "|".join([*_KEYS, *_OF_PREDICTIONS])
_GIVEN: Final = re.compile(
    rf"(?P<before>make (?:it|the interface) with |give |and |or )?(?P<call>\b\w+_interface\()?"
    rf"(?<![\w.'\"/-])(?P<name>{_NAMES})="
)
_NAMED: Final = re.compile(
    r"(?P<before>\b(?:give|correct|in|of|and|or|a|another|make the interface with another) )"
    rf"(?P<name>{'|'.join(name for name in _KEYS if '_' in name)})(?![\w=/'\"])"
)
_PHRASES: Final = {
    ", or write an interface of your own, a subclass of Abstract_IO": "",
    "with fresh=True": "with --fresh",
    "another folder for this run with output": "another folder with --output",
    "pass archive=True": "use --archive",
    "or resume=False": "or --fresh",
    "pass resume=False": "use --fresh",
    "another evaluation_path": "another folder with --output",
    "pass data_aug=None to the Preprocessor": "set enabled = false in [augmentation]",
}
# Messages that name an option for all commands, and its form in Python; a command may lack the option.
_BOTH: Final = re.compile(
    r"--[a-z-]+ \S+ (?:\(Python: (?P<argument>[^)]*)\)|"
    r"on the command line or find_interface\(path, (?P<layout>'\w+')\))"
)
_SIMPLE: Final = re.compile(r"-?[\w.]+")
_BRACKETS: Final = {"{": "}", "[": "]", "(": ")"}


class CommandFormatter(logging.Formatter):
    """Formatter of log messages with advice for a command.

    Args:
        options: The names of the command's options.
        detailed: Print the level and the module; otherwise records look like the errors of the command line:
            ``miscnn-tf: warning: …``.
    """

    def __init__(self, options: Collection[str], detailed: bool = False) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self.options = options
        self.detailed = detailed

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message with its source."""
        if self.detailed:
            return super().formatMessage(record)
        source = "" if record.name.partition(".")[0] == "miscnn_tf" else f"{record.name}: "
        return f"miscnn-tf: {record.levelname.lower()}: {source}{record.message}"

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return for_command(super().format(record), self.options)


def for_command(message: str, options: Collection[str]) -> str:
    """Replace arguments of Python functions in a message by options of a command.

    Args:
        message: The message.
        options: The names of the command's options. Without ``--set`` and the option, an argument is kept.

    Example:
        >>> for_command("map the values, e.g. label_map={255: 1}", {"--label-map"})
        'map the values, e.g. --label-map 255=1'
        >>> for_command("map the values, e.g. label_map={255: 1}", {"--set"})
        "map the values, e.g. --set 'data.label_map={255 = 1}'"
    """
    for phrase, replacement in _PHRASES.items():
        message = message.replace(phrase, replacement)
    message = _BOTH.sub(lambda match: match["argument"] or f"layout={match['layout']}", message)
    done, start = "", 0
    while match := _GIVEN.search(message, start):
        end = _end_of_value(message, match.end())
        name, before = match["name"], match["before"] or ""
        written = None
        if before or name not in _ALSO_FACTS:
            written = _written(name, message[match.end() : end], options)
        if written is None:
            done += message[start : match.end()]
            start = match.end()
            continue
        if match["call"] and message[end : end + 1] == ")":
            end += 1
        done += message[start : match.start()] + ("use " if before.startswith("make") else before) + written
        start = end
    return _NAMED.sub(lambda match: _mentioned(match, options), done + message[start:])


def _end_of_value(text: str, start: int) -> int:
    """Return the end of the Python literal that begins at a position."""
    first = text[start : start + 1]
    if first in _BRACKETS:
        closed = text.find(_BRACKETS[first], start)
        return len(text) if closed < 0 else closed + 1
    if first and first in "'\"":
        closed = text.find(first, start + 1)
        return len(text) if closed < 0 else closed + 1
    simple = _SIMPLE.match(text, start)
    return simple.end() if simple else start


def _written(name: str, literal: str, options: Collection[str]) -> str | None:
    """Return an argument as an option; None if the command does not have it or the value is not a literal."""
    more = literal.endswith(", …}")
    try:
        value = ast.literal_eval(literal.replace(", …}", "}"))
    except (SyntaxError, ValueError):
        return None
    key = _KEYS.get(name, name)
    option = _OPTION_OF.get(key)
    if option is not None and option in options:
        values = [f"{old}={new}" for old, new in value.items()] if isinstance(value, Mapping) else [str(value)]
        return " ".join([option, *map(shlex.quote, values), *(["…"] if more else [])])
    if "--set" not in options or name in _OF_PREDICTIONS:
        return None
    from miscnn_tf.experiment.toml_file import toml_value

    if isinstance(value, Mapping):
        value = {str(old): new for old, new in value.items()}  # keys of TOML are text

    return f"--set {shlex.quote(f'data.{key}={toml_value(value)}')}"


def _mentioned(match: re.Match[str], options: Collection[str]) -> str:
    key = _KEYS[match["name"]]
    option = _OPTION_OF.get(key)
    if option not in options:
        if "--set" not in options:
            return match[0]
        option = f"--set data.{key}"
    before = match["before"]
    return f"{'use another ' if before.startswith('make') else before}{option}"
