"""Mapping of the values of predictions and truth to classes, determined from all label maps before scoring.

A prediction of 0 and 255 may show the same as a truth of 0 and 1, but without a mapping its scores would be 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.label_keys import class_of, colour_map, has_colours
from miscnn_tf.data_loading.label_scan import FoundLabels
from miscnn_tf.data_loading.label_values import IGNORED_VALUES, likely_ignored
from miscnn_tf.data_loading.labels import MOST_CLASSES
from miscnn_tf.errors import LabelError

# Values with few gaps are scored unchanged, with an empty class for each gap.
_FEW: Final = 30
_SHOWN: Final = 10


@dataclass(frozen=True)
class Meaning:
    """Mapping of values to classes.

    Attributes:
        classes: Number of classes, background included.
        label_map: Classes of values that differ from their class; None if all are equal.
    """

    classes: int
    label_map: dict[int, int] | None


def meaning_of(
    truth: FoundLabels,
    predictions: FoundLabels,
    classes: int | None = None,
    label_map: Mapping[int, int] | None = None,
) -> Meaning:
    """Determine the classes of the values of label maps, or refuse to score them.

    The truth defines the classes; a prediction may lack some. Masks of 0 and 255 (or 65535) are 0 and 1, and so are
    their predictions, in either values.

    Args:
        truth: The values of the truth, without voxels to ignore.
        predictions: The values of the predictions, likewise.
        classes: Number of classes, if known.
        label_map: Classes of values, if known.

    Raises:
        LabelError: If predictions hold values that the truth does not, or a value has no class; the message shows the
            options of ``miscnn-tf evaluate`` that map them.

    Example:
        >>> true, predicted = FoundLabels({0: 9, 255: 3}), FoundLabels({0: 10, 1: 2})
        >>> meaning_of(true, predicted)
        Meaning(classes=2, label_map={255: 1})
    """
    mapping = dict(label_map) if label_map else _of_mask(truth, predictions, classes)
    found = {"truth": truth, "predictions": predictions}
    if classes is not None:
        for kind, labels in found.items():
            require_below(labels, kind, mapping, classes)
        return Meaning(classes, mapping or None)
    ignored = likely_ignored(truth.values)
    if ignored is not None and ignored not in mapping:
        raise LabelError(
            f"the truth holds the values {_shown(truth)}. {ignored} beside other labels most likely means voxels to "
            f"ignore: exclude them with --ignore {ignored}, or map them to a class, --label-map {ignored}=0"
        )
    for kind, labels in found.items():
        require_below(labels, kind, mapping, MOST_CLASSES)
    known = {class_of(value, mapping) for value in truth.values}
    foreign = [value for value in predictions.values if class_of(value, mapping) not in known]
    if foreign:
        raise LabelError(
            f"the predictions hold the values {_shown(predictions)}, the truth {_shown(truth)}"
            f"{f', read with the label map {mapping}' if mapping else ''}: {some_of(foreign, _SHOWN)} (in "
            f"{predictions.first.get(foreign[0], 'one')!r}) is not in the truth. "
            f"{_advice(foreign, truth, predictions, mapping)}"
        )
    highest = max(known, default=0)
    if highest > max(_FEW, 2 * len(known)):
        raise LabelError(
            f"the truth holds the values {_shown(truth)}, which would be {highest + 1} classes, most of them empty. "
            f"Map each value to a class, such as --label-map {highest}=1, or give --classes {highest + 1}"
        )
    return Meaning(max(2, highest + 1), mapping or None)


def _of_mask(truth: FoundLabels, predictions: FoundLabels, classes: int | None) -> dict[int, int]:
    """Return the label map of masks of 0 and 255, or of colours; empty if the truth is not such a mask."""
    if has_colours(truth.values):
        return colour_map(truth.values, truth.voxels)
    foreground = [value for value in truth.values if value != 0]
    if len(foreground) != 1 or foreground[0] not in IGNORED_VALUES or (classes or 2) > foreground[0]:
        return {}
    # A prediction that holds both 1 and 255 is not a mask.
    both = {1, foreground[0]} <= set(predictions.values)
    return {} if both else {foreground[0]: 1}


def require_below(found: FoundLabels, kind: str, mapping: Mapping[int, int], classes: int) -> None:
    """Check that every value has a class.

    Args:
        found: The values.
        kind: "truth" or "predictions", for the message.
        mapping: Classes of values that differ from their class.
        classes: Number of classes, background included.

    Raises:
        LabelError: If one has none; the message shows the option of ``miscnn-tf evaluate`` that maps it.
    """
    beyond = [value for value in found.values if not 0 <= class_of(value, mapping) < classes]
    if not beyond:
        return
    where = found.first.get(beyond[0], kind)
    ignored = likely_ignored(found.values)
    if ignored is not None and beyond == [ignored]:
        advice = (
            f'{ignored} beside other labels most likely means "ignore": exclude such voxels with --ignore {ignored}'
            if kind == "truth"
            else f"Map it to a class: --label-map {ignored}=0"
        )
    else:
        advice = f"Map it to a class: --label-map {beyond[0]}=1" + (
            f", or give --classes {beyond[-1] + 1}" if beyond[0] > 0 and not set(beyond) & set(IGNORED_VALUES) else ""
        )
    limit = f"with classes={classes} labels are 0 to {classes - 1}"
    raise LabelError(f"{where}: the label map holds {some_of(beyond, _SHOWN)} ({kind}), but {limit}. {advice}")


def _advice(foreign: Sequence[int], truth: FoundLabels, predictions: FoundLabels, mapping: Mapping[int, int]) -> str:
    """Return the advice for values that only predictions hold."""
    only_true = sorted({class_of(value, mapping) for value in truth.values} - set(predictions.values))
    ignored = likely_ignored(predictions.values)
    foreground = [value for value in truth.values if value != 0]
    if foreign == [1] and len(foreground) == 1:
        pairs = [(foreground[0], 1)]
    elif list(foreign) == [ignored]:
        pairs = [(foreign[0], 0)]
    elif len(only_true) == len(foreign):
        pairs = list(zip(foreign, only_true, strict=True))
    else:
        pairs = [(foreign[0], 1)]
    options = " ".join(f"--label-map {value}={label}" for value, label in pairs)
    advice = f"Map it to a class, such as {options}"
    if foreign[0] > 0 and not set(foreign) & set(IGNORED_VALUES):
        advice += f"; or, if it is a class that none of these cases has, give --classes {foreign[-1] + 1}"
    return advice


def _shown(found: FoundLabels) -> str:
    return some_of(found.values, _SHOWN)
