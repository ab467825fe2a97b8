"""Picture of a sample for notebooks: image, label map and prediction side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.geometry import is_usable
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.pictures.overlay import DPI, case_figure


class SamplePicture:
    """Figure that notebooks display.

    Attributes:
        figure: The matplotlib figure.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def save(self, path: str | Path) -> Path:
        """Write the picture; the ending of the name decides the format.

        Raises:
            StorageError: If the file cannot be written.
        """
        with atomic_path(path) as temporary:
            self.figure.savefig(temporary, dpi=DPI)
        return Path(path)

    def _repr_png_(self) -> bytes:
        """Return the picture for notebooks."""
        stream = io.BytesIO()
        self.figure.savefig(stream, dpi=DPI, format="png")
        return stream.getvalue()


def show(
    sample: Sample, class_names: Sequence[str] | None = None, slices: int = 3, title: str | None = None
) -> SamplePicture:
    """Show a sample: its image, label map and prediction, as far as it has them.

    Volumes are shown by slices through the structures, in radiological convention if the orientation is known.

    Args:
        sample: Result of `Data_IO.sample_loader`.
        class_names: A name per class, background first, such as ``data_io.interface.names_of_classes()``.
        slices: Maximum number of slices of a volume.
        title: Title; by default the name of the sample.

    Returns:
        The picture, which notebooks display; ``.save("case.png")`` writes it.

    Raises:
        DataError: If a label map has values that are not labels.

    Example:
        >>> miscnn_tf.show(data_io.sample_loader("case_00000"))  # doctest: +SKIP
    """
    affine = sample.extended.get("affine")
    affine = np.asarray(affine, float) if affine is not None and sample.three_dim and is_usable(affine) else None
    prediction = sample.pred_data
    if prediction is not None and prediction.ndim > sample.ndim and prediction.shape[-1] > 1:
        prediction = sample.scheme.decide(prediction)  # class probabilities
    figure = case_figure(
        sample.img_data,
        sample.seg_data,
        prediction,
        sample.spacing or (1.0,) * sample.ndim,
        str(sample.index) if title is None else title,
        class_names,
        affine,
        slices,
    )
    return SamplePicture(figure)
