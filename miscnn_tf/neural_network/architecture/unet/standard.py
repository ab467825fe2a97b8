"""The standard U-Net."""

from __future__ import annotations

from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The U-Net of Ronneberger et al. for images and volumes, with padded convolutions.

    Each level of the encoder has a block of two convolutions (kernel 3), each with ReLU and batch normalisation,
    followed by max-pooling by 2; the number of filters doubles with each level. The bridge has the same block. Each
    level of the decoder has a transposed convolution (kernel and stride 2), the concatenation with the encoder's
    output, and the same block. A convolution with kernel 1 and the activation returns the class probabilities, always
    in float32.

    Args:
        n_filters: Filters of the first level.
        depth: Number of times that the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        activation: Activation of the output: "softmax" (exclusive classes), "sigmoid" (independent classes), or another
            name of a Keras activation.
        batch_normalization: Normalise by the batch's statistics (momentum 0.99) after each convolution.
        instance_normalization: Normalise each image of a batch by its own statistics instead. Choose it for batches of
            one or two patches; set ``batch_normalization=False`` with it.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> model = Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3)
        >>> model.output_shape
        (None, 32, 32, 16, 3)

    References:
        Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        arXiv 1505.04597. Çiçek et al., "3D U-Net", MICCAI 2016, arXiv 1606.06650.
    """
