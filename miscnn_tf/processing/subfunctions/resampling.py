"""Bring all samples to one voxel size."""

from __future__ import annotations

from collections.abc import Sequence

from miscnn_tf.arguments import per_axis, spacings
from miscnn_tf.data_loading.geometry import resampled_shape
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.subfunctions.regridding import Regridding, known_spacing


class Resampling(Regridding):
    """Interpolate image and label map to a new spacing, and the prediction back to the original shape.

    The new shape is ``floor(shape * spacing / new_spacing)``, at least 1; less than a thousandth of a voxel below a
    whole number is taken as rounding error, and counts as the whole. Image edges stay in place, so the spacing that
    results, ``shape * spacing / new shape``, is slightly coarser than `new_spacing` where the extent is no multiple of
    it; it is found in ``sample.details["spacing"]``.

    Args:
        new_spacing: Voxel size in mm per axis. Equal values, as in the default, serve 2D and 3D.
        order_img: Order of the spline for images, 0 (nearest) to 5. Across the slices of anisotropic volumes (one axis
            three times coarser or more) it is 1 at most.
        order_seg: The same for label maps, label by label; 0 takes the nearest voxel.

    Raises:
        ConfigurationError: If a spacing is not positive or an order not from 0 to 5.
        DataError: In `preprocessing`, if the spacing of the sample is not known.

    Example:
        >>> import numpy as np
        >>> sample = Sample("a", np.zeros((40, 40, 10)), channels=1, classes=2, extended={"spacing": (0.5, 0.5, 3.0)})
        >>> Resampling((1, 1, 1)).preprocessing(sample)
        >>> sample.img_data.shape
        (20, 20, 30, 1)
    """

    def __init__(self, new_spacing: Sequence[float] = (1, 1, 1), order_img: int = 3, order_seg: int = 1) -> None:
        super().__init__(order_img, order_seg)
        self.new_spacing = spacings(new_spacing, "Resampling: new_spacing")

    def target_shape(self, sample: Sample) -> tuple[int, ...]:
        """The shape that gives `new_spacing`, rounded down.

        Raises:
            DataError: If the sample's spacing is unknown, or not one positive length per axis.
        """
        wanted = per_axis(self.new_spacing, sample.ndim, "Resampling: new_spacing")
        spacing = known_spacing(sample)
        if spacing is None:
            raise DataError(
                f"sample {sample.index!r}: Resampling needs the size of its voxels, one length in mm for each of the "
                f"{sample.ndim} axes, but sample.spacing is {sample.spacing}. Have the interface return it as "
                "extended['spacing'] or in its details, or use Resize, which needs none"
            )
        return resampled_shape(sample.img_data.shape[:-1], spacing, wanted)
