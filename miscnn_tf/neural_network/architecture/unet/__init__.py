"""U-Net architectures. The class of each module is called ``Architecture``; `family` has their base class."""

from miscnn_tf.neural_network.architecture.unet.attention import Architecture as UNet_attention
from miscnn_tf.neural_network.architecture.unet.attention_residual import Architecture as UNet_attention_residual
from miscnn_tf.neural_network.architecture.unet.compact import Architecture as UNet_compact
from miscnn_tf.neural_network.architecture.unet.dense import Architecture as UNet_dense
from miscnn_tf.neural_network.architecture.unet.multiPath import Architecture as UNet_multiPath
from miscnn_tf.neural_network.architecture.unet.multiRes import Architecture as UNet_multiRes
from miscnn_tf.neural_network.architecture.unet.plain import Architecture as UNet_plain
from miscnn_tf.neural_network.architecture.unet.residual import Architecture as UNet_residual
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as UNet_standard

__all__ = [
    "UNet_attention",
    "UNet_attention_residual",
    "UNet_compact",
    "UNet_dense",
    "UNet_multiPath",
    "UNet_multiRes",
    "UNet_plain",
    "UNet_residual",
    "UNet_standard",
]
