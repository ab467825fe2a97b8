"""The segmentation from the previous stage of a cascade for an image that belongs to no data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.file_names import stem_of
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.previous_stage import read_previous

#: A label map, or its file.
Segmentation = str | Path | np.ndarray


def add_previous(
    sample: Sample, preprocessor: Preprocessor, given: Segmentation | None, interface: Abstract_IO | None = None
) -> None:
    """Add the segmentation from the previous stage to an image, before it is prepared.

    Args:
        sample: The image as it was read.
        preprocessor: That of the network.
        given: Labels ``(x, y[, z])``, or a file of them; None for a network that needs none.
        interface: Reads the file.

    Raises:
        ConfigurationError: If it is missing, or the network is not the second stage of a cascade.
        MissingDataError: If the file does not exist.
        GridError: If it is not on the grid of the image.
    """
    if given is not None:
        if preprocessor.previous_stage is None:
            raise ConfigurationError(
                "previous_segmentation is given, but the network was trained without a previous stage; leave it out"
            )
        if interface is None or isinstance(given, np.ndarray):
            sample.add_previous(np.asarray(given))
        else:
            file = Path(given)
            if not file.is_file():
                raise MissingDataError(f"the segmentation of the previous stage, {file}, does not exist; correct it")
            sample.add_previous(read_previous(interface, sample, stem_of(file), file.parent))
    require_previous(sample, preprocessor)


def require_previous(sample: Sample, preprocessor: Preprocessor) -> None:
    """Require that a sample has a segmentation from the previous stage if the network needs it.

    Raises:
        ConfigurationError: If it is missing.
    """
    stage = preprocessor.previous_stage
    if stage is not None and sample.previous_data is None:
        raise ConfigurationError(
            f"{sample.index}: the network is the second stage of a cascade, and needs the segmentation of the image by "
            f"the first one, which was trained in {stage.path}. Segment the image by that model, and pass the result "
            "as previous_segmentation; miscnn-tf predict does both"
        )
