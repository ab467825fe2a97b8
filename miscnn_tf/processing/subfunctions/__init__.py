"""Steps that prepare a sample for the network and are undone on its prediction."""

from __future__ import annotations

from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction, ImageSpec
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.cropping import CropNonzero
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.orientation import Orientation
from miscnn_tf.processing.subfunctions.padding import Padding
from miscnn_tf.processing.subfunctions.resampling import NnUNetResampling, Resampling
from miscnn_tf.processing.subfunctions.resize import Resize
from miscnn_tf.processing.subfunctions.transform_HU import TransformHU
from miscnn_tf.registry import Registry

__all__ = [
    "Abstract_Subfunction",
    "Clipping",
    "CropNonzero",
    "ImageSpec",
    "NnUNetResampling",
    "Normalization",
    "Orientation",
    "Padding",
    "Resampling",
    "Resize",
    "TransformHU",
    "subfunctions",
]

#: All subfunctions by name; a package of your own adds to it with an entry point in the group "miscnn_tf.subfunctions".
subfunctions: Registry[type[Abstract_Subfunction]] = Registry("subfunction", "miscnn_tf.subfunctions")
for _class in (
    Clipping,
    CropNonzero,
    Normalization,
    NnUNetResampling,
    Orientation,
    Padding,
    Resampling,
    Resize,
    TransformHU,
):
    subfunctions.register(_class.__name__, _class)
