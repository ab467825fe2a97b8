"""The standard U-Net."""

from __future__ import annotations

from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The U-Net of Ronneberger et al. for images and volumes, with padded convolutions.

    Each level of the encoder is twice (3-convolution, ReLU, batch normalisation), then 2-max-pooling; the number of
    filters doubles from level to level. After a bridge of the same kind each level of the decoder is a 2-transposed
    convolution, the concatenation with the encoder's output of that level, and again the two convolutions. A
    1-convolution with the activation gives the class probabilities, in float32 under mixed precision too.

    Args:
        n_filters: Filters of the first level.
        depth: How often the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        activation: Of the output: "softmax" (classes exclude each other) or "sigmoid" (each for itself), or any other
            that Keras knows by name.
        batch_normalization: Normalise by the batch's statistics (momentum 0.99) after each convolution.
        instance_normalization: Normalise each image of a batch by its own statistics instead. Choose it for batches of
            one or two patches; set ``batch_normalization=False`` with it.

    Raises:
        ConfigurationError: If an argument cannot work.

    Example:
        >>> model = Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3)
        >>> model.output_shape
        (None, 32, 32, 16, 3)

    References:
        Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        arXiv 1505.04597. Çiçek et al., "3D U-Net", MICCAI 2016, arXiv 1606.06650.
    """
