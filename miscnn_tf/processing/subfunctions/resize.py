"""Bring all samples to one shape."""

from __future__ import annotations

from collections.abc import Sequence

from miscnn_tf._base.arguments import per_axis, sizes
from miscnn_tf.processing.subfunctions.abstract_subfunction import ImageSpec
from miscnn_tf.processing.subfunctions.resampling import Regridding


class Resize(Regridding):
    """Interpolate image and label map to a fixed shape, and the prediction back to the original one.

    Proportions are not kept. Where the spacing is known, ``sample.details["spacing"]`` is updated, and an anisotropic
    volume is interpolated as in `Resampling`.

    Args:
        new_shape: Number of voxels per axis. Equal values, as in the default, work in 2D and 3D.
        order_img: Order of the spline for images, 0 (nearest) to 5.
        order_seg: The same for label maps, label by label; 0 takes the nearest voxel.

    Raises:
        ConfigurationError: If a size is below 1 or an order not from 0 to 5.

    Example:
        >>> import numpy as np
        >>> from miscnn_tf.data_loading.sample import Sample
        >>> sample = Sample("a", np.zeros((40, 60)), channels=1, classes=2)
        >>> Resize((32, 32)).preprocessing(sample)
        >>> sample.img_data.shape
        (32, 32, 1)
    """

    def __init__(self, new_shape: Sequence[int] = (128, 128, 128), order_img: int = 3, order_seg: int = 1) -> None:
        super().__init__(order_img, order_seg)
        self.new_shape = sizes(new_shape, "Resize: new_shape")

    def target_shape(self, image: ImageSpec) -> tuple[int, ...]:
        """Return `new_shape`, for the axes that the image has."""
        return per_axis(self.new_shape, len(image.shape), "Resize: new_shape")
