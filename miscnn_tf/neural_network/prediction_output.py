"""Format and values in which a prediction is written, and a picture of it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import inside, make_folder
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import stem_of
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.prediction_formats import (
    Write,
    format_ending,
    prediction_writer,
    require_choices,
    saved_in_values,
)
from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.components import ComponentStep, postprocess
from miscnn_tf.runs.names import OVERLAYS_FOLDER
from miscnn_tf.runs.new_images import size_note


@dataclass(frozen=True)
class PredictionOutput:
    """Form in which predictions are written; the arguments of the `predict` methods.

    Attributes:
        activation_output: Class probabilities instead of labels.
        file_format: A key of `prediction_formats.PREDICTION_FORMATS`; None: by the name of the file, or that of the
            interface.
        values: "mask" for the values of the training's label maps, "index" for class numbers.
        threshold: See `miscnn_tf.processing.assembling.weighted`.
        overlay: Also draw the outlines of the labels over the image.
        postprocessing: Apply the postprocessing of the model to label maps.

    Raises:
        ConfigurationError: If a value is invalid.
    """

    activation_output: bool = False
    file_format: str | None = None
    values: str = "mask"
    threshold: float | None = None
    overlay: bool = False
    postprocessing: bool = True

    def __post_init__(self) -> None:
        require_choices(self.file_format, self.values)
        if self.threshold is None:
            return
        if not 0 < self.threshold < 1:
            raise ConfigurationError(f"threshold={self.threshold!r} must be between 0 and 1, without these two")
        if self.activation_output:
            raise ConfigurationError(
                f"threshold={self.threshold!r} decides labels, but class probabilities are asked for; leave one of the "
                "two out"
            )

    def postprocessed(self, prediction: np.ndarray, steps: Sequence[ComponentStep], index: Hashable) -> np.ndarray:
        """Return a label map after the postprocessing of its model, unless it is switched off.

        Args:
            prediction: The prediction of a sample. Class probabilities are returned as they are.
            steps: The steps.
            index: The sample's name.
        """
        if self.activation_output or not self.postprocessing or not steps:
            return prediction
        with memory_for(index, "its postprocessing", prediction.shape):
            return postprocess(prediction, steps)

    def file_writer(self, interface: Abstract_IO, sample: Sample, path: str | Path | None) -> Write | None:
        """Return a function that writes the prediction of a sample to a file, and make its folder.

        Args:
            interface: The interface that read the sample.
            sample: The sample; its prediction need not exist yet.
            path: The file; None for no file.

        Raises:
            ConfigurationError: If the prediction cannot be written in this format.
        """
        if path is None:
            if self.overlay or self.file_format is not None:
                raise ConfigurationError("overlay and file_format are for files; give output_path as well")
            return None
        write = self._writer(interface, sample, path)
        make_folder(Path(path).parent)
        return write

    def saver(self, data_io: Data_IO, sample: Sample) -> Write | None:
        """Return a function that writes the prediction of a sample below ``data_io.output_path``, after checking it.

        Returns:
            The function; None for what the interface writes.

        Raises:
            ConfigurationError: If the prediction cannot be written in this format.
        """
        if self.file_format is not None:
            path = inside(data_io.output_path, sample.index, format_ending(self.file_format))
            return self._writer(data_io.interface, sample, path)
        interface = saved_in_values(data_io.interface, self.values)
        if interface is data_io.interface:
            return None
        return lambda predicted: interface.save_prediction(predicted, str(data_io.output_path))

    def draw_sample(self, data_io: Data_IO, index: Hashable, prediction: np.ndarray) -> None:
        """Draw the prediction of a sample, if `overlay` is set, to ``<output_path>/overlays/<index>.png``."""
        if self.overlay:
            image, facts = data_io.interface.load_image(index)
            path = inside(Path(data_io.output_path) / OVERLAYS_FOLDER, index, ".png")
            self._draw(data_io.interface, image, facts, prediction, path)

    def draw_file(self, interface: Abstract_IO, image_path: Any, path: str | Path, prediction: np.ndarray) -> None:
        """Draw the prediction of a file, if `overlay` is set, to ``overlays/`` beside it."""
        if self.overlay:
            image, facts = interface.read_file(image_path)
            name = f"{stem_of(Path(path))}.png"
            self._draw(interface, image, facts, prediction, Path(path).parent / OVERLAYS_FOLDER / name)

    def _writer(self, interface: Abstract_IO, sample: Sample, path: str | Path) -> Write:
        return prediction_writer(
            interface,
            sample,
            path,
            activation_output=self.activation_output,
            file_format=self.file_format,
            values=self.values,
        )

    def _draw(
        self, interface: Abstract_IO, image: np.ndarray, facts: dict[str, Any], prediction: np.ndarray, path: Path
    ) -> None:
        from miscnn_tf.pictures.overlay import draw_case  # imports matplotlib

        make_folder(path.parent)
        labels = scheme_of(interface).decide(prediction) if self.activation_output else prediction
        spacing = facts.get("spacing")
        draw_case(
            image,
            None,
            labels,
            path,
            spacing,
            title=path.stem,
            class_names=interface.names_of_classes(),
            affine=facts.get("affine") if interface.three_dim else None,
            outlines=True,
            note=size_note(_sizes(labels, spacing, interface.names_of_classes())),
        )


def _sizes(labels: np.ndarray, spacing: Sequence[float] | None, names: Sequence[str]) -> dict[str, str]:
    """Return the volume of each class but the background in ml, or the area in mm²; in pixels without their size."""
    counts = np.bincount(labels.ravel(), minlength=len(names)).tolist()
    three_dim = labels.ndim == 3
    if spacing is None:
        texts = [f"{count:,} {'voxels' if three_dim else 'pixels'}" for count in counts]
    else:
        one = math.prod(float(length) for length in spacing)
        texts = [f"{count * one / 1000:.4g} ml" if three_dim else f"{count * one:.4g} mm²" for count in counts]
    return dict(list(zip(names, texts, strict=False))[1:])
