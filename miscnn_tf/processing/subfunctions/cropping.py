"""Crop images to the voxels that are not zero."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec


class CropNonzero(Abstract_Subfunction):
    """Crop to the smallest box with all voxels that are not 0 in any channel; the prediction is background around it.

    MRI of the brain is often 0 outside of the head or after skull stripping. The box makes the images smaller and lets
    patches show more of what matters, as in nnU-Net. An image that is 0 everywhere is not cropped.

    Example:
        >>> sample = Sample("a", np.pad(np.ones((2, 3)), 4), channels=1, classes=2)
        >>> CropNonzero().preprocessing(sample)
        >>> sample.img_data.shape
        (2, 3, 1)
    """

    acts_on_activation = True
    same_image_in_training = True

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Crop the image and, in training, the label map."""
        shape, box = sample.img_data.shape[:-1], nonzero_box(sample.img_data)
        sample.img_data = sample.img_data[box]
        if training and sample.seg_data is not None:
            sample.seg_data = sample.seg_data[box]
        if sample.previous_data is not None:
            sample.previous_data = sample.previous_data[box]
        self.remember(
            sample, shape=shape, new_shape=sample.img_data.shape[:-1], start=[int(along.start) for along in box]
        )

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Return labels or class probabilities of the whole image: class 0, or no region, around the box."""
        record = self.recall(sample)
        self.require_grid(sample, prediction, record["new_shape"])
        if record["shape"] == record["new_shape"]:
            return prediction
        whole = np.zeros((*record["shape"], *prediction.shape[len(record["shape"]) :]), prediction.dtype)
        if activation_output and not sample.scheme.regions:  # the first channel of regions is one of them
            whole[..., 0] = 1
        box = (slice(at, at + size) for at, size in zip(record["start"], record["new_shape"], strict=True))
        whole[tuple(box)] = prediction
        return whole

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return the image as it is: the largest result."""
        return image

    def working_bytes(self, image: ImageSpec) -> int:
        """Return the memory of the mask; the results are views."""
        return 2 * image.nbytes // (image.dtype.itemsize * image.channels)


def nonzero_box(image: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box of the voxels that are not 0 in any channel; the whole image if there are none.

    Args:
        image: ``(x, y[, z], channels)``.
    """
    mask = np.any(image != 0, axis=-1)
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, mask.shape[axis]))
    return tuple(box)


def nonzero_mask(image: np.ndarray) -> np.ndarray:
    """Return the voxels that are not 0 in any channel, and those that they enclose.

    Args:
        image: ``(x, y[, z], channels)``.

    Returns:
        bool ``(x, y[, z])``.
    """
    mask: np.ndarray = np.any(image != 0, axis=-1)
    # Zeros that are not connected to the border; much faster than ndimage.binary_fill_holes on volumes.
    zeros, _ = ndimage.label(~mask)
    border = [np.unique(np.take(zeros, (0, -1), axis=axis)) for axis in range(mask.ndim)]
    outside = np.zeros(int(zeros.max()) + 1, bool)
    outside[np.concatenate(border)] = True
    outside[0] = False
    return ~outside[zeros]
