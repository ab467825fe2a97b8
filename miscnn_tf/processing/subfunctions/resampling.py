"""Bring all samples to one voxel size, and the base of all steps that interpolate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from miscnn_tf._base.arguments import per_axis, sequence, spacings, whole_number
from miscnn_tf.data_loading.geometry import resampled_shape
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.interpolation import (
    ANISOTROPY,
    axis_orders,
    resize_image,
    resize_labels,
    resize_probabilities,
    resize_probabilities_to_labels,
    resizing_bytes,
)
from miscnn_tf.processing.patching.blending import SlabRows
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec

#: In place of a length: voxels keep their size along this axis.
KEEP: Final = "keep"


class Regridding(Abstract_Subfunction):
    """Base of the steps that interpolate an image onto another grid, and the prediction back onto the first.

    The outer edges of the grid stay in place, so the new spacing is the extent divided by the number of voxels; it is
    written to ``sample.details["spacing"]``. Anisotropic volumes are interpolated in-plane with the full order and
    across their slices with order 1 at most (see `miscnn_tf.processing.interpolation`).

    Args:
        order_img: Order of the spline for images, 0 (nearest) to 5.
        order_seg: The same for label maps, whose labels are interpolated as indicator images; 0 takes the nearest
            voxel.
    """

    acts_on_activation = True
    interpolates = True
    streams = True
    same_image_in_training = True

    def __init__(self, order_img: int, order_seg: int) -> None:
        name = type(self).__name__
        self.order_img = whole_number(order_img, f"{name}: order_img", 0, 5)
        self.order_seg = whole_number(order_seg, f"{name}: order_seg", 0, 5)

    @abstractmethod
    def target_shape(self, image: ImageSpec) -> tuple[int, ...]:
        """Return the spatial shape of the new grid."""

    def output_spec(self, image: ImageSpec) -> ImageSpec:
        """Return the new shape and spacing, float32."""
        target, spacing = self.target_shape(image), image.spacing
        if spacing is not None:
            spacing = tuple(size * old / new for size, old, new in zip(spacing, image.shape, target, strict=True))
        return image.replace(shape=target, spacing=spacing, dtype=np.dtype(np.float32))

    def working_bytes(self, image: ImageSpec) -> int:
        """Return the memory of the slabs that are being interpolated."""
        return resizing_bytes(image.shape, self.target_shape(image), image.channels, self.order_img)

    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Interpolate the image and, in training, the label map onto the new grid. The image becomes float32."""
        before = ImageSpec.of(sample)
        after = self.output_spec(before)
        image_orders = self.orders(self.order_img, before, after)
        label_orders = self.orders(self.order_seg, before, after)
        sample.img_data = self.resize(sample.img_data, after.shape, image_orders)
        if training and sample.seg_data is not None:
            sample.seg_data = resize_labels(sample.seg_data, after.shape, label_orders)
        if sample.previous_data is not None:
            sample.previous_data = resize_labels(sample.previous_data, after.shape, label_orders)
        if after.spacing is not None:
            sample.details["spacing"] = list(after.spacing)
        self.remember(
            sample,
            shape=before.shape,
            new_shape=after.shape,
            label_orders=label_orders,
            probability_orders=self.probability_orders(before, after),
        )

    def resize(self, image: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
        """Interpolate an image ``(x, y[, z], channels)``, and return it as float32."""
        return resize_image(image, shape, orders)

    def orders(self, order: int, before: ImageSpec, after: ImageSpec) -> tuple[int, ...]:
        """Return the order of each axis, lower across thick slices."""
        return axis_orders(order, len(before.shape), before.spacing, after.spacing)

    def probability_orders(self, before: ImageSpec, after: ImageSpec) -> tuple[int, ...]:
        """Return the order of each axis with which probabilities are brought back: linear."""
        return (1,) * len(before.shape)

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Interpolate labels, or class probabilities (linearly, as float32), onto the grid before the step."""
        record = self._record(sample, prediction)
        if activation_output:
            return resize_probabilities(prediction, record["shape"], record.get("probability_orders", 1))
        return resize_labels(prediction, record["shape"], record["label_orders"])

    def postprocess_to_labels(self, sample: Sample, activation: np.ndarray | SlabRows) -> np.ndarray:
        """Interpolate class probabilities and decide the labels after that, a slab at a time."""
        record = self._record(sample, activation)
        sections = activation.sections if isinstance(activation, SlabRows) else 1
        return resize_probabilities_to_labels(
            activation,
            record["shape"],
            sections=sections,
            scheme=sample.scheme,
            order=record.get("probability_orders", 1),
        )

    def undoing_bytes(
        self, shape: Sequence[int], original: Sequence[int], classes: int, activation_output: bool
    ) -> int:
        """Return the memory of the slabs that are being interpolated; none where the grid is unchanged."""
        if tuple(shape) == tuple(original):
            return 0
        if activation_output:
            return resizing_bytes(shape, original, classes)
        return resizing_bytes(shape, original, 1, self.order_seg)

    def _record(self, sample: Sample, prediction: np.ndarray | SlabRows) -> dict[str, Any]:
        record = self.recall(sample)
        self.require_grid(sample, prediction, record["new_shape"])
        return record


class Resampling(Regridding):
    """Interpolate image and label map to a new spacing, and the prediction back to the original shape.

    The new shape is ``floor(shape * spacing / new_spacing)``, at least 1; less than a thousandth of a voxel below a
    whole number is treated as a rounding error and counts as that number. Image edges stay in place, so the spacing
    that results, ``shape * spacing / new shape``, is slightly coarser than `new_spacing` where the extent is not a
    multiple of it; it is stored in ``sample.details["spacing"]``.

    Args:
        new_spacing: Voxel size in mm per axis. Equal values, as in the default, work in 2D and 3D. ``"keep"`` leaves an
            axis as it is in each sample, such as that across the slices for a network that sees them one by one.
        order_img: Order of the spline for images, 0 (nearest) to 5. Across the slices of anisotropic volumes (one axis
            three times coarser or more) it is 1 at most.
        order_seg: The same for label maps, label by label; 0 takes the nearest voxel.

    Raises:
        ConfigurationError: If a spacing is not positive or an order not from 0 to 5.
        DataError: In `preprocessing`, if the spacing of the sample is unknown.

    Example:
        >>> import numpy as np
        >>> sample = Sample("a", np.zeros((40, 40, 10)), channels=1, classes=2, extended={"spacing": (0.5, 0.5, 3.0)})
        >>> Resampling((1, 1, 1)).preprocessing(sample)
        >>> sample.img_data.shape
        (20, 20, 30, 1)
    """

    def __init__(self, new_spacing: Sequence[float | str] = (1, 1, 1), order_img: int = 3, order_seg: int = 1) -> None:
        super().__init__(order_img, order_seg)
        given = sequence(new_spacing, "Resampling: new_spacing")
        if set(given) == {KEEP}:
            raise ConfigurationError(f"Resampling: new_spacing={new_spacing!r} keeps all axes; leave the step out")
        lengths = iter(spacings([one for one in given if one != KEEP], "Resampling: new_spacing"))
        self.new_spacing = tuple(one if one == KEEP else next(lengths) for one in given)

    def target_shape(self, image: ImageSpec) -> tuple[int, ...]:
        """Return the shape that gives `new_spacing`, rounded down.

        Raises:
            DataError: If the spacing is unknown, or not one positive length per axis.
        """
        wanted = per_axis(self.new_spacing, len(image.shape), "Resampling: new_spacing")
        if image.spacing is None:
            raise DataError(
                f"sample {image.index!r}: Resampling needs the voxel size, one positive length in mm for each of the "
                f"{len(image.shape)} axes, but the sample's spacing is missing or not that. Return it from the "
                "interface as extended['spacing'] or in its details, or use Resize, which needs none"
            )
        kept = [old if new == KEEP else new for old, new in zip(image.spacing, wanted, strict=True)]
        return resampled_shape(image.shape, image.spacing, kept)


class NnUNetResampling(Resampling):
    """Resampling exactly as nnU-Net's, for its models.

    The new shape is rounded to the nearest whole number, instead of down. A volume is anisotropic if a spacing is more
    than three times the smallest one, of the source, or else of `new_spacing`, and only if one axis alone has the
    largest; across it, images and predictions have the order `order_across`.

    Args:
        new_spacing: As in `Resampling`.
        order_img: Order of the spline for images.
        order_seg: The same for label maps.
        order_across: Order across thick slices, 0 (nearest) or 1.

    Example:
        >>> sample = Sample("a", np.zeros((40, 40, 10)), channels=1, classes=2, extended={"spacing": (0.5, 0.5, 3.0)})
        >>> NnUNetResampling((0.6, 0.6, 2.9)).preprocessing(sample)
        >>> sample.img_data.shape
        (33, 33, 10, 1)

    Reference: ``resample_data_or_seg_to_shape`` of nnunetv2 2.8.1.
    """

    def __init__(
        self,
        new_spacing: Sequence[float | str] = (1, 1, 1),
        order_img: int = 3,
        order_seg: int = 1,
        order_across: int = 0,
    ) -> None:
        super().__init__(new_spacing, order_img, order_seg)
        self.order_across = whole_number(order_across, "NnUNetResampling: order_across", 0, 1)

    def target_shape(self, image: ImageSpec) -> tuple[int, ...]:
        """Return the shape that gives `new_spacing`, rounded."""
        super().target_shape(image)  # raises the errors
        wanted = self._wanted(image)
        assert image.spacing is not None
        return tuple(
            max(1, round(old / new * size)) for old, new, size in zip(image.spacing, wanted, image.shape, strict=True)
        )

    def orders(self, order: int, before: ImageSpec, after: ImageSpec) -> tuple[int, ...]:
        """Return the order of each axis."""
        assert before.spacing is not None
        return self._lower_across(order, before.spacing, self._wanted(before))

    def probability_orders(self, before: ImageSpec, after: ImageSpec) -> tuple[int, ...]:
        """Return the order of each axis on the way back, which begins with the new spacing."""
        assert before.spacing is not None
        return self._lower_across(1, self._wanted(before), before.spacing)

    def resize(self, image: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
        """Interpolate an image; thick slices one by one, each within its own range of values, and then across them."""
        if len(set(orders)) == 1:
            return super().resize(image, shape, orders)
        across = next(axis for axis, order in enumerate(orders) if order != max(orders))
        within = [axis for axis in range(len(shape)) if axis != across]
        slices = [
            resize_image(image.take(place, across), [shape[axis] for axis in within], max(orders))
            for place in range(image.shape[across])
        ]
        return super().resize(np.stack(slices, across), shape, orders)

    def _wanted(self, image: ImageSpec) -> list[float]:
        assert image.spacing is not None
        wanted = per_axis(self.new_spacing, len(image.shape), "NnUNetResampling: new_spacing")
        return [old if new == KEEP else new for old, new in zip(image.spacing, wanted, strict=True)]

    def _lower_across(self, order: int, source: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
        for grid in (source, target):
            if max(grid) / min(grid) > ANISOTROPY:
                thick = [axis for axis, size in enumerate(grid) if size == max(grid)]
                return tuple(
                    self.order_across if len(thick) == 1 and axis == thick[0] else order for axis in range(len(grid))
                )
        return (order,) * len(source)
