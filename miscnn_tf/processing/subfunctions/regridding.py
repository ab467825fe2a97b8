"""What resampling to a spacing and resizing to a shape have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from miscnn_tf.arguments import whole_number
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.interpolation import (
    axis_orders,
    resize_image,
    resize_labels,
    resize_probabilities,
    resize_probabilities_to_labels,
)
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction


class Regridding(Abstract_Subfunction):
    """Base of the steps that interpolate an image onto another grid, and the prediction back onto the first.

    The outer edges of the grid stay where they are, so its new spacing is the extent divided by the number of voxels;
    it is written to ``sample.details["spacing"]``. Anisotropic volumes are interpolated in-plane with the full order
    and across their slices with order 1 at most (see `miscnn_tf.processing.interpolation`).

    Args:
        order_img: Order of the spline for images, 0 (nearest) to 5.
        order_seg: The same for label maps, whose labels are interpolated as indicator images; 0 takes the nearest
            voxel.
    """

    acts_on_activation = True
    interpolates = True

    def __init__(self, order_img: int, order_seg: int) -> None:
        name = type(self).__name__
        self.order_img = whole_number(order_img, f"{name}: order_img", 0, 5)
        self.order_seg = whole_number(order_seg, f"{name}: order_seg", 0, 5)

    @abstractmethod
    def target_shape(self, sample: Sample) -> tuple[int, ...]:
        """The spatial shape that the sample is to have."""

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Put image and, in training, label map onto the new grid. The image becomes float32."""
        shape, spacing = sample.img_data.shape[:-1], known_spacing(sample)
        target = self.target_shape(sample)
        new_spacing = None
        if spacing is not None:
            new_spacing = [size * old / new for size, old, new in zip(spacing, shape, target, strict=True)]
        image_orders = axis_orders(self.order_img, sample.ndim, spacing, new_spacing)
        label_orders = axis_orders(self.order_seg, sample.ndim, spacing, new_spacing)
        sample.img_data = resize_image(sample.img_data, target, image_orders)
        if training and sample.seg_data is not None:
            sample.seg_data = resize_labels(sample.seg_data, target, label_orders)
        if new_spacing is not None:
            sample.details["spacing"] = new_spacing
        self.remember(sample, shape=shape, new_shape=target, label_orders=label_orders)

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Put labels, or class probabilities (linearly, as float32), back onto the grid that the sample had before."""
        record = self._record(sample, prediction)
        if activation_output:
            return resize_probabilities(prediction, record["shape"])
        return resize_labels(prediction, record["shape"], record["label_orders"])

    def postprocess_to_labels(self, sample: Sample, activation: np.ndarray) -> np.ndarray:
        """Interpolate class probabilities and decide the labels after that, a slab at a time."""
        shape = self._record(sample, activation)["shape"]
        return resize_probabilities_to_labels(activation, shape, sections=getattr(activation, "sections", 1))

    def _record(self, sample: Sample, prediction: np.ndarray) -> dict[str, Any]:
        record = self.recall(sample)
        check_grid(self, sample, prediction, record["new_shape"])
        return record


def known_spacing(sample: Sample) -> tuple[float, ...] | None:
    """The sample's spacing if it is one positive length per spatial axis, otherwise None."""
    spacing = sample.spacing
    usable = spacing is not None and len(spacing) == sample.ndim and all(0 < size < math.inf for size in spacing)
    return spacing if usable else None


def check_grid(step: Abstract_Subfunction, sample: Sample, prediction: np.ndarray, shape: list[int]) -> None:
    """Refuse a prediction that does not lie on the grid that the step made.

    Raises:
        DataError: If its spatial shape is not `shape`.
    """
    if list(prediction.shape[: len(shape)]) != list(shape):
        raise DataError(
            f"sample {sample.index!r}: {type(step).__name__} made an image of {tuple(shape)} voxels, but the "
            f"prediction has the shape {prediction.shape}; undo the subfunctions in reverse order, each on the result "
            "of the one after it"
        )
