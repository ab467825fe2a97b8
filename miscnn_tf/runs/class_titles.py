"""Names of classes, and of the quantities of one class, in tables and figures."""

from __future__ import annotations

from collections.abc import Sequence


def name_of_class(names: Sequence[str] | None, label: int) -> str:
    """Return the name of a class; its number if it has none.

    Example:
        >>> name_of_class(["background", "kidney"], 1), name_of_class(None, 1)
        ('kidney', '1')
    """
    named = names is not None and label < len(names) and names[label].strip()
    return names[label] if names is not None and named else str(label)


def quantity_title(name: str, class_names: Sequence[str] | None = None) -> str:
    """Return the name of a quantity of a history in words, with the name of the class of a `ClassDice`.

    Example:
        >>> quantity_title("dice_class-1", ["background", "kidney"]), quantity_title("learning_rate")
        ('dice, kidney', 'learning rate')
    """
    kind, mark, label = name.rpartition("_class-")
    if mark and label.isdecimal() and class_names:
        return f"{kind.replace('_', ' ')}, {name_of_class(class_names, int(label))}"
    return name.replace("_", " ")
