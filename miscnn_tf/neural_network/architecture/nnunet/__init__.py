"""nnU-Net's architectures and MedNeXt. The class of each module is called ``Architecture``.

`family` has the base class of nnU-Net's.
"""

from miscnn_tf.neural_network.architecture.nnunet.mednext import Architecture as MedNeXt
from miscnn_tf.neural_network.architecture.nnunet.plain import Architecture as NnUNet_plain
from miscnn_tf.neural_network.architecture.nnunet.residual import Architecture as NnUNet_residual

__all__ = ["MedNeXt", "NnUNet_plain", "NnUNet_residual"]
