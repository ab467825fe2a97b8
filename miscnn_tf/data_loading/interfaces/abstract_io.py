"""Base class of all data interfaces, and the conversion of predictions that they share."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from miscnn_tf._base.arguments import flag, whole_number
from miscnn_tf._base.configuration import digest
from miscnn_tf._base.messages import did_you_mean
from miscnn_tf._base.representation import Constructed
from miscnn_tf.data_loading.file_names import first_image
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_scan import (
    ANY_CLASSES,
    FoundLabels,
    Labelled,
    classes_of,
    detect_classes,
    structures_of,
)
from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.data_loading.label_values import reading_map, to_values
from miscnn_tf.data_loading.labels import check_labels, label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError


class Abstract_IO(Constructed, ABC):
    """Base class of all data interfaces; subclass it to read a format or folder layout of your own.

    The abstract methods are needed. The others have a default that works for one folder per sample below the input
    path. A registered interface (`miscnn_data_interfaces`) that overrides `find_image` or `recognises` is detected by
    `find_interface` and the command line.

    Args:
        channels: Number of image channels.
        classes: Number of classes, background included.
        three_dim: Whether the data are volumes.

    Attributes:
        channel_names: Names of the channels, if the data set has them, known after `initialize`.
        class_names: Names of the classes for tables, legends and reports, background first; None: their numbers.
            Can be set on any interface, ``interface.class_names = ("background", "kidney", "tumour")``, and is stored
            in model files.
        label_map: Classes of values in the segmentations that differ from their class; None: all are equal. Values
            that are mapped to ``"ignore"`` mark voxels without annotation, which are label `classes` in memory.
        regions: Overlapping regions that the network predicts instead of classes, as labels by name:
            ``{"tumour": [1, 2, 3], "core": [2, 3]}``; None: classes. It can be set on any interface, before the
            network is made, and is stored in model files.
        regions_class_order: The label that predictions hold in each region. They are written in this order, so that
            later regions cover earlier ones.
        found_in: Description of folders or files that were chosen by their names, for messages; None if there are none.
        structures_left_out: Structures that `from_folder` left out, with the reasons.
        validation_samples: Samples that the folders keep for validation, such as those in ``val/``; `initialize` sets
            them. ``miscnn-tf init`` writes them as the split.
        sample_groups: Regular expression with one group, which extracts from a sample's name what must stay on one
            side of a split, such as the patient; None if samples are independent.
        layout_description: Description of the layout for help and messages: a line, then a file tree; empty if it is
            not listed there.
        annotation_format: Format of the DICOM annotations that were read as label maps, "seg" or "rtstruct"; None if
            none were. It is stored in model files, as the usual format of predictions.
        writes_annotations: True if `write_annotation` is overridden.
        recognition_order: `find_interface` asks interfaces with a lower number first. Those of this package have 10 to
            50.
    """

    layout_description: ClassVar[str] = ""
    recognition_order: ClassVar[int] = 0
    writes_annotations: ClassVar[bool] = False
    class_names: Sequence[str] | None = None
    channel_names: tuple[str, ...] | None = None
    label_map: Mapping[int, int] | None = None
    regions: Mapping[str, Sequence[int]] | None = None
    regions_class_order: Sequence[int] | None = None
    found_in: str | None = None
    structures_left_out: Mapping[str, str] = MappingProxyType({})
    validation_samples: Sequence[Hashable] = ()
    sample_groups: str | None = None
    annotation_format: str | None = None

    def __init__(self, channels: int = 1, classes: int = 2, three_dim: bool = False) -> None:
        # None if a subclass derives it from the data.
        self.channels = channels if channels is None else whole_number(channels, "channels", 1)
        self.classes = classes if classes is None else whole_number(classes, "classes", 1)
        self.three_dim = three_dim if three_dim is None else flag(three_dim, "three_dim")

    @abstractmethod
    def initialize(self, input_path: str) -> list[Hashable]:
        """Find the samples in `input_path` and return their names."""

    @abstractmethod
    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the image ``(x, y[, z][, channels])`` and its metadata (``"spacing"``, ``"affine"``, …)."""

    @abstractmethod
    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Return the label map ``(x, y[, z])`` of integers below `classes`; `classes` marks voxels to ignore."""

    @abstractmethod
    def load_prediction(self, index: Hashable, output_path: str) -> np.ndarray:
        """Return a prediction that `save_prediction` wrote."""

    @abstractmethod
    def save_prediction(self, sample: Sample, output_path: str) -> None:
        """Write ``sample.pred_data`` for ``sample.index`` below `output_path`, atomically."""

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if files with this ending (``".nii.gz"``) are of this format; False by default."""
        return False

    @classmethod
    def find_image(cls, folder: Path) -> Path | None:
        """Return an image file of a sample's folder; None if the folder is not a sample of this layout, by default."""
        return None

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the image files of each sample in one sample's folder, in the order of the channels.

        Layouts with a folder per sample and files of names of their own override this, so that the folder of one new
        sample can be segmented. By default none.

        Args:
            folder: An existing folder, with an absolute path.
        """
        return {}

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence that a data folder has this layout, ``"it holds dataset.json"``; None if it does not.

        By default a folder in it for which `find_image` returns a file; layouts without a folder per sample override
        this. Only names and the first bytes of files should be read.

        Args:
            folder: An existing folder.
            settings: Arguments that the user gave, such as ``"pattern"`` or ``"part"``.
        """
        image = first_image(folder, settings.get("pattern"), cls.find_image)
        return None if image is None else f"it holds {image.relative_to(folder).as_posix()}"

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface for a data folder, and detect arguments that are not given.

        By default only ``structure_dict`` and ``classes`` are detected, in interfaces that override `get_ROI_names`.

        Args:
            folder: An existing folder.
            settings: Arguments that the user gave.

        Raises:
            DataError: If the files cannot be read, or an argument cannot be detected.
            ConfigurationError: If an argument is unknown or missing.
        """
        if "classes" in settings or not cls.has_named_structures():
            return cls.from_settings(settings)
        structures = settings.get("structure_dict")
        left_out: Mapping[str, str] = {}
        if not structures:
            probe = cls.from_settings({**settings, "classes": ANY_CLASSES})
            structures, left_out = structures_of(probe, probe.initialize(str(folder)), str(folder))
        if not isinstance(structures, Mapping):
            raise ConfigurationError(f"structure_dict must be a dict such as {{'Heart': 1}}, got {structures!r}")
        labels = [label for label in structures.values() if isinstance(label, int)]
        made = cls.from_settings({**settings, "structure_dict": structures, "classes": max([1, *labels]) + 1})
        made.structures_left_out = left_out
        return made

    @classmethod
    def from_labels(cls, folder: Path, arguments: Mapping[str, Any], reader: Labelled | None = None) -> Self:
        """Make the interface; classes and label map, if not given, are those of all segmentations in a folder.

        Args:
            folder: An existing folder.
            arguments: All other arguments.
            reader: An interface that reads the segmentations; None: this one.
        """
        probe = cls.from_settings({"classes": ANY_CLASSES, **arguments})
        if "classes" in arguments:
            return probe
        classes, label_map = detect_classes(reader or probe, folder, arguments.get("label_map"))
        return cls.from_settings({**arguments, "classes": classes, "label_map": label_map})

    def interpret_values(
        self, found: FoundLabels, folder: Path, label_map: Mapping[int, int] | None
    ) -> tuple[int, Mapping[int, int] | None, Sequence[str] | None]:
        """Return number of classes, label map and class names for the values in the segmentations.

        Layouts whose label maps have known values override this.

        Args:
            found: The values.
            folder: The data folder, for messages.
            label_map: Labels for values, if the user gave them.

        Raises:
            DataError: If the values are not 0, 1, 2, …; the message shows the label map to pass.
        """
        return *classes_of(found, str(folder), label_map), None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make the interface from its arguments.

        Raises:
            ConfigurationError: If an argument is unknown or missing; the message names it.
        """
        known = inspect.signature(cls).parameters
        kinds = {parameter.kind for parameter in known.values()}
        unknown = [key for key in settings if key not in known]
        if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigurationError(
                f"{cls.__name__} has no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)} It has "
                f"{', '.join(known)}"
            )
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        needed = [
            key
            for key, parameter in known.items()
            if parameter.default is parameter.empty and parameter.kind not in variable and key not in settings
        ]
        if needed:
            raise ConfigurationError(f"{cls.__name__} cannot be made from a folder alone: it needs {', '.join(needed)}")
        return cls(**settings)

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True if `from_folder` finds the number of classes without reading segmentations, by default."""
        return not cls.has_named_structures()

    @classmethod
    def has_named_structures(cls) -> bool:
        """Return True if segmentations hold named structures, that is, if `get_ROI_names` is overridden."""
        return cls.get_ROI_names is not Abstract_IO.get_ROI_names

    def get_ROI_names(self, index: Hashable) -> list[list[Any]]:
        """Return number and name of each structure in a sample's segmentation, ``[[1, "Heart"]]``; none by default."""
        return []

    def named_structures(self, index: Hashable) -> dict[str, str | None]:
        """Return the names of the structures in a sample's segmentation.

        Each has the reason to leave it out unless it is asked for; None, by default, for structures to learn.
        """
        return {str(name).strip(): None for _, name in self.get_ROI_names(index)}

    def structure_labels(self) -> dict[str, int]:
        """Return the label of each named structure that is read; none by default."""
        return {}

    def writes_file_termination(self, termination: str) -> bool:
        """Return True if `write_file` writes files with this ending; by default those of this format."""
        return self.check_file_termination(termination)

    def names_of_classes(self) -> tuple[str, ...]:
        """Return a name for each class, `class_names` or "0", "1", ….

        Raises:
            ConfigurationError: If there are more or fewer names than classes.

        Example:
            >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
            >>> NIFTI_interface(classes=3).names_of_classes()
            ('0', '1', '2')
        """
        if self.class_names is None:
            return tuple(str(number) for number in range(self.classes))
        if len(self.class_names) != self.classes:
            raise ConfigurationError(
                f"class_names={tuple(self.class_names)!r} of {type(self).__name__} must be {self.classes} names, "
                "background first"
            )
        return tuple(str(name) for name in self.class_names)

    def label_scheme(self) -> LabelScheme:
        """Return the meaning of the labels: classes, voxels without annotation, and regions.

        Raises:
            ConfigurationError: If `regions` or `regions_class_order` do not fit `classes`.

        Example:
            >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
            >>> NIFTI_interface(classes=3, label_map={255: "ignore"}).label_scheme()
            LabelScheme(classes=3, has_ignored=True, regions=())
        """
        return LabelScheme.of(self.classes, self.label_map, self.regions, self.regions_class_order)

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in stored predictions: class numbers, unless there is a label map.

        An interface with a ``label_map`` writes predictions in the values of its segmentations, and reads them back as
        class numbers.

        Example:
            >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
            >>> NIFTI_interface(classes=4, label_map={4: 3}).values_of_classes()
            (0, 1, 2, 4)
        """
        return tuple(range(self.classes))

    def sample_files(self, index: Hashable) -> SampleFiles | None:
        """Return the files of a sample, NIfTI or images of two dimensions; None by default, for other formats.

        Layouts of folders such as ``train`` and ``val`` need it, because they read the files themselves.
        """
        return None

    @classmethod
    def lists_files(cls) -> bool:
        """Return True if `sample_files` returns the files of a sample."""
        return cls.sample_files is not Abstract_IO.sample_files

    def load_details(self, index: Hashable) -> dict[str, Any] | None:
        """Return further facts about a sample, which become ``Sample.details``; None by default."""
        return None

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns (``"spacing"``, ``"affine"``, …), without the image.

        By default the image is read; override this for formats that have it in a header.
        """
        return self.load_image(index)[1]

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return the spatial shape of a sample's image.

        By default the image is read; override this for formats that have it in a header.
        """
        return tuple(self.load_image(index)[0].shape[: 3 if self.three_dim else 2])

    def stored_labels(self, index: Hashable) -> np.ndarray:
        """Return the label map with the values in the file, for listing them.

        By default that of `load_segmentation`; override this for formats that check or map the labels.
        """
        return self.load_segmentation(index)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check a sample without decoding it (headers only); does nothing by default.

        Raises:
            DataError: If the files of the sample are missing or do not fit together.
        """
        return None

    def fingerprint(self, index: Hashable, input_path: str) -> str | None:
        """Return a digest that changes when the sample's source does; None if it cannot be computed.

        By default: name, size and time of change of every file in the sample's folder.
        """
        folder = Path(str(input_path)) / str(index)
        if not folder.is_dir():
            return None
        return stat_fingerprint(sorted(path for path in folder.rglob("*") if path.is_file()))

    def read_file(self, path: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Read one image file, which need not be in the input folder, as `load_image` does.

        Some formats also take a folder, or a list of files with a channel each.
        """
        raise ConfigurationError(f"{type(self).__name__} cannot read single files; predict by index instead")

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data`` to one file, in the geometry of ``sample.extended``."""
        raise ConfigurationError(f"{type(self).__name__} cannot write single files; use save_prediction instead")

    def load_annotation(self, index: Hashable, path: str | Path) -> np.ndarray:
        """Read a DICOM annotation at any path as the label map of a sample, by the names of the classes."""
        raise ConfigurationError(f"{path}: {type(self).__name__} reads no DICOM series, to which the file refers")

    def write_annotation(self, sample: Sample, path: str | Path, kind: str) -> None:
        """Write ``sample.pred_data`` as a DICOM annotation of the images that it was read from.

        Args:
            sample: A sample with labels.
            path: Ends in ``.dcm``.
            kind: "seg" or "rtstruct".
        """
        raise ConfigurationError(f"{path}: {type(self).__name__} reads no DICOM series, which a {kind} refers to")


def stat_fingerprint(paths: list[Path]) -> str:
    """Digest of the absolute paths, sizes and times of change of files.

    Absolute, because two data sets unpacked from archives may agree in everything else.

    Raises:
        FileNotFoundError: If one of them does not exist.
    """
    stats = [(path.resolve(), path.stat()) for path in paths]
    return digest([[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats])


def prediction_to_write(
    sample: Sample, where: str | Path, values: Sequence[int] | None = None
) -> tuple[np.ndarray, bool]:
    """Convert the prediction of a sample for writing to a file.

    Args:
        sample: A sample with ``pred_data``: labels ``(x, y[, z][, 1])``, or probabilities ``(x, y[, z], classes)``.
        where: The output file, for messages.
        values: The value of each class in the files (`Abstract_IO.values_of_classes`); None for class numbers.

    Returns:
        Labels ``(x, y[, z])`` and False; or probabilities ``(x, y[, z], classes)`` as float32 and True. Class numbers
        are uint8 (uint16 above 256 classes), other values the smallest type that holds all of them.

    Raises:
        ConfigurationError: If the prediction is missing, or its number of axes does not match the sample.
        DataError: If labels are not whole numbers below 65536, or one has no value.
    """
    labels, activation = _prediction_of(sample, where)
    return (labels if activation or values is None else to_values(labels, values, where)), activation


def prediction_labels(
    array: np.ndarray,
    classes: int,
    where: str | Path,
    label_map: Mapping[int, int] | None,
    values: Sequence[int],
) -> np.ndarray:
    """Convert a stored prediction to class numbers: the inverse of `prediction_to_write`.

    Predictions that hold class numbers, as earlier versions wrote them, are read as well; see
    `label_values.reading_map`.

    Args:
        array: The stored values.
        classes: Number of classes, background included.
        where: The file or sample, for messages.
        label_map: Labels for values in the segmentations.
        values: The value of each class in the files.

    Returns:
        Labels of the same shape, uint8 (uint16 above 256 classes).

    Raises:
        LabelError: If it holds values that are not a class.
    """
    return check_labels(array, classes, where, reading_map(label_map, values))


def _prediction_of(sample: Sample, where: str | Path) -> tuple[np.ndarray, bool]:
    """Return the prediction as class numbers or probabilities, and whether it is the latter."""
    prediction = sample.pred_data
    if prediction is None:
        raise ConfigurationError(
            f"sample {sample.index!r} has no prediction to write to {where}: call add_prediction first"
        )
    probabilities = prediction.shape[-1] > 1 or (sample.scheme.outputs == 1 and prediction.dtype.kind == "f")
    if prediction.ndim == sample.ndim + 1 and probabilities:
        return prediction.astype(np.float32, copy=False), True
    if prediction.ndim == sample.ndim + 1:
        prediction = prediction[..., 0]
    if prediction.ndim != sample.ndim:
        raise ConfigurationError(
            f"sample {sample.index!r}: the prediction has shape {prediction.shape}, but a {sample.ndim}D sample needs "
            f"{sample.ndim} axes, and one more for class probabilities"
        )
    dtype = label_dtype(sample.classes)
    if prediction.dtype == dtype and prediction.size:
        return prediction, False  # already checked, and checking again would copy a large map
    # Only the range of the type is checked here; labels were checked against `classes` before.
    widest = check_labels(prediction, max(sample.classes, 2**16), where)
    if widest.dtype != dtype and widest.size and int(widest.max()) <= np.iinfo(dtype).max:
        widest = widest.astype(dtype)
    return widest, False
