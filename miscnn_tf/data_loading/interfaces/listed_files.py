"""Base class for layouts that list each sample's files explicitly."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from miscnn_tf._base import configuration
from miscnn_tf._base.messages import did_you_mean, plural, some_of
from miscnn_tf.data_loading._discovery.image_forms import have_colours, usual_nifti_form
from miscnn_tf.data_loading.file_names import composed, ending_of, matches, name_expression
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.data_loading.formats.volumes import (
    has_volume_ending,
    is_volume,
    prediction_ending,
    read_info,
    read_voxels,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.image_io import Image_interface
from miscnn_tf.data_loading.interfaces.mask_union import unite
from miscnn_tf.data_loading.interfaces.nifti_io import NIFTI_interface
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import IGNORE, LabelMap
from miscnn_tf.data_loading.label_scan import ANY_CLASSES, scan_folder
from miscnn_tf.data_loading.label_values import class_values
from miscnn_tf.data_loading.labels import check_labels, normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, GridError, MissingDataError

logger = logging.getLogger(__name__)

#: Parts of a data set.
PARTS = ("training", "test", "all")


def needs_labels(settings: Mapping[str, Any]) -> bool:
    """Return True unless the settings of an interface ask for samples without label maps, too."""
    return bool(settings.get("part", PARTS[0]) == PARTS[0])


@dataclass(frozen=True)
class FoundFiles:
    """Contents of a data folder, as found by a layout.

    Attributes:
        samples: Files of each sample.
        file_ending: Ending of predictions, and of files if no data are available: ``".nii.gz"``, ``".png"``.
        channels: Number of channels, if the layout defines it.
        class_names: A name per class, background first, if the layout defines them.
        found_in: Folders or files that were chosen among several: ``"images from …, masks from …"``.
        validation: Names of samples that the folders keep for validation.
        ignored: Value of voxels without annotation in the label maps, if the layout defines it.
        regions: Regions, if the layout defines them; see `Abstract_IO`.
        regions_class_order: The label that predictions hold in each region.
    """

    samples: Mapping[str, SampleFiles]
    file_ending: str
    channels: int | None = None
    class_names: Sequence[str] | None = None
    found_in: str | None = None
    validation: Set[str] = frozenset()
    ignored: int | None = None
    regions: Mapping[str, Sequence[int]] | None = None
    regions_class_order: Sequence[int] | None = None


def common_ending(samples: Iterable[SampleFiles], where: str | Path) -> str:
    """Return the ending of predictions: that of the images if all have the same, otherwise PNG.

    Raises:
        DataError: If some are volumes, and others are not.
    """
    paths = [path for files in samples for path in files.images]
    volumes = {has_volume_ending(path) for path in paths}
    if volumes == {True, False}:
        first = next(path.name for path in paths if has_volume_ending(path) is not has_volume_ending(paths[0]))
        raise DataError(f"{where}: {paths[0].name} and {first} have different formats; keep volumes and images apart")
    if volumes == {True}:
        return prediction_ending(ending_of(paths[0]))
    endings = {ending_of(path) for path in paths}
    return endings.pop() if len(endings) == 1 else ".png"


class ListedFiles_interface(Abstract_IO):
    """Base class of interfaces for layouts that list each sample's files explicitly.

    A subclass finds the files; volumes are read and written by `NIFTI_interface`, other images by `Image_interface`.
    `initialize` sets arguments that are None from the data; they are stored in model files, so that the interface can
    be rebuilt without the data.

    Args:
        channels: Number of channels.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes.
        pattern: Regular expression that a sample's whole name must match; None takes all.
        part: "training" (samples with a segmentation), "test" (the others) or "all".
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept. Predictions are
            written in the same values.
        class_names: A name per class, background first.
        file_ending: Ending of the files if no data are available, ``".nii.gz"``, ``".png"``; `initialize` detects it.
    """

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        if part not in PARTS:
            raise ConfigurationError(f"part={part!r}: choose one of {', '.join(PARTS)}.{did_you_mean(part, PARTS)}")
        super().__init__(channels, classes, three_dim)  # type: ignore[arg-type]  # None until `initialize`
        self.pattern = pattern
        self.part = part
        self.label_map = normalised_label_map(label_map, 2**16 if classes is None else classes)
        self.class_names = None if class_names is None else tuple(str(name) for name in class_names)
        self.file_ending = file_ending
        self.data_directory: Path | None = None
        self.found_in: str | None = None
        # Given arguments also apply to the next folder; detected ones do not.
        given = ("channels", "classes", "three_dim", "class_names")
        self._asked = {name: getattr(self, name) for name in given}
        self._found_regions: Mapping[str, Sequence[int]] | None = None
        self._found_ignored: int | None = None
        self._files: dict[Hashable, SampleFiles] = {}
        self.palette_colours: dict[int, tuple[str, Path]] = {}

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface; `initialize` detects its arguments, and classes come from the labels if need be."""
        known = settings.get("classes") is not None or cls.defines_classes(folder)
        interface = cls.from_settings({"classes": None if known else ANY_CLASSES, **settings})
        if known:
            interface.initialize(folder)
            made = cls(**configuration.get_config(interface))
            made.regions, made.regions_class_order = interface.regions, interface.regions_class_order
            made._found_regions = interface.regions
            return made
        found, mapping = scan_folder(interface, folder, settings.get("label_map"))
        classes, label_map, names = interface.interpret_values(found, folder, mapping)
        given = interface.class_names
        return cls(
            **{
                **configuration.get_config(interface),
                "classes": classes,
                "label_map": label_map,
                "class_names": names if given is None else given,
            }
        )

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return False: only the label maps show the classes, unless a layout describes them."""
        return False

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in segmentations and predictions, by the label map."""
        return class_values(self.label_map, self.classes)

    @abstractmethod
    def find_files(self, root: Path) -> FoundFiles:
        """Find the samples in an existing folder; `initialize` applies `pattern` later.

        Raises:
            MissingDataError: If none exist.
            DataError: If the layout is ambiguous or its files cannot be used.
        """

    def choose_part(self, root: Path, samples: Mapping[str, SampleFiles], label_map: str) -> dict[str, SampleFiles]:
        """Return the samples of the wanted part; samples without a label map are left out of training with a warning.

        Args:
            root: The data folder, for messages.
            samples: All samples.
            label_map: Name of the file of a label map, for messages.

        Raises:
            MissingDataError: If there are none.
        """
        with_labels = {name: files for name, files in samples.items() if files.labelled}
        without = {name: files for name, files in samples.items() if not files.labelled}
        wanted = {"training": with_labels, "test": without, "all": dict(samples)}[self.part]
        if not wanted:
            what = "no sample has" if self.part == "training" else "every sample has"
            raise MissingDataError(
                f"{root}: {what} a label map, {label_map}; part='all' takes all {plural(len(samples), 'sample')}"
            )
        if self.part == "training" and without:
            logger.warning(
                "%s: %s without a label map (%s), left out: %s",
                *(root, plural(len(without), "sample"), label_map, some_of(without)),
            )
        return wanted

    def initialize(self, input_path: str | Path) -> list[Hashable]:
        """Find the samples below `input_path`, and set arguments that were None.

        Returns:
            Their names, sorted, in Unicode's composed form.

        Raises:
            MissingDataError: If none exist; the message lists what was found instead.
            DataError: If the folder does not have the expected layout.
            ConfigurationError: If an argument does not match the data.
        """
        root = Path(input_path)
        expression = name_expression(self.pattern)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise MissingDataError(f"the data folder {root} {what}; give the folder of the data set")
        found = self.find_files(root)
        samples = {composed(name): files for name, files in found.samples.items()}
        if len(samples) < len(found.samples):
            twice = [name for name in found.samples if samples[composed(name)] is not found.samples[name]]
            raise DataError(
                f"{root}: more than one sample is named {some_of(map(repr, twice))}, in composed or decomposed "
                "Unicode; rename the others"
            )
        names = sorted(name for name in samples if matches(expression, name))
        if not names:
            raise MissingDataError(
                f"pattern={self.pattern!r} matches none of the {len(samples)} samples in {root} "
                f"({some_of(sorted(samples))}); it must match the whole name"
            )
        self._files = {name: samples[name] for name in names}
        kept = {composed(name) for name in found.validation}
        self.validation_samples = [name for name in names if name in kept]
        self.found_in = found.found_in
        self.file_ending = found.file_ending
        self._fill_in(found, root)
        self.data_directory = root
        self._reader_for(self.file_ending)  # raises if the format does not support these channels
        return list(names)

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the image of a sample, as `NIFTI_interface` or `Image_interface` does."""
        return self.reader.load_image(index)

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns, from the header alone."""
        return self.reader.load_extended(index)

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return the spatial shape of the image, from its header alone."""
        return self.reader.load_shape(index)

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Read the label map of a sample: uint8 (uint16 above 256 classes).

        Raises:
            MissingDataError: If it is missing.
            DataError: If its values are not labels below `classes`.
        """
        return self.reader.load_segmentation(index)

    def stored_labels(self, index: Hashable) -> np.ndarray:
        """Return the stored values of the segmentation file, regardless of `classes` and `label_map`."""
        return self.reader.stored_labels(index)

    def load_prediction(self, index: Hashable, output_path: str | Path) -> np.ndarray:
        """Read a prediction that `save_prediction` wrote: labels, or class probabilities.

        Raises:
            MissingDataError: If the prediction is missing.
        """
        return self.reader.load_prediction(index, str(output_path))

    def save_prediction(self, sample: Sample, output_path: str | Path) -> None:
        """Write ``sample.pred_data`` to ``<output_path>/<index>.nii.gz``, or ``.png``, atomically."""
        self.reader.save_prediction(sample, str(output_path))

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if files with this ending can be read: NIfTI, NRRD, …, PNG, TIFF, BMP, JPEG, GIF, PPM."""
        return NIFTI_interface.check_file_termination(termination) or Image_interface.check_file_termination(
            termination
        )

    def writes_file_termination(self, termination: str) -> bool:
        """Return True if `write_file` writes files with this ending."""
        return self._reader_of(f"prediction{termination}").writes_file_termination(termination)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check a sample by its headers: complete files, channels, dimension, grid.

        Raises:
            DataError: If a check fails; the message names the file.
        """
        self.reader.check(index, load_seg)

    def fingerprint(self, index: Hashable, input_path: str | Path) -> str | None:
        """Return a digest of the sample's files (name, size, time of change) and the label map; None without files."""
        return self.reader.fingerprint(index, str(input_path))

    def read_file(self, path: str | Path | Sequence[str | Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read an image at any path, as `load_image` does; a list of volumes has one channel each.

        The folder of one sample is read as in the layout.

        Raises:
            DataError: If the image cannot be read, or a folder holds several samples.
        """
        if isinstance(path, str | Path) and Path(path).is_dir():
            path = self._one_image_of(Path(path))
        first = path if isinstance(path, str | Path) else next(iter(path), "")
        reader = self._reader_of(first)
        return reader.read_file(path)  # type: ignore[arg-type]  # each reader checks the type itself

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data`` to a volume or image file, atomically, in the image's geometry."""
        self._reader_of(path).write_file(sample, path)

    def _one_image_of(self, folder: Path) -> Path | list[Path]:
        """Return the file, or the files of the channels, of the only sample in a folder; other folders as they are."""
        found = self.images_of_folder(Path(os.path.abspath(folder)))
        if len(found) > 1:
            first = next(iter(found.values()))[0]
            raise DataError(f"{folder} holds {len(found)} samples ({some_of(found)}); give the file of one, {first}")
        images = next(iter(found.values()), ())
        return list(images) if len(images) > 1 else images[0] if images else folder

    @property
    def reader(self) -> NIFTI_interface | Image_interface:
        """Interface of the files' format that reads and writes the files of this layout."""
        return self._reader_for(self.file_ending)

    def _reader_of(self, path: str | Path) -> NIFTI_interface | Image_interface:
        """Return the reader of a file that need not be in the data set."""
        ending = ending_of(Path(path))
        image = Image_interface.check_file_termination(ending) and self.three_dim is False
        return self._reader_for(ending if image else self.file_ending if Path(path).is_dir() else ".nii.gz")

    def _reader_for(self, ending: str | None) -> NIFTI_interface | Image_interface:
        missing = [name for name in ("channels", "classes", "three_dim") if getattr(self, name) is None]
        if missing or ending is None:
            raise ConfigurationError(
                f"{type(self).__name__} does not know {', '.join(missing) or 'its files'} yet: call "
                "initialize(input_path), or use Data_IO"
            )
        stack = bool(self.three_dim) and ending in (".tif", ".tiff")
        if Image_interface.check_file_termination(ending) and not stack:
            return _ListedImages(self, ending)
        return _ListedVolumes(self)

    def _fill_in(self, found: FoundFiles, root: Path) -> None:
        """Set all arguments that were not given, from the layout or from the images' headers."""
        for name, value in self._asked.items():
            setattr(self, name, value)
        if self.channels is None and found.channels is not None:
            self.channels = found.channels
        if self.channels is None or self.three_dim is None:
            channels, three_dim = self._look_at_images(root)
            self.channels = channels if self.channels is None else self.channels
            self.three_dim = three_dim if self.three_dim is None else self.three_dim
        names = found.class_names
        if self.classes is None:
            given = names if self.class_names is None else self.class_names
            if given is None:
                raise ConfigurationError(
                    f"{root} does not define the number of classes: give classes, or use "
                    "miscnn_tf.data_loading.layout_detection.find_interface, which reads the segmentations"
                )
            self.classes = len(given)
        if self.class_names is None and names is not None and len(names) == self.classes:
            self.class_names = tuple(names)
        self.names_of_classes()
        labels = {value: label for value, label in (self.label_map or {}).items() if value != self._found_ignored}
        self._found_ignored = found.ignored if found.ignored not in labels else None
        if self._found_ignored is not None:
            labels[self._found_ignored] = IGNORE
        self.label_map = normalised_label_map(labels, self.classes)
        if self.regions is self._found_regions:  # none, or those of another folder; others are the user's
            self.regions, self.regions_class_order = found.regions, found.regions_class_order
            self._found_regions = found.regions

    def _look_at_images(self, root: Path) -> tuple[int, bool]:
        """Detect the number of channels, and whether the images are volumes."""
        files = {name: sample.images for name, sample in self._files.items()}
        if is_volume(next(iter(files.values()))[0]):
            return usual_nifti_form(files, files.__getitem__, root, channels=self.channels, three_dim=self.three_dim)
        # With `channels` given, the choice between grey and colours is made.
        coloured = have_colours(files, lambda name: files[name][0], root, warn=self.channels is None)
        return (3 if coloured else 1), False

    def sample_files(self, index: Hashable) -> SampleFiles:
        """Return the files of a sample."""
        return self._sample(index)

    def _sample(self, index: Hashable) -> SampleFiles:
        if self.data_directory is None and not self._files:
            raise ConfigurationError(
                f"{type(self).__name__} has not read a data folder yet: call initialize(input_path), or use Data_IO"
            )
        try:
            return self._files[composed(index) if isinstance(index, str) else index]
        except KeyError:
            raise MissingDataError(
                f"sample {index!r} does not exist in {self.data_directory}.{did_you_mean(index, self._files)} "
                "Data_IO.get_indiceslist() lists them"
            ) from None

    def _segmentation(self, index: Hashable) -> Path:
        files = self._sample(index)
        if files.masks:
            raise DataError(
                f"the label map of {index!r} is united from {plural(len(files.masks), 'file')}, such as "
                f"{files.masks[0].path}; correct these files one by one"
            )
        path = files.segmentation
        if path is None:
            raise MissingDataError(
                f"the sample {index!r} of {self.data_directory} has no label map; leave it out of training "
                "(part='training' does), or add the file"
            )
        return path

    def _sources(self, index: Hashable) -> list[Path]:
        return [path for path in self._sample(index).all if path.is_file()]


class _ListedVolumes(NIFTI_interface):
    """Reader and writer of the volumes of an interface's table."""

    def __init__(self, owner: ListedFiles_interface) -> None:
        super().__init__(owner.channels, owner.classes, owner.three_dim, label_map=owner.label_map)
        self.owner = owner

    def image_paths(self, index: Hashable) -> list[Path]:
        return list(self.owner._sample(index).images)

    def segmentation_path(self, index: Hashable) -> Path:
        return self.owner._segmentation(index)

    def segmentation_infos(self, index: Hashable) -> list[VolumeInfo]:
        masks = self.owner._sample(index).masks
        return [read_info(mask.path) for mask in masks] or super().segmentation_infos(index)

    def source_paths(self, index: Hashable, input_path: str | Path) -> list[Path]:
        return self.owner._sources(index)

    def _labels(self, index: Hashable) -> tuple[np.ndarray, Path]:
        masks = self.owner._sample(index).masks
        if not masks:
            return super()._labels(index)

        def read(path: Path) -> np.ndarray:
            info = read_info(path)
            return read_voxels(info).reshape(self.label_shape(info), order="F")

        return unite(index, masks, read, self.classes), masks[0].path.parent


class _ListedImages(Image_interface):
    """Reader and writer of the PNG, TIFF, … files of an interface's table."""

    def __init__(self, owner: ListedFiles_interface, ending: str) -> None:
        if owner.channels not in (1, 3) or owner.three_dim:
            raise DataError(
                f"{owner.data_directory or type(owner).__name__}: images in {ending} files have 1 channel (grey) or 3 "
                f"(colours) and two dimensions, not channels={owner.channels}, three_dim={owner.three_dim}; convert "
                "the files to .nii.gz, or correct the arguments"
            )
        img_type = "rgb" if owner.channels == 3 else "grayscale"
        super().__init__(owner.classes, img_type, ending, label_map=owner.label_map)
        self.owner = owner
        self.palette_colours = owner.palette_colours

    def image_path(self, index: Hashable) -> Path:
        images = self.owner._sample(index).images
        if len(images) > 1:
            raise DataError(
                f"{images[0]} is one of {len(images)} files of the sample {index!r}; one file per channel is "
                "supported for volumes only: convert them, or save colours as one image"
            )
        return images[0]

    def segmentation_path(self, index: Hashable) -> Path:
        return self.owner._segmentation(index)

    def source_paths(self, index: Hashable, input_path: str | Path) -> list[Path]:
        return self.owner._sources(index)

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        masks = self.owner._sample(index).masks
        if not masks:
            return super().load_segmentation(index)
        return check_labels(self.stored_labels(index), self.classes, masks[0].path.parent, self.label_map)

    def stored_labels(self, index: Hashable) -> np.ndarray:
        masks = self.owner._sample(index).masks
        return unite(index, masks, image_file.read_mask, self.classes) if masks else super().stored_labels(index)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        masks = self.owner._sample(index).masks if load_seg else ()
        super().check(index, load_seg and not masks)
        for mask in masks:
            size, other = image_file.image_size(self.image_path(index)), image_file.check_mask(mask.path)
            if size != other:
                raise GridError(
                    f"{mask.path} is {other} (rows, columns), {self.image_path(index)} is {size}; they must be the "
                    "same size"
                )
