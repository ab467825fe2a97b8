"""What the options of several commands have in common: types that check a value, and options of the same name."""

from __future__ import annotations

import argparse
import math

from miscnn_tf.arguments import byte_count


class whole_number:
    """An argparse type: a whole number that is not below a least one.

    Example:
        >>> whole_number(2)("7")
        7
    """

    def __init__(self, least: int) -> None:
        self.least = least
        # argparse says "invalid … value" with it.
        self.__name__ = f"whole number of at least {least}"

    def __call__(self, text: str) -> int:
        """The number; a ValueError, which argparse reports, where it is none."""
        number = int(text)
        if number < self.least:
            raise ValueError
        return number


class positive_number:
    """An argparse type: a finite number above 0.

    Example:
        >>> positive_number()("0.5")
        0.5
    """

    __name__ = "positive number"

    def __call__(self, text: str) -> float:
        """The number; a ValueError where it is none."""
        number = float(text)
        if not 0 < number < math.inf:
            raise ValueError
        return number


class memory_size:
    """An argparse type: bytes, given as a number of GB or as text with its unit.

    Example:
        >>> memory_size()("4"), memory_size()("512MB")
        (4000000000, 512000000)
    """

    __name__ = "amount of memory, such as 4 (GB) or 512MB,"

    def __call__(self, text: str) -> int:
        """The bytes; a ValueError where it is no such amount."""
        has_unit = text.strip()[-1:].isalpha()
        return byte_count(text if has_unit else round(positive_number()(text) * 1e9), "memory")


class label_pair:
    """An argparse type: what a value in the files means, ``255=1``.

    Example:
        >>> label_pair()("255=1")
        (255, 1)
    """

    __name__ = "VALUE=LABEL pair, such as 255=1,"

    def __call__(self, text: str) -> tuple[int, int]:
        """The value and the label; a ValueError where it is no such pair."""
        value, _, label = text.partition("=")
        return int(value), int(label)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """The configuration, and what ``train`` and ``cross-validate`` let one change about it."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration, a TOML file; 'miscnn-tf init' writes one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="take another value than the file's, for instance --set network.epochs=5; may be repeated",
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="where results are written (default: what [output] in CONFIG says)"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="throw away what an earlier run left in the output folder; otherwise an interrupted run goes on",
    )
    parser.add_argument(
        "--archive",
        action="store_true",
        help="move the results of another run in the output folder to a dated folder beside it; with --fresh, also "
        "those of the same run",
    )
