"""Network architectures: the registry, the base class and the U-Net family.

Get an architecture by name from the registry, or import it from its module. Third-party packages add architectures with
the entry point group ``miscnn_tf.architectures``, scripts with ``architectures.register``. Model files can only name
registered architectures.

Example:
    >>> from miscnn_tf.neural_network.architecture import architectures
    >>> architectures.get("unet_standard")(n_filters=16, depth=3).divisor
    8
    >>> @architectures.register("my_net")
    ... class MyNet(Abstract_Architecture): ...
"""

from __future__ import annotations

from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.nnunet import MedNeXt, NnUNet_plain, NnUNet_residual
from miscnn_tf.neural_network.architecture.unet import (
    UNet_attention,
    UNet_attention_residual,
    UNet_compact,
    UNet_dense,
    UNet_multiPath,
    UNet_multiRes,
    UNet_plain,
    UNet_residual,
    UNet_standard,
)
from miscnn_tf.registry import Registry

__all__ = ["Abstract_Architecture", "architectures"]

#: All architectures by name.
architectures: Registry[type] = Registry("architecture", "miscnn_tf.architectures")
architectures.register("unet_standard", UNet_standard)
architectures.register("unet_plain", UNet_plain)
architectures.register("unet_residual", UNet_residual)
architectures.register("unet_dense", UNet_dense)
architectures.register("unet_compact", UNet_compact)
architectures.register("unet_attention", UNet_attention)
architectures.register("unet_attention_residual", UNet_attention_residual)
architectures.register("unet_multiRes", UNet_multiRes)
architectures.register("unet_multiPath", UNet_multiPath)
architectures.register("nnunet_plain", NnUNet_plain)
architectures.register("nnunet_residual", NnUNet_residual)
architectures.register("mednext", MedNeXt)
