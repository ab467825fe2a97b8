"""Interface for 2D images: a folder per sample with ``imaging.png`` and ``segmentation.png``, or another format."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from miscnn_tf._base import configuration
from miscnn_tf._base.files import atomic_path, inside
from miscnn_tf._base.messages import some_of
from miscnn_tf._base.plain_files import read_array
from miscnn_tf.data_loading._discovery.image_forms import have_colours
from miscnn_tf.data_loading.file_names import (
    ending_of,
    find_file,
    find_samples,
    folder_below,
    list_files,
    sample_folder,
    visible_files,
)
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.image_file import IMAGES, LOSSLESS, LOSSY, MASKS, LossyMaskError
from miscnn_tf.data_loading.interfaces.abstract_io import (
    Abstract_IO,
    prediction_labels,
    prediction_to_write,
    stat_fingerprint,
)
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap, as_key, colour_keys, is_colour, is_threshold
from miscnn_tf.data_loading.label_values import class_values, mapped_values
from miscnn_tf.data_loading.labels import check_image, check_labels, normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, GridError, MissingDataError, RepeatedWarning

logger = logging.getLogger(__name__)

_CHANNELS = {"grayscale": 1, "rgb": 3}
#: Range of label values in the formats.
_LIMITS = {"png": (0, 2**16 - 1), "bmp": (0, 2**8 - 1)}
_LIMITS_OF_TIFF = (-(2**31), 2**31 - 1)


class Image_interface(Abstract_IO):
    """Interface for 2D images in PNG, TIFF, JPEG, BMP, GIF or PPM files, as arrays of ``(rows, columns)``.

    A sample is a folder with ``imaging.<fmt>`` and, for training, ``segmentation.<fmt>``. Depth is kept (8, 16 and 32
    bits, float32). Masks are grey values or palette indices in a lossless format, all but JPEG; colours with a
    label map of colours, ``{"#ff0000": 1}``; and JPEG with one that has a threshold, ``{"128+": 1}``. Images and masks
    are turned upright by their Orientation tag; predictions are upright, without the tag.

    Predictions are ``<output_path>/<index>.<fmt>`` (``.png`` for JPEG, GIF and PPM data), grey values that are the
    labels, with 16 bits where they need them, or colours; activation output is ``<output_path>/<index>.npy``, float32
    ``(rows, columns, classes)``.

    Args:
        classes: Number of classes, background included.
        img_type: "grayscale" (1 channel; colours become luminance) or "rgb" (3 channels).
        img_format: "png", "tif", "tiff", "bmp", "gif", "ppm", "pgm", "ppm.gz", "pgm.gz", "jpg" or "jpeg".
        pattern: Regular expression that a folder's whole name must match to be a sample; None takes all.
        label_map: Labels for values or colours in the masks, ``{255: 1}``; other values are kept. Predictions are
            written in the same values or colours.

    Example:
        >>> interface = Image_interface(classes=2, img_type="rgb", img_format="tif", label_map={255: 1})
        >>> interface.channels
        3
    """

    layout_description: ClassVar[str] = """\
a folder per sample, with images
  case_00/imaging.png             or .tif, .bmp, .jpg
  case_00/segmentation.png"""
    recognition_order: ClassVar[int] = 30

    def __init__(
        self,
        classes: int = 2,
        img_type: str = "grayscale",
        img_format: str = "png",
        pattern: str | None = None,
        *,
        label_map: LabelMap | None = None,
    ) -> None:
        if img_type not in _CHANNELS:
            raise ConfigurationError(f"img_type={img_type!r}: choose one of {', '.join(_CHANNELS)}")
        ending = str(img_format).lower().lstrip(".")
        if ending not in IMAGES:
            raise ConfigurationError(f"img_format={img_format!r}: choose one of {', '.join(IMAGES)}")
        super().__init__(channels=_CHANNELS[img_type], classes=classes, three_dim=False)
        self.img_type = img_type
        self.img_format = ending
        self.pattern = pattern
        self.label_map = normalised_label_map(label_map, classes)
        self._require_storable(self._prediction_ending)
        self.data_directory: Path | None = None
        # Colour of each palette index, and the first mask with it.
        self.palette_colours: dict[int, tuple[str, Path]] = {}

    @classmethod
    def find_image(cls, folder: Path) -> Path | None:
        """Return ``imaging.<ending>`` of a sample's folder, in any of the formats; None if it is missing."""
        return _first(folder, "imaging", list(IMAGES))

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the image of a sample's folder; none if it holds other images beside it and its mask."""
        image = self._image_in(folder) or self.find_image(folder)
        held = [path for path in visible_files(folder) if self.check_file_termination(path.suffix)]
        alone = {path.stem.lower() for path in held} <= {"imaging", "segmentation"}
        return {folder.name: (image,)} if image is not None and alone else {}

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface; format and colours are those of most images, classes those of all masks."""
        arguments = dict(settings)
        channels = arguments.pop("channels", None)
        if arguments.pop("three_dim", False):
            raise ConfigurationError("three_dim=True: images in such files have two dimensions; save volumes as NIfTI")
        if channels not in (None, 1, 3):
            raise ConfigurationError(f"channels={channels}: images in such files have 1 channel (grey) or 3 (colours)")
        if "img_format" not in arguments:
            arguments["img_format"] = _usual_format(folder, settings.get("pattern"))
        if "img_type" not in arguments:
            images = Image_interface(img_format=arguments["img_format"], pattern=settings.get("pattern"))
            if channels is None:
                channels = 3 if have_colours(images.initialize(folder), images.image_path, folder) else 1
            arguments["img_type"] = "rgb" if channels == 3 else "grayscale"
        return cls.from_labels(folder, arguments)

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return False: only the masks show the classes."""
        return False

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in segmentations and predictions, by the label map."""
        return class_values(self.label_map, self.classes)

    def initialize(self, input_path: str | Path) -> list[Hashable]:
        """Find the sample folders below `input_path`.

        Returns:
            Their names, sorted.

        Raises:
            MissingDataError: If none exist; the message lists what was found instead.
            ConfigurationError: If `pattern` is not a valid regular expression.
        """
        indices = find_samples(
            input_path, self.pattern, lambda folder: self._image_in(folder) is not None, f"imaging.{self.img_format}"
        )
        self.data_directory = Path(input_path)
        return indices

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the image of a sample: ``(rows, columns)``, "rgb" ``(rows, columns, 3)``, and ``{"type": "image"}``.

        Raises:
            MissingDataError: If it is missing.
            DataError: If it is damaged or has several pages.
        """
        return self.read_file(self.image_path(index))

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns: the type. These formats do not store a spacing in mm."""
        return {"type": "image"}

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return rows and columns of the image, from its header alone."""
        return image_file.image_size(self.image_path(index))

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Read the mask of a sample: ``(rows, columns)``, uint8 (uint16 above 256 classes).

        Raises:
            MissingDataError: If it is missing.
            DataError: If it was compressed with loss, or its values are not labels below `classes`.
        """
        path = self.segmentation_path(index)
        return check_labels(image_file.read_mask(path, self.label_map), self.classes, path, self.label_map)

    def stored_labels(self, index: Hashable) -> np.ndarray:
        """Return the stored values of the mask, regardless of `classes` and `label_map`."""
        path = self.segmentation_path(index)
        if self.label_map is not None:
            return image_file.read_mask(path, self.label_map)
        labels = image_file.read_any_mask(path)
        self._compare_palettes(path, labels)
        return labels

    def load_prediction(self, index: Hashable, output_path: str | Path) -> np.ndarray:
        """Read a stored prediction: labels ``(rows, columns)``, or probabilities ``(rows, columns, classes)``.

        Raises:
            MissingDataError: If the prediction is missing.
        """
        labels, activation = self._prediction_paths(index, output_path)
        if labels.is_file():
            stored = image_file.read_mask(labels, self.label_map)
            return prediction_labels(stored, self.classes, labels, self.label_map, self.values_of_classes())
        if not activation.is_file():
            raise MissingDataError(f"prediction {labels} does not exist; predict {index!r} first")
        return read_array(activation, f"predict {index!r} again")

    def save_prediction(self, sample: Sample, output_path: str | Path) -> None:
        """Write the prediction of a sample below `output_path`, atomically, replacing an earlier one."""
        labels, activation = self._prediction_paths(sample.index, output_path)
        is_activation = prediction_to_write(sample, labels)[1]
        self.write_file(sample, activation if is_activation else labels)
        (labels if is_activation else activation).unlink(missing_ok=True)

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if files with this ending (``".png"``) are images."""
        return termination.lower().startswith(".") and termination.lower()[1:] in IMAGES

    def writes_file_termination(self, termination: str) -> bool:
        """Return True if files with this ending are images of a format that is written; GIF and PPM are only read.

        Raises:
            ConfigurationError: If the format cannot hold the values of the label map.
        """
        ending = termination.lower().lstrip(".")
        if ending in LOSSLESS:
            self._require_storable(ending)
        return self.check_file_termination(termination) and (ending in LOSSLESS or ending in LOSSY)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check a sample by its headers: files exist, masks are lossless, sizes are equal.

        Raises:
            DataError: If a check fails; the message names the file.
        """
        image = self.image_path(index)
        size = image_file.image_size(image)
        if not load_seg:
            return
        mask = self.segmentation_path(index)
        other = image_file.check_mask(mask, self.label_map)
        if size != other:
            raise GridError(f"{mask} is {other} (rows, columns), {image} is {size}; they must be the same size")

    def fingerprint(self, index: Hashable, input_path: str | Path) -> str | None:
        """Return a digest of the sample's files (name, size, time of change) and the label map; None without files."""
        files = self.source_paths(index, input_path)
        return configuration.digest(stat_fingerprint(files), self.label_map) if files else None

    def read_file(self, path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Read an image at any path, as `load_image` does.

        Args:
            path: An image file, or a folder with ``imaging.<img_format>``.

        Raises:
            ConfigurationError: If it is several files.
            DataError: If it cannot be read.
        """
        if not isinstance(path, str | Path):
            raise ConfigurationError(f"{type(self).__name__} reads one file at a time, got {path!r}")
        if Path(path).is_dir():
            path = self._image_in(Path(path)) or Path(path) / f"imaging.{self.img_format}"
        return check_image(image_file.read_colours(path, self.img_type), path), {"type": "image"}

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data``: labels to a PNG, TIFF or BMP file, probabilities to a ``.npy`` file, atomically.

        Raises:
            ConfigurationError: If the file ending is not supported for the prediction.
        """
        path = Path(path)
        array, activation = prediction_to_write(sample, path, self.values_of_classes())
        if not activation:
            # Only TIFF supports signed and wide integers.
            image_file.write_mask(path, array if array.dtype in (np.uint8, np.uint16) else array.astype(np.int32))
            return
        if path.suffix.lower() != ".npy":
            raise ConfigurationError(f"{path}: an image file cannot hold class probabilities; name the file .npy")
        with atomic_path(path) as temporary:
            np.save(temporary, array, allow_pickle=False)

    # Paths of the files. A subclass for another layout overrides these three (and `initialize`).

    def image_path(self, index: Hashable) -> Path:
        """Return the image file of a sample.

        Raises:
            MissingDataError: If it is missing.
        """
        folder = sample_folder(self.data_directory, index, self)
        path = self._image_in(folder)
        if path is None:
            raise MissingDataError(f"{folder} holds no imaging.{self.img_format} (found: {list_files(folder)}); add it")
        return path

    def segmentation_path(self, index: Hashable) -> Path:
        """Return the mask of a sample.

        Raises:
            MissingDataError: If it is missing.
            DataError: If it is in a format with loss.
        """
        folder = sample_folder(self.data_directory, index, self)
        path = self._mask_in(folder)
        if path is not None:
            return path
        lossy = _first(folder, "segmentation", list(LOSSY))
        if lossy is not None:
            raise LossyMaskError(
                f"{lossy}: the mask is in a lossy format, which changes labels; save it without loss as "
                "segmentation.png (the images may stay as they are), or separate its values by a threshold, "
                "--label-map 128+=1 (Python: label_map={'128+': 1})"
            )
        wanted = self.img_format if self.img_format in LOSSLESS else "png"
        raise MissingDataError(
            f"{folder} holds no segmentation.{wanted} (found: {list_files(folder)}); add it, or leave {index!r} out "
            "of training"
        )

    def sample_files(self, index: Hashable) -> SampleFiles:
        """Return the files of a sample."""
        return SampleFiles((self.image_path(index),), self._mask_in(sample_folder(self.data_directory, index, self)))

    def source_paths(self, index: Hashable, input_path: str | Path) -> list[Path]:
        """Return all files of a sample that exist."""
        folder = folder_below(input_path, index)
        return [path for path in (self._image_in(folder), self._mask_in(folder)) if path is not None]

    def _image_in(self, folder: Path) -> Path | None:
        return _first(folder, "imaging", image_file.spellings(self.img_format))

    def _mask_in(self, folder: Path) -> Path | None:
        wanted = image_file.spellings(self.img_format) if self.img_format in MASKS else []
        lossy = LOSSY if any(map(is_threshold, self.label_map or ())) else ()
        return _first(folder, "segmentation", [*wanted, *MASKS, *lossy])

    def _compare_palettes(self, path: Path, labels: np.ndarray) -> None:
        """Warn if the same palette index has different colours in two masks: programs order palettes as they like."""
        palette = image_file.palette_of(path)
        if palette is None:
            return
        for index in np.unique(labels).tolist():
            if index >= len(palette):
                continue
            colour = str(as_key(int(colour_keys(palette[index].astype(np.uint8)))))
            before, other = self.palette_colours.setdefault(index, (colour, path))
            if before != colour:
                warnings.warn(
                    RepeatedWarning(
                        f"{path}: the palette index {index} is {colour}, but {before} in {other}. Palette indices are "
                        "read as labels; if the colours are the classes, give them, label_map="
                        f"{{{before!r}: 1, …}}",
                        key="palettes of masks",
                    ),
                    stacklevel=4,
                )

    @property
    def _prediction_ending(self) -> str:
        return self.img_format if self.img_format in LOSSLESS else "png"

    def _prediction_paths(self, index: Hashable, output_path: str | Path) -> tuple[Path, Path]:
        return inside(output_path, index, f".{self._prediction_ending}"), inside(output_path, index, ".npy")

    def _require_storable(self, ending: str) -> None:
        """Refuse a label map whose values a format cannot hold, before predicting."""
        values = [value for value in mapped_values(self.label_map).values() if not is_colour(value)]
        low, high = _LIMITS.get(ending, _LIMITS_OF_TIFF)
        beyond = sorted(value for value in values if not low <= value <= high)
        if beyond:
            raise ConfigurationError(
                f"label_map={self.label_map}: predictions would hold {some_of(beyond)}, but .{ending} files hold {low} "
                f"to {high}. Give the class a value in this range as well ({{1: 1, {beyond[0]}: 1}}), or use TIFF"
            )


def _usual_format(root: Path, pattern: str | None) -> str:
    """Return the format of most images in sample folders; warn of samples in another one."""
    names = find_samples(root, pattern, lambda folder: _format_in(folder) != "", "imaging.png")
    formats = {name: _format_in(root / str(name)) for name in names}
    counts = Counter(min(image_file.spellings(ending)) for ending in formats.values())
    (usual, most), *others = counts.most_common()
    if others and others[0][1] == most:
        raise DataError(
            f"{root}: the formats {usual} and {others[0][0]} are equally frequent; give img_format={usual!r} (which "
            "leaves out the others), or convert some"
        )
    odd = [f"{name} ({ending})" for name, ending in formats.items() if min(image_file.spellings(ending)) != usual]
    if odd:
        logger.warning("%s: most images are %s; images in other formats left out: %s", root, usual, some_of(odd, 20))
    return next(ending for ending in formats.values() if min(image_file.spellings(ending)) == usual)


def _format_in(folder: Path) -> str:
    """Return the ending of the image in a sample's folder, in small letters without the dot; empty without one."""
    path = Image_interface.find_image(folder)
    return "" if path is None else ending_of(path)[1:]


def _first(folder: Path, stem: str, endings: list[str]) -> Path | None:
    return find_file(folder, stem, [f".{ending}" for ending in dict.fromkeys(endings)], any_case=True)
