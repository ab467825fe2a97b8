"""Entry point of ``miscnn-tf``: runs the command, sets up logging, and prints errors in one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import Final, NamedTuple

from miscnn_tf import __version__
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf._machine.tensorflow_messages import LOG_LEVEL
from miscnn_tf.cli.advice import CommandFormatter, for_command
from miscnn_tf.cli.interruption import (
    INTERRUPTED,
    MESSAGE,
    end_process,
    errors_after_a_signal_as_interruptions,
    exit_code,
    quick_interruption,
)
from miscnn_tf.cli.path_hint import path_hint
from miscnn_tf.cli.terminal import one_line_warnings, reliable_streams
from miscnn_tf.errors import MiscnnError


class Command(NamedTuple):
    """A command: its summary, and its module with ``add_arguments(parser)`` and ``run(arguments) -> int``.

    These modules import large packages only in ``run``, so that ``--help`` is fast.
    """

    summary: str
    module: str


COMMANDS: Final[dict[str, Command]] = {
    "demo": Command("train a small 3D U-Net on synthetic CT scans, in about two minutes", "miscnn_tf.cli.demo"),
    "run": Command("plan, train, score and predict with one command", "miscnn_tf.cli.run"),
    "look": Command("write a page with pictures and statistics of a data set", "miscnn_tf.cli.look"),
    "init": Command("analyse a data set, and write a configuration for it", "miscnn_tf.cli.init"),
    "verify": Command("check every sample of a data set, and list all faults", "miscnn_tf.cli.verify"),
    "data_exp": Command("summarise a data set: sizes, classes, intensities", "miscnn_tf.cli.data_exp"),
    "train": Command("train a network from a configuration file", "miscnn_tf.cli.train"),
    "predict": Command("segment images with a trained model", "miscnn_tf.cli.predict"),
    "evaluate": Command("compare predictions with the ground truth", "miscnn_tf.cli.evaluate"),
    "cross-validate": Command("train and evaluate a network on every fold of the data", "miscnn_tf.cli.cross_validate"),
    "compare": Command("choose among cross-validations and their ensembles", "miscnn_tf.cli.compare"),
    "import-nnunet": Command("write a model file from a trained model of nnU-Net", "miscnn_tf.cli.import_nnunet"),
    "report": Command("write an HTML page about a run", "miscnn_tf.cli.report"),
    "doctor": Command("report what this machine and installation support, and problems", "miscnn_tf.cli.doctor"),
    "cleanup": Command("remove batches, evaluations and predictions of this package", "miscnn_tf.cli.cleanup"),
}

#: Exit codes. Interruptions have 130 (Ctrl-C), 143 (SIGTERM) and 129 (closed terminal), as in shells.
OK, FAILED, USAGE = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name. None takes those of the process, and ends the process within
            seconds if it is interrupted.

    Returns:
        The exit code: 0, 1 after an error, 2 for wrong usage, 130 if interrupted.
    """
    with reliable_streams():
        if argv is not None:
            return _run(argv)
        with quick_interruption():
            code = _run(None)
            if code >= INTERRUPTED:
                end_process(code)
        return code


def _run(argv: list[str] | None) -> int:
    parser = make_parser()
    try:
        command = next(iter(sys.argv[1:] if argv is None else argv), "")
        if command and not command.startswith("-") and command not in COMMANDS:
            parser.error(
                f"invalid choice: {command!r}.{did_you_mean(command.lower(), COMMANDS)} 'miscnn-tf --help' lists them"
            )
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            hint = did_you_mean(unknown[0].partition("=")[0], getattr(arguments, "options", ()))
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint and '.' + hint}")
    except SystemExit as leaving:  # argparse has printed help or an error
        return leaving.code if isinstance(leaving.code, int) else USAGE
    if arguments.run is None:
        parser.print_help()
        return OK
    _set_up_logging(arguments.verbose, arguments.options)
    try:
        with one_line_warnings(verbose=arguments.verbose > 0), errors_after_a_signal_as_interruptions():
            code = int(arguments.run(arguments))
            sys.stdout.flush()  # raises the error of a full disk here
            return code
    except MiscnnError as error:
        logging.getLogger(__name__).debug("traceback of the error:", exc_info=True)
        hint = path_hint(str(error), arguments)
        print(f"miscnn-tf: error: {for_command(str(error), arguments.options)}{hint}", file=sys.stderr)
        return FAILED
    except MemoryError as error:
        # For instance a table of a million samples; samples raise a MemoryBudgetError.
        logging.getLogger(__name__).debug("traceback of the error:", exc_info=True)
        print(f"miscnn-tf: error: out of memory ({str(error) or 'no details'}); close other programs", file=sys.stderr)
        return FAILED
    except OSError as error:
        # An invalid path, a folder without access, a full disk: a traceback would not help.
        logging.getLogger(__name__).debug("traceback of the error:", exc_info=True)
        place = f"{error.filename}: " if error.filename is not None else ""
        text = f"{place}{error.strerror or error}"
        print(f"miscnn-tf: error: {text}{path_hint(text, arguments)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interruption:
        print(MESSAGE, end="", file=sys.stderr)
        return exit_code(interruption)


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="miscnn-tf",
        description="Medical image segmentation: from a folder of scans to a trained U-Net and label maps.",
        epilog="'miscnn-tf COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"miscnn-tf {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        module = importlib.import_module(command.module)
        sub = commands.add_parser(
            name,
            help=command.summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.add_argument("-v", "--verbose", action="count", default=0, help="log more (-vv: for debugging)")
        options = frozenset(name for action in sub._actions for name in action.option_strings)
        sub.set_defaults(run=module.run, options=options)
    return parser


def _set_up_logging(verbose: int, options: frozenset[str]) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CommandFormatter(options, detailed=verbose > 0))
    logging.basicConfig(handlers=[handler])
    # This package only: matplotlib and others log a lot at DEBUG.
    logging.getLogger("miscnn_tf").setLevel(level)
    # TensorFlow's information and warnings are hidden, unless they are asked for here or in the environment.
    os.environ.setdefault(LOG_LEVEL, "0" if verbose > 1 else "2")
