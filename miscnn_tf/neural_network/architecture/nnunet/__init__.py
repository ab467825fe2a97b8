"""nnU-Net's architectures. The class of each module is called ``Architecture``; `family` has their base class."""

from miscnn_tf.neural_network.architecture.nnunet.plain import Architecture as NnUNet_plain
from miscnn_tf.neural_network.architecture.nnunet.residual import Architecture as NnUNet_residual

__all__ = ["NnUNet_plain", "NnUNet_residual"]
