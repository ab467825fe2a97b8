"""Certainty of a network, as maps over the image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import chosen_classes
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.segmenter import PatchSegmenter
from miscnn_tf.xai.results import MapWriter, each_sample

_LABELS = {"probability": "probability", "max": "probability of the label", "entropy": "entropy, 1 = undecided"}


def compute_certaintymap(
    sample_list: Sequence[Hashable] | Hashable,
    model: PatchSegmenter,
    kind: str = "probability",
    classes: Sequence[int] | int | None = None,
    flips: bool | None = None,
    return_output: bool = False,
    output_path: str | Path | None = None,
    overlays: bool = True,
) -> list[np.ndarray] | None:
    r"""Compute maps of the class probabilities of samples, or of the certainty of the labels.

    The probabilities are those of ``model.predict(..., activation_output=True)``. With C classes of probability p:

    ================= =========================================================== ================
    kind              value of a voxel                                            from ... to
    ================= =========================================================== ================
    ``"probability"`` the probability of each class                               0 to 1
    ``"max"``         the probability of the most probable class                  1/C to 1
    ``"entropy"``     :math:`-\sum_c p_c \ln p_c / \ln C`, Shannon's entropy: how 0 (certain) to 1
                      undecided the network is (p is divided by its sum before)
    ================= =========================================================== ================

    Args:
        sample_list: Names of the samples, or one name.
        model: The trained network.
        kind: ``"probability"``, ``"max"`` or ``"entropy"``.
        classes: The classes of ``"probability"``, by default all but the background (0).
        flips: Take the mean over the image as it is and flipped along each axis, which shows more of the uncertainty;
            None: as the augmentation's ``infaug``, as in `Neural_Network.predict`.
        return_output: Return the maps instead of writing them.
        output_path: Folder for the files; by default ``certainty`` below the output path of the model's `Data_IO`.
        overlays: Draw a picture beside each file.

    Returns:
        With `return_output` a list of float32 arrays on the original images' grids: ``(x, y[, z], len(classes))`` for
        ``"probability"``, otherwise ``(x, y[, z])``. Otherwise, each map is written as soon as it is made:
        ``<index>.certainty.class-<number>.nii.gz``, or ``….certainty.<kind>.nii.gz``, in the image's geometry where
        that is known, else ``.npy``; and a ``.png``.

    Raises:
        ConfigurationError: If the kind or a class is not known, or the model is a group.

    Example:
        >>> compute_certaintymap(["case_00000"], model, kind="entropy")  # doctest: +SKIP
        >>> (tumour,) = compute_certaintymap("case_00000", model, classes=2, return_output=True)  # doctest: +SKIP
    """
    if kind not in _LABELS:
        raise ConfigurationError(f"kind={kind!r} must be one of {', '.join(map(repr, _LABELS))}")
    if kind != "probability" and classes is not None:
        raise ConfigurationError(f"kind={kind!r} is one map for all classes; leave classes out")
    scheme_of(model.preprocessor.data_io.interface).require_classes("the map of a class")
    numbers = chosen_classes(classes, model.classes)
    names = [f"class-{number}" for number in numbers] if kind == "probability" else [kind]
    writer = MapWriter(model, "certainty", names, _LABELS[kind], output_path, overlays, limits=(0.0, 1.0))

    def certainty(sample: Sample) -> np.ndarray:
        probabilities = model.predict_sample(sample, activation_output=True, flips=flips)
        if kind == "probability":
            return probabilities[..., numbers]
        return probabilities.max(axis=-1) if kind == "max" else entropy(probabilities)

    return each_sample(sample_list, model, certainty, writer, return_output)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute Shannon's entropy of class probabilities as a share of the largest possible one.

    Args:
        probabilities: ``(x, y[, z], classes)``; each voxel's are divided by their sum.

    Returns:
        float32 array ``(x, y[, z])``, from 0 (one class alone) to 1 (all alike).

    Example:
        >>> entropy(np.array([[[0.5, 0.5], [1.0, 0.0]]], np.float32))
        array([[1., 0.]], dtype=float32)
    """
    result = np.empty(probabilities.shape[:-1], np.float32)
    tiny = np.finfo(np.float32).tiny
    # Row by row: the terms of a whole volume would be as large as the probabilities.
    for row, values in enumerate(probabilities):
        shares = values / np.maximum(values.sum(axis=-1, keepdims=True), tiny)
        terms = shares * -np.log(np.maximum(shares, tiny))
        result[row] = np.clip(terms.sum(axis=-1) / np.log(values.shape[-1]), 0, 1)
    return result
