"""Argument types shared by several commands."""

from __future__ import annotations

import math

from miscnn_tf._base.arguments import byte_count


class whole_number:
    """Argument type: a whole number of at least `least`.

    Example:
        >>> whole_number(2)("7")
        7
    """

    def __init__(self, least: int) -> None:
        self.least = least
        # Used in argparse's error "invalid … value".
        self.__name__ = f"whole number of at least {least}"

    def __call__(self, text: str) -> int:
        """Return the number, or raise a ValueError, which argparse reports."""
        number = int(text)
        if number < self.least:
            raise ValueError
        return number


class positive_number:
    """Argument type: a finite number above 0.

    Example:
        >>> positive_number()("0.5")
        0.5
    """

    __name__ = "positive number"

    def __call__(self, text: str) -> float:
        """Return the number, or raise a ValueError."""
        number = float(text)
        if not 0 < number < math.inf:
            raise ValueError
        return number


class share:
    """Argument type: a number between 0 and 1, without these two.

    Example:
        >>> share()("0.3")
        0.3
    """

    __name__ = "number between 0 and 1"

    def __call__(self, text: str) -> float:
        """Return the number, or raise a ValueError."""
        number = float(text)
        if not 0 < number < 1:
            raise ValueError
        return number


class memory_size:
    """Argument type: a number of bytes, given in GB or with a unit.

    Example:
        >>> memory_size()("4"), memory_size()("512MB")
        (4000000000, 512000000)
    """

    __name__ = "amount of memory, such as 4 (GB) or 512MB,"

    def __call__(self, text: str) -> int:
        """Return the bytes, or raise a ValueError."""
        has_unit = text.strip()[-1:].isalpha()
        return byte_count(text if has_unit else round(positive_number()(text) * 1e9), "memory")


class label_pair:
    """Argument type: a value in the files and its class, ``255=1``; or ``nonzero=1``, ``128+=1``, ``255=ignore``.

    Example:
        >>> label_pair()("255=1"), label_pair()("nonzero=1")
        ((255, 1), ('nonzero', 1))
    """

    __name__ = "VALUE=CLASS pair, such as 255=1 or nonzero=1,"

    def __call__(self, text: str) -> tuple[int, int | str]:
        """Return the value and the class, or raise a ValueError."""
        from miscnn_tf.data_loading.label_keys import IGNORE_TEXT, parse_key

        value, _, label = text.partition("=")
        return parse_key(value.strip()), IGNORE_TEXT if label.strip() == IGNORE_TEXT else int(label)
