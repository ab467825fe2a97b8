"""The U-Net family: each module names its class ``Architecture``."""

from miscnn_tf.neural_network.architecture.unet.standard import Architecture as UNet_standard

__all__ = ["UNet_standard"]
