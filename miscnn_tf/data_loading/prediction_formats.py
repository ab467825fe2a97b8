"""File formats of predictions, which are chosen when predicting, whatever the format of the images."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.messages import unknown_name
from miscnn_tf.data_loading.file_names import ENDINGS, ending_of
from miscnn_tf.data_loading.formats.image_file import LOSSLESS, write_mask
from miscnn_tf.data_loading.formats.volumes import write_volume
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, prediction_to_write
from miscnn_tf.data_loading.interfaces.description import label_values_of
from miscnn_tf.data_loading.label_keys import has_colours
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError

#: Values of label maps: those of the training's label maps, or class numbers.
VALUES: Final = ("mask", "index")

#: Writes the prediction of a sample to its file.
Write = Callable[[Sample], None]


class PredictionFormat(ABC):
    """A file format of predictions.

    Attributes:
        name: Its name, ``"nifti"``.
        endings: Endings of its files, the usual one first.
    """

    def __init__(self, name: str, endings: tuple[str, ...]) -> None:
        self.name = name
        self.endings = endings

    @abstractmethod
    def require(self, interface: Abstract_IO, sample: Sample, path: Path, activation_output: bool) -> None:
        """Require that the prediction of a sample can be written; its prediction need not exist yet.

        Raises:
            ConfigurationError: If it cannot; the message names a format that can.
        """

    @abstractmethod
    def write(self, interface: Abstract_IO, sample: Sample, path: Path) -> None:
        """Write ``sample.pred_data``, atomically."""


class _Volumes(PredictionFormat):
    """Volumes with an affine, and class probabilities as their fourth axis."""

    def require(self, interface: Abstract_IO, sample: Sample, path: Path, activation_output: bool) -> None:
        """Require values, not colours."""
        if not activation_output and has_colours(_values(interface)):
            raise ConfigurationError(
                f"{path}: the values of the label maps are colours, which {ending_of(path)} files cannot hold; write "
                "class numbers with values='index', or name the file .png"
            )

    def write(self, interface: Abstract_IO, sample: Sample, path: Path) -> None:
        """Write by the interface if it does, otherwise in the geometry that it read."""
        kind = sample.extended.get("type")
        if kind != "image" and _writes(interface, path):
            interface.write_file(sample, path)
            return
        array, activation = prediction_to_write(sample, path, _values(interface))
        facts: Mapping[str, Any] = sample.extended
        if kind == "image":
            array, facts = array.swapaxes(0, 1), _placed_picture(facts)
        if not sample.three_dim:
            if "slice_axis" in facts:
                array = np.expand_dims(array, int(facts["slice_axis"]))
            elif activation or facts.get("file_axes", 2) == 3:
                array = array[:, :, np.newaxis]
        write_volume(path, array, facts)


def _placed_picture(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Place the columns and rows of a picture as ITK does, to the left and down, so that viewers show it upright."""
    rows_mm, columns_mm = facts.get("spacing", (1.0, 1.0))
    return {"affine": np.diag([-float(columns_mm), -float(rows_mm), 1.0, 1.0])}


class _Pictures(PredictionFormat):
    """Grey values of one image of two dimensions."""

    def require(self, interface: Abstract_IO, sample: Sample, path: Path, activation_output: bool) -> None:
        """Require labels of two dimensions that the format can hold; stacks are written by the interface."""
        if sample.three_dim and _writes(interface, path):
            return
        if activation_output:
            raise ConfigurationError(
                f"{path}: an image file cannot hold class probabilities; name the file .npy or .nii.gz"
            )
        if self._is_of_interface(interface, sample, path):
            return
        ending = ending_of(path)
        if sample.three_dim:
            raise ConfigurationError(
                f"{path}: {type(interface).__name__} writes no files that end in {ending!r}, because these hold one "
                "image of two dimensions; give the result the ending of its image, or .nii.gz"
            )
        values = _values(interface)
        low, high = min(values), max(values)
        if low < 0 or high > (255 if ending == ".bmp" else 2**16 - 1):
            raise ConfigurationError(
                f"{path}: {ending} files cannot hold the values {low} to {high} of the label maps; write class numbers "
                "with values='index', or name the file .nii.gz"
            )

    def write(self, interface: Abstract_IO, sample: Sample, path: Path) -> None:
        """Write by the interface if it read a picture, otherwise the rows and columns of a slice."""
        if self._is_of_interface(interface, sample, path):
            interface.write_file(sample, path)
            return
        labels, _ = prediction_to_write(sample, path, _values(interface))
        labels = labels.T if _is_of_volume(sample) else labels
        write_mask(path, labels.astype(np.uint8 if labels.max(initial=0) < 2**8 else np.uint16, copy=False))

    @staticmethod
    def _is_of_interface(interface: Abstract_IO, sample: Sample, path: Path) -> bool:
        return (sample.three_dim or not _is_of_volume(sample)) and _writes(interface, path)


class _Arrays(PredictionFormat):
    """NumPy arrays on the axes of the image, without geometry."""

    def require(self, interface: Abstract_IO, sample: Sample, path: Path, activation_output: bool) -> None:
        """Accept every sample."""

    def write(self, interface: Abstract_IO, sample: Sample, path: Path) -> None:
        """Write by the interface if it read a volume and writes arrays, otherwise the array."""
        if sample.extended.get("type") != "image" and _writes(interface, path):
            interface.write_file(sample, path)
            return
        array, _ = prediction_to_write(sample, path, _values(interface))
        with atomic_path(path) as temporary:
            np.save(temporary, array, allow_pickle=False)


class _Annotations(PredictionFormat):
    """DICOM SEG or RTSTRUCT, which refer to the images of a study."""

    def require(self, interface: Abstract_IO, sample: Sample, path: Path, activation_output: bool) -> None:
        """Require labels of a DICOM series."""
        if activation_output:
            raise ConfigurationError(f"{path}: class probabilities are written as NIfTI only; name the output .nii.gz")
        if not interface.writes_annotations or not sample.extended.get("files"):
            raise ConfigurationError(
                f"{path}: a DICOM {self.name.upper()} refers to the images of a DICOM series, but {sample.index} was "
                f"read by {type(interface).__name__}. Segment the folder of the DICOM series instead, or name the "
                "output .nii.gz"
            )

    def write(self, interface: Abstract_IO, sample: Sample, path: Path) -> None:
        """Write by the interface, which knows the names of the structures."""
        interface.write_annotation(sample, path, self.name)


#: Formats by name.
PREDICTION_FORMATS: Final[dict[str, PredictionFormat]] = {
    one.name: one
    for one in (
        _Volumes("nifti", ENDINGS),
        _Volumes("nrrd", (".nrrd",)),
        _Pictures("png", (".png", *(f".{ending}" for ending in LOSSLESS if ending != "png"))),
        _Annotations("seg", (".dcm",)),
        _Annotations("rtstruct", (".dcm",)),
    )
}
#: Formats that only the ending of a file chooses.
_BY_ENDING: Final = (
    *PREDICTION_FORMATS.values(),
    _Volumes("metaimage", (".mha",)),
    _Volumes("mgh", (".mgz", ".mgh")),
    _Arrays("npy", (".npy",)),
)


def require_choices(file_format: str | None, values: str) -> None:
    """Require the names of a format and of values.

    Raises:
        ConfigurationError: If one is unknown.
    """
    if file_format is not None and file_format not in PREDICTION_FORMATS:
        raise ConfigurationError(unknown_name("file_format", file_format, PREDICTION_FORMATS))
    if values not in VALUES:
        raise ConfigurationError(unknown_name("values", values, VALUES))


def format_ending(file_format: str) -> str:
    """Return the usual ending of a format.

    Example:
        >>> format_ending("nifti"), format_ending("rtstruct")
        ('.nii.gz', '.dcm')
    """
    return PREDICTION_FORMATS[file_format].endings[0]


def prediction_writer(
    interface: Abstract_IO,
    sample: Sample,
    path: str | Path,
    *,
    activation_output: bool = False,
    file_format: str | None = None,
    values: str = "mask",
) -> Write:
    """Return a function that writes the prediction of a sample, after checking that this is possible.

    Args:
        interface: The interface that read the sample.
        sample: The sample; its prediction need not exist yet.
        path: The file to write.
        activation_output: Class probabilities are written instead of labels.
        file_format: A key of `PREDICTION_FORMATS`; None: by the ending of `path`.
        values: "mask" for the values of the training's label maps, "index" for class numbers.

    Raises:
        ConfigurationError: If the prediction cannot be written in this format.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> sample = Sample("scan", np.zeros((4, 5, 6)), 1, 2, three_dim=True)
        >>> write = prediction_writer(NIFTI_interface(), sample, "scan.nii.gz")
    """
    require_choices(file_format, values)
    path = Path(path)
    ending = ending_of(path)
    interface = interface if values == "mask" else _in_class_numbers(interface)
    if file_format is not None:
        chosen: PredictionFormat | None = PREDICTION_FORMATS[file_format]
        if ending not in PREDICTION_FORMATS[file_format].endings:
            raise ConfigurationError(
                f"{path}: files in the format {file_format!r} end in "
                f"{' or '.join(PREDICTION_FORMATS[file_format].endings)}; correct the name or the format"
            )
    else:
        chosen = next((one for one in _BY_ENDING if ending in one.endings), None)
    if chosen is not None:
        chosen.require(interface, sample, path, activation_output)
    elif not activation_output and not _writes(interface, path):
        raise ConfigurationError(
            f"{path}: {type(interface).__name__} writes no files that end in {ending!r}; give the result the ending of "
            "its image, or .nii.gz"
        )
    # Interfaces of DICOM have a usual format for .dcm, and those of users write other endings.
    if chosen is None or (file_format is None and ending == ".dcm"):
        return lambda predicted: interface.write_file(predicted, path)
    return lambda predicted: chosen.write(interface, predicted, path)


def saved_in_values(interface: Abstract_IO, values: str) -> Abstract_IO:
    """Return the interface, or with "index" a copy of it that writes class numbers.

    Raises:
        ConfigurationError: If the interface always writes other values.
    """
    return interface if values == "mask" else _in_class_numbers(interface)


def _in_class_numbers(interface: Abstract_IO) -> Abstract_IO:
    if label_values_of(interface) is None:
        return interface
    numbered = copy.copy(interface)
    numbered.label_map = None
    if label_values_of(numbered) is not None:
        raise ConfigurationError(
            f"values='index': {type(interface).__name__} writes values of its own, "
            f"{interface.values_of_classes()}; leave values out"
        )
    return numbered


def _is_of_volume(sample: Sample) -> bool:
    """Return True if a sample was read from a file of volumes, whose arrays have columns first, unlike pictures."""
    return sample.extended.get("type") in ("nifti", "nifti_slice") or "file_ending" in sample.extended


def _values(interface: Abstract_IO) -> Sequence[int]:
    return label_values_of(interface) or range(interface.classes)


def _writes(interface: Abstract_IO, path: Path) -> bool:
    """Return True if an interface writes single files with this ending itself."""
    # Interfaces that are not derived from Abstract_IO have only the older of the two methods, or neither.
    if getattr(type(interface), "write_file", Abstract_IO.write_file) is Abstract_IO.write_file:
        return False
    return bool(getattr(interface, "writes_file_termination", interface.check_file_termination)(ending_of(path)))
