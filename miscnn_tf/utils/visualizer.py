"""Pictures of samples, at the path of MIScnn; see `miscnn_tf.pictures.visualizer`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.deprecation import deprecated
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.pictures.visualizer import visualize_prediction_overlap_3D, visualize_samples

__all__ = ["visualize_evaluation", "visualize_prediction_overlap_3D", "visualize_sample", "visualize_samples"]


@deprecated("visualize_samples([sample], ...)", since="0.2", removed_in="1.0")
def visualize_sample(sample: Sample | Hashable, out_dir: str | Path = "vis", *arguments: Any, **options: Any) -> Path:
    """Write the GIF of one sample, the name in MIScnn 1.2.

    Args:
        sample: A `Sample`, or its name.
        out_dir: Folder of the file ``<out_dir>/<name>.gif``; created if it does not exist.
        *arguments: Further arguments of `visualize_samples`.
        **options: Keyword arguments of `visualize_samples`.

    Returns:
        The file.
    """
    return visualize_samples([sample], out_dir, *arguments, **options)[0]


@deprecated("visualize_samples(samples, mask_seg=True)", since="0.2", removed_in="1.0")
def visualize_evaluation(
    case_id: Hashable,
    vol: np.ndarray,
    truth: np.ndarray,
    pred: np.ndarray,
    eval_path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write a GIF of arrays, truth and prediction side by side, the function of MIScnn 1.1.

    Args:
        case_id: Name of the sample.
        vol: Image ``(x, y[, z])``, or with a last axis for the channels.
        truth: Labels ``(x, y[, z])``, or with a last axis of length 1.
        pred: Predicted labels, like `truth`.
        eval_path: Folder of the file ``<eval_path>/<case_id>.gif``; created if it does not exist.
        class_names: A name per class, background first.

    Returns:
        The file.

    Example:
        >>> visualize_evaluation("case_00000", image, truth, prediction, "evaluation")  # doctest: +SKIP
        PosixPath('evaluation/case_00000.gif')
    """
    truth, pred = (_without_channel(np.asarray(labels)) for labels in (truth, pred))
    vol = np.asarray(vol)
    if vol.ndim == truth.ndim:
        vol = vol[..., np.newaxis]
    classes = 1 + int(max(truth.max(), pred.max(), 1))
    sample = Sample(case_id, vol, vol.shape[-1], classes, {}, three_dim=truth.ndim == 3)
    sample.add_segmentation(truth)
    sample.add_prediction(pred)
    return visualize_samples([sample], eval_path, mask_seg=True, mask_pred=True, class_names=class_names)[0]


def _without_channel(labels: np.ndarray) -> np.ndarray:
    return labels[..., 0] if labels.shape[-1] == 1 else labels
