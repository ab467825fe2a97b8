"""Grad-CAM for segmentation: the places of the image that speak for a class."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import chosen_classes
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.assembling import assemble_maps
from miscnn_tf.processing.interpolation import resize_probabilities
from miscnn_tf.processing.segmenter import PatchSegmenter
from miscnn_tf.xai.regions import Region, SampleRegion, check_region
from miscnn_tf.xai.results import MapWriter, each_sample

T = TypeVar("T")


def compute_gradient_heatmap(
    sample_list: Sequence[Hashable] | Hashable,
    model: PatchSegmenter,
    classes: Sequence[int] | int | None = None,
    layer: str | None = None,
    region: Region = "predicted",
    normalize: bool = True,
    return_output: bool = False,
    output_path: str | Path | None = None,
    overlays: bool = True,
) -> list[np.ndarray] | None:
    r"""Compute Grad-CAM heat maps of samples.

    The score of a class is summed over a region of the image: :math:`S^c = \sum_{x \in R} y^c(x)`, with the network's
    output before its softmax. Each feature map :math:`A^k` of a layer counts by the mean gradient
    :math:`\alpha^c_k = \frac{1}{Z} \sum_i \partial S^c / \partial A^k_i`, and the heat map is
    :math:`\mathrm{ReLU}(\sum_k \alpha^c_k A^k)`, interpolated linearly to the image (equations 1 and 2 of Selvaraju et
    al., with the score of Vinogradova et al.).

    A network that works on patches has one :math:`\alpha^c_k` for the whole image: the score is that of the blended
    image, and Z counts the places of all patches. The patches' heat maps are then blended as predictions are, so that
    the map is of one scale everywhere. The network runs once per patch for the scores and once for the maps, and
    forwards and backwards once more for each class.

    Args:
        sample_list: Names of the samples, or one name.
        model: The trained network; its layers have to be in a functional Keras model.
        classes: The classes, by default all but the background (0).
        layer: Name of the layer with the feature maps; by default the last convolution of the bottleneck. Layers
            further up the decoder give sharper maps that show less of the surroundings.
        region: Where the score is taken: ``"predicted"`` (each patch's voxels of that label), ``"all"``, ``"truth"``
            (the sample's label map), or masks by sample, ``{index: (x, y[, z])}``, on the original image.
        normalize: Divide each map by its largest value, so that it goes from 0 to 1. A map that is 0 everywhere (a
            class that occurs nowhere in its region) stays so.
        return_output: Return the maps instead of writing them.
        output_path: Folder for the files; by default ``gradcam`` below the output path of the model's `Data_IO`.
        overlays: Draw a picture beside each file.

    Returns:
        With `return_output` a list of float32 arrays ``(x, y[, z], len(classes))`` on the original images' grids.
        Otherwise, each map is written as soon as it is made: ``<index>.gradcam.class-<number>.nii.gz`` in the image's
        geometry where that is known, else ``.npy``; and a ``.png``.

    Raises:
        ConfigurationError: If the layer (the message lists all), a class or the region is not known, or the model is a
            group.

    Example:
        >>> compute_gradient_heatmap(["case_00000"], model)  # doctest: +SKIP
        >>> (heat,) = compute_gradient_heatmap("case_00000", model, classes=1, return_output=True)  # doctest: +SKIP

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
        arXiv 1610.02391. Vinogradova, Dibrov & Myers, "Towards Interpretable Semantic Segmentation via
        Gradient-weighted Class Activation Mapping", AAAI 2020, arXiv 2002.11434.
    """
    # Starts TensorFlow, which the network has done.
    from miscnn_tf.neural_network.attribution import ClassGradients, check_layer, feature_layers

    scheme_of(model.preprocessor.data_io.interface).require_classes("the map of a class")
    numbers = chosen_classes(classes, model.classes)
    names = [f"class-{number}" for number in numbers]
    label = "Grad-CAM, share of the largest" if normalize else "Grad-CAM"
    writer = MapWriter(model, "gradcam", names, label, output_path, overlays)
    network = model.in_float32()
    gradients: ClassGradients | None = None

    def heat_maps(sample: Sample) -> np.ndarray:
        nonlocal gradients
        predictor, plan = model.patch_predictor(), model.plan
        if gradients is None:
            layers = feature_layers(network, plan.patch_shape_for(sample.img_data.shape[:-1]))
            gradients = ClassGradients.of(network, check_layer(layer, layers), predictor.patch_shape)
        of_layer = gradients
        places = SampleRegion(model, sample, region)
        weights = np.zeros((len(numbers), of_layer.features))  # of each feature map for each class
        count = 0
        for batch in _batches(places.patches(), predictor.batch_size):
            images = np.stack([patch.image for patch in batch])
            scores = of_layer.scores(images)
            for row, number in enumerate(numbers):
                counts = np.stack([places.counts(*pair, number) for pair in zip(batch, scores, strict=True)])
                # Where nothing counts, there is no gradient to compute.
                if counts.any():
                    weights[row] += of_layer.gradient(images, counts, number)
            count += len(batch)
        means = (weights / count).astype(np.float32)

        def patch_maps() -> Iterator[np.ndarray]:
            for batch in _batches(plan.patches(sample), predictor.batch_size):
                images = np.stack(batch)
                for features in of_layer.feature_maps(images):
                    yield resize_probabilities(np.maximum(features @ means.T, 0), images.shape[1:-1])

        maps = assemble_maps(sample, patch_maps(), plan, model.preprocessor.subfunctions, len(numbers))
        if normalize:
            most = maps.max(axis=tuple(range(sample.ndim)))
            # In place where that is possible: maps of a CT are gigabytes.
            out = maps if maps.flags.writeable else None
            maps = np.divide(maps, np.where(most > 0, most, np.float32(1)), out=out)
        return maps

    def check(indices: list[Hashable]) -> None:
        check_region(region, indices)

    return each_sample(sample_list, model, heat_maps, writer, return_output, check, load_seg=region == "truth")


def _batches(patches: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(patches, size)):
        yield batch
