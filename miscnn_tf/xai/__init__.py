"""Explanations of a network's decisions: Grad-CAM, occlusion sensitivity and certainty, as maps over the image.

Each takes the names of samples and a trained model, and works on one sample at a time. The maps are on the original
image's grid, whatever the subfunctions and patches are.

Example:
    >>> from miscnn_tf.xai import gradcam, occlusion_sensitivity, certaintymap
    >>> gradcam.compute_gradient_heatmap(samples, model)  # doctest: +SKIP
    >>> (drop,) = occlusion_sensitivity(samples[:1], model, classes=[1], return_output=True)  # doctest: +SKIP
    >>> certaintymap.compute_certaintymap(samples, model, kind="entropy")  # doctest: +SKIP
"""

from __future__ import annotations

from miscnn_tf.xai import certaintymap, gradcam, occlusion_sensitivity
from miscnn_tf.xai.certaintymap import compute_certaintymap
from miscnn_tf.xai.gradcam import compute_gradient_heatmap

__all__ = ["certaintymap", "compute_certaintymap", "compute_gradient_heatmap", "gradcam", "occlusion_sensitivity"]
