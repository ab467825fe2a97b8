"""What the values of predictions and of the truth mean, decided from all of them before anything is scored.

A prediction of 0 and 255 and a truth of 0 and 1 may well show the same; scored as they are, they agree nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from miscnn_tf.data_loading.label_scan import FoundLabels
from miscnn_tf.data_loading.label_values import IGNORED_VALUES, likely_ignored
from miscnn_tf.data_loading.labels import MOST_CLASSES
from miscnn_tf.errors import LabelError
from miscnn_tf.messages import some_of

# Values with gaps are scored as they are, each gap an empty class, where there are few of these.
_FEW: Final = 30
_SHOWN: Final = 10


@dataclass(frozen=True)
class Meaning:
    """What values mean.

    Attributes:
        classes: Number of classes, background included.
        label_map: The class of values that are not their own class; None where there are none.
    """

    classes: int
    label_map: dict[int, int] | None


def meaning_of(
    truth: FoundLabels,
    predictions: FoundLabels,
    classes: int | None = None,
    label_map: Mapping[int, int] | None = None,
) -> Meaning:
    """Decide what the values of label maps mean, or refuse to score them.

    The truth says which classes there are; a prediction may lack some. Masks of 0 and 255 (or 65535) are 0 and 1, and
    so are their predictions, in either values.

    Args:
        truth: The values of the truth, without voxels to ignore.
        predictions: The values of the predictions, likewise.
        classes: Number of classes, where it is known.
        label_map: The class of values, where it is known.

    Raises:
        LabelError: If predictions hold values that the truth does not, or a value has no class; with the options of
            ``miscnn-tf evaluate`` that say what they mean.

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
            f"ignore: leave them out with --ignore {ignored}, or say which class they are, --label-map {ignored}=0"
        )
    for kind, labels in found.items():
        require_below(labels, kind, mapping, MOST_CLASSES)
    known = {mapping.get(value, value) for value in truth.values}
    foreign = [value for value in predictions.values if mapping.get(value, value) not in known]
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
            f"Say which class each value is, such as --label-map {highest}=1, or give --classes {highest + 1}"
        )
    return Meaning(max(2, highest + 1), mapping or None)


def _of_mask(truth: FoundLabels, predictions: FoundLabels, classes: int | None) -> dict[int, int]:
    """The label map of masks of 0 and 255; empty where the truth is none."""
    foreground = [value for value in truth.values if value != 0]
    if len(foreground) != 1 or foreground[0] not in IGNORED_VALUES or (classes or 2) > foreground[0]:
        return {}
    # A prediction that holds both 1 and 255 is no mask.
    both = {1, foreground[0]} <= set(predictions.values)
    return {} if both else {foreground[0]: 1}


def require_below(found: FoundLabels, kind: str, mapping: Mapping[int, int], classes: int) -> None:
    """Make sure that every value has a class.

    Args:
        found: The values.
        kind: "truth" or "predictions", for the message.
        mapping: The class of values that are not their own class.
        classes: Number of classes, background included.

    Raises:
        LabelError: If one has none; with the option of ``miscnn-tf evaluate`` that says what it means.
    """
    beyond = [value for value in found.values if not 0 <= mapping.get(value, value) < classes]
    if not beyond:
        return
    where = found.first.get(beyond[0], kind)
    ignored = likely_ignored(found.values)
    if ignored is not None and beyond == [ignored]:
        advice = (
            f'{ignored} beside other labels most likely means "ignore": leave such voxels out with --ignore {ignored}'
            if kind == "truth"
            else f"Say which class it is: --label-map {ignored}=0"
        )
    else:
        advice = f"Say which class it is: --label-map {beyond[0]}=1" + (
            f", or give --classes {beyond[-1] + 1}" if beyond[0] > 0 and not set(beyond) & set(IGNORED_VALUES) else ""
        )
    limit = f"with classes={classes} labels are 0 to {classes - 1}"
    raise LabelError(f"{where}: the label map holds {some_of(beyond, _SHOWN)} ({kind}), but {limit}. {advice}")


def _advice(foreign: Sequence[int], truth: FoundLabels, predictions: FoundLabels, mapping: Mapping[int, int]) -> str:
    """What may be meant by values that only predictions hold."""
    only_true = sorted({mapping.get(value, value) for value in truth.values} - set(predictions.values))
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
    advice = f"Say what it means, such as {options}"
    if foreign[0] > 0 and not set(foreign) & set(IGNORED_VALUES):
        advice += f"; or, if it is a class that none of these cases has, give --classes {foreign[-1] + 1}"
    return advice


def _shown(found: FoundLabels) -> str:
    return some_of(found.values, _SHOWN)
