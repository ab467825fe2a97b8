"""Reference of the command line, made from its argument parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class CommandLine(Directive):
    """``.. command-line::`` inserts a section with usage, description and options for each command."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        from miscnn_tf.cli.main import make_parser

        commands = _commands(make_parser())
        env = self.state.document.settings.env
        env.note_dependency(__file__)
        return [self.section(name, parser) for name, parser in commands.items()]

    def section(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        """Return the section of one command."""
        section = nodes.section(ids=[f"miscnn-tf-{name.replace('_', '-')}"], names=[f"miscnn-tf {name}"])
        section += nodes.title("", "", nodes.literal("", f"miscnn-tf {name}"))
        self.state.document.note_explicit_target(section)
        section += nodes.literal_block("", _usage(parser), language="text", classes=["no-copybutton"])
        section += _text(parser.description or "")
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
            actions = [action for action in actions if action.help != argparse.SUPPRESS]
            if actions:
                section += nodes.rubric("", (group.title or "options").capitalize())
                section += _table(parser, actions)
        if parser.epilog:
            section += _text(parser.epilog)
        return section


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage with a fixed width, independent of the terminal."""
    made = parser.formatter_class
    try:
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)  # type: ignore[assignment]
        return parser.format_usage().removeprefix("usage: ").strip()
    finally:
        parser.formatter_class = made


def _text(text: str) -> list[nodes.Node]:
    """Return paragraphs; indented text keeps its lines, as on the terminal."""
    result: list[nodes.Node] = []
    for block in text.strip("\n").split("\n\n"):
        lines = block.splitlines()
        # A paragraph may be followed by an indented list without an empty line.
        plain = [line for line in lines if not line.startswith("  ")]
        indented = [line for line in lines if line.startswith("  ")]
        if plain:
            result.append(nodes.paragraph("", "", *_inline(" ".join(line.strip() for line in plain))))
        if indented:
            kept = "\n".join(line.removeprefix("  ") for line in indented)
            result.append(nodes.literal_block("", kept, language="text", classes=["no-copybutton"]))
    return result


def _inline(text: str) -> Iterator[nodes.Node]:
    """Return text nodes, with text in single or double backticks as code."""
    for number, part in enumerate(text.replace("``", "`").split("`")):
        if part:
            yield nodes.literal("", part) if number % 2 else nodes.Text(part)


def _table(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> nodes.definition_list:
    formatter = argparse.HelpFormatter(parser.prog, width=10_000)
    items = []
    for action in actions:
        term = nodes.term("", "", *_names(formatter, action))
        explained = formatter._expand_help(action) if action.help else ""
        items.append(
            nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", "", *_inline(explained))))
        )
    return nodes.definition_list("", *items, classes=["options"])


def _names(formatter: argparse.HelpFormatter, action: argparse.Action) -> Iterator[nodes.Node]:
    if not action.option_strings:
        yield nodes.literal("", formatter._metavar_formatter(action, action.dest)(1)[0])
        return
    value = ""
    if action.nargs != 0:
        value = " " + formatter._format_args(action, action.dest.upper())
    for number, option in enumerate(action.option_strings):
        if number:
            yield nodes.Text(", ")
        yield nodes.literal("", option + (value if number == len(action.option_strings) - 1 else ""))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
