"""Interface for the slices of NIfTI volumes as 2D samples."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from miscnn_tf._base.arguments import byte_count
from miscnn_tf._base.files import inside
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.file_names import ENDINGS, find_nifti, sample_folder
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.data_loading.formats.volumes import read_info, read_voxels
from miscnn_tf.data_loading.formats.voxel_file import VoxelFile, map_voxels, scaled_values
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, prediction_labels, prediction_to_write
from miscnn_tf.data_loading.interfaces.nifti_io import NIFTI_interface, find_prediction, with_usual_form
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.data_loading.label_scan import ANY_CLASSES
from miscnn_tf.data_loading.label_values import class_values, to_values
from miscnn_tf.data_loading.labels import check_image, check_labels, normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

# A memory map keeps its file open, and the number of open files is limited.
_MOST_VOLUMES = 64
#: Separator of the folder and the slice number in an index.
SEPARATOR = ":#:"


class VolumeCache:
    """Cache of the decoded volumes used last, up to `budget` bytes; safe for several threads.

    Uncompressed files are memory-mapped instead and cost nothing. A volume larger than the budget is kept alone, so
    that it is not decoded again for each slice.

    Args:
        budget: Bytes of decoded voxels to keep.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int, int], tuple[VolumeInfo, np.ndarray]] = OrderedDict()
        self._locks: dict[tuple[str, int, int], threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of decoded voxels in the cache."""
        return sum(_cost(volume) for _, volume in self._held.values())

    def plane(self, path: Path, axis: int, position: int) -> tuple[VolumeInfo, np.ndarray]:
        """Return the header of a volume, and a copy of one of its slices without the sliced axis."""
        info, volume = self._volume(path)
        part = volume[(slice(None),) * axis + (position,)]
        if isinstance(info, VoxelFile) and isinstance(volume, np.memmap):
            return info, scaled_values(part, info)
        return info, np.ascontiguousarray(part)

    def _volume(self, path: Path) -> tuple[VolumeInfo, np.ndarray]:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise MissingDataError(f"{path}: the file does not exist; check the path") from None
        key = (str(path), status.st_mtime_ns, status.st_size)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            own = self._locks.setdefault(key, threading.Lock())
        # One thread decodes a volume; others that need the same volume wait, readers of other volumes do not.
        with own:
            with self._lock:
                if key in self._held:
                    return self._held[key]
            try:
                info = read_info(path)
                volume = map_voxels(info) if isinstance(info, VoxelFile) and info.mappable else read_voxels(info)
            finally:
                with self._lock:
                    self._locks.pop(key, None)
            with self._lock:
                self._held[key] = (info, volume)
                while len(self._held) > 1 and (self.nbytes > self.budget or len(self._held) > _MOST_VOLUMES):
                    self._held.popitem(last=False)
        return info, volume

    # A copy, for another process or interface, starts empty: locks and volumes are not copied.
    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["budget"])  # type: ignore[misc]


def _cost(volume: np.ndarray) -> int:
    return 0 if isinstance(volume, np.memmap) else volume.nbytes


class NIFTIslicer_interface(Abstract_IO):
    """Interface for the slices of NIfTI volumes as 2D samples.

    Folders and files are those of `NIFTI_interface`; the index of a slice is ``"<folder>:#:<slice>"``. Volumes are
    decoded once for all their slices, as long as `cache_bytes` allow; uncompressed ones are memory-mapped.

    The prediction of a slice is a NIfTI volume one voxel thick at the position of the slice;
    `assemble_volume` combines the slices of a volume.

    Args:
        slice_axis: Array axis that is cut: 0, 1 or 2.
        channels: Number of channels.
        classes: Number of classes, background included.
        pattern: Regular expression that a folder's whole name must match to be a sample; None takes all.
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept. Predictions are
            written in the same values.
        cache_bytes: Memory for decoded volumes (images and label maps together), in bytes or as text such as ``"4GB"``.

    Example:
        >>> interface = NIFTIslicer_interface(slice_axis=2, classes=3)
        >>> interface.initialize("data")[0]  # doctest: +SKIP
        'case_00000:#:0'
    """

    def __init__(
        self,
        slice_axis: int = 0,
        channels: int = 1,
        classes: int = 2,
        pattern: str | None = None,
        *,
        label_map: LabelMap | None = None,
        cache_bytes: int | str = 2**30,
    ) -> None:
        super().__init__(channels=channels, classes=classes, three_dim=False)
        if slice_axis not in (0, 1, 2):
            raise ConfigurationError(f"slice_axis={slice_axis!r} must be 0, 1 or 2")
        self.slice_axis = int(slice_axis)
        self.pattern = pattern
        self.label_map = normalised_label_map(label_map, classes)
        self.cache_bytes = byte_count(cache_bytes, "cache_bytes", least=0)
        self.data_directory: Path | None = None
        self._volumes = NIFTI_interface(channels, classes, True, pattern, label_map=label_map)
        self._cache = VolumeCache(self.cache_bytes)

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface; channels are those of most volumes, classes those of all segmentations."""
        arguments = with_usual_form(folder, {"three_dim": True, **settings})
        if settings.get("three_dim"):
            raise ConfigurationError("three_dim=True: slices have two dimensions; choose 'NIFTI' for volumes")
        del arguments["three_dim"]
        # Whole volumes are scanned, not slice by slice.
        volumes = NIFTI_interface(arguments["channels"], ANY_CLASSES, True, arguments.get("pattern"))
        return cls.from_labels(folder, arguments, volumes)

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return False: only the segmentations show the classes."""
        return False

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in segmentations and predictions, by the label map."""
        return class_values(self.label_map, self.classes)

    def initialize(self, input_path: str | Path) -> list[Hashable]:
        """Find the volumes below `input_path` and count their slices, reading headers only.

        Returns:
            An index per slice, sorted by folder, then slice.

        Raises:
            MissingDataError: If the volume is missing.
            DataError: If a volume's header is damaged, or is not that of a volume with these channels.
        """
        indices: list[Hashable] = []
        for folder in self._volumes.initialize(input_path):
            info = self._volumes.image_infos(folder)[0]
            indices.extend(f"{folder}{SEPARATOR}{position}" for position in range(info.shape[self.slice_axis]))
        self.data_directory = Path(input_path)
        return indices

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Read one slice.

        Returns:
            The slice ``(x, y[, channels])`` in the file's integer type or float32; and
            ``{"type": "nifti_slice", "affine": 4x4 of the slice, "spacing": mm of its two axes, "slice_axis": …,
            "slice": …, …}``.

        Raises:
            DataError: If the volume is damaged, or has no such slice.
        """
        folder, position = self._split(index)
        infos = self._volumes.image_infos(folder)
        self._in_range(index, position, infos[0])
        planes = [self._cache.plane(info.path, self.slice_axis, position)[1] for info in infos]
        for info, plane in zip(infos, planes, strict=True):
            check_image(plane, f"{info.path}, slice {position}")
        image = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
        if image.dtype == np.float64:
            image = image.astype(np.float32)
        return image, self._extended(infos[0], position)

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns, from the volume's header alone."""
        folder, position = self._split(index)
        info = self._volumes.image_infos(folder)[0]
        self._in_range(index, position, info)
        return self._extended(info, position)

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return the shape of the slice, from the volume's header alone."""
        folder, position = self._split(index)
        info = self._volumes.image_infos(folder)[0]
        self._in_range(index, position, info)
        return tuple(size for axis, size in enumerate(info.shape[:3]) if axis != self.slice_axis)

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Read the label map of a slice: ``(x, y)``, uint8 (uint16 above 256 classes).

        Raises:
            MissingDataError: If it is missing.
            DataError: If its values are not labels below `classes`.
        """
        folder, position = self._split(index)
        info = self._volumes.segmentation_info(folder)
        self._volumes.label_shape(info)
        self._in_range(index, position, info)
        _, plane = self._cache.plane(info.path, self.slice_axis, position)
        return check_labels(plane, self.classes, f"{info.path}, slice {position}", self.label_map)

    def load_prediction(self, index: Hashable, output_path: str | Path) -> np.ndarray:
        """Read a stored prediction: labels ``(x, y)``, or probabilities ``(x, y, classes)`` as float32.

        Raises:
            MissingDataError: If the prediction is missing.
        """
        path = find_prediction(index, output_path)
        plane = self._only_slice(read_info(path))
        if plane.ndim == 3:
            return plane
        return prediction_labels(plane, self.classes, path, self.label_map, self.values_of_classes())

    def save_prediction(self, sample: Sample, output_path: str | Path) -> None:
        """Write the prediction of a slice to ``<output_path>/<index>.nii.gz``, atomically."""
        self.write_file(sample, inside(output_path, sample.index, ENDINGS[0]))

    def assemble_volume(self, folder: Hashable, output_path: str | Path, path: str | Path | None = None) -> Path:
        """Combine the predicted slices of a volume, in the geometry of its image.

        Args:
            folder: The volume: the index of its slices up to ``":#:"``.
            output_path: Folder of the predicted slices.
            path: The file to write; ``<output_path>/<folder>.nii.gz`` by default.

        Returns:
            The file that was written.

        Raises:
            MissingDataError: If slices were not predicted yet; the message lists them.
        """
        info = self._volumes.image_infos(folder)[0]
        indices = [f"{folder}{SEPARATOR}{position}" for position in range(info.shape[self.slice_axis])]
        missing = [index for index in indices if find_nifti(inside(output_path, index)) is None]
        if missing:
            raise MissingDataError(
                f"{output_path} lacks {len(missing)} of {len(indices)} slices of {folder}: predict {some_of(missing)}"
            )
        volume: np.ndarray | None = None
        for position, index in enumerate(indices):
            plane = self.load_prediction(index, output_path)
            if volume is None:
                shape = list(plane.shape)
                shape.insert(self.slice_axis, len(indices))
                volume = np.empty(shape, plane.dtype, order="F")
            place = volume[(slice(None),) * self.slice_axis + (position,)]
            if plane.shape != place.shape:
                raise DataError(
                    f"{inside(output_path, index, ENDINGS[0])}: the slice has shape {plane.shape}, the first one "
                    f"{place.shape}; predict all slices of {folder} the same way"
                )
            place[...] = plane
        assert volume is not None
        if volume.ndim == 3:  # labels
            volume = to_values(volume, self.values_of_classes(), folder)
        target = Path(path) if path is not None else inside(output_path, folder, ENDINGS[0])
        write_nifti(target, volume, info.geometry())
        return target

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if the ending is ``.nii`` or ``.nii.gz``."""
        return NIFTI_interface.check_file_termination(termination)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check the volume of a slice by its headers, as `NIFTI_interface.check` does."""
        folder, position = self._split(index)
        self._in_range(index, position, self._volumes.image_infos(folder)[0])
        self._volumes.check(folder, load_seg)

    def fingerprint(self, index: Hashable, input_path: str | Path) -> str | None:
        """Return a digest of the files of the slice's volume and of the label map."""
        return self._volumes.fingerprint(self._split(index)[0], input_path)

    def read_file(self, path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Read a NIfTI file that holds one slice: one voxel along `slice_axis`, or 2D.

        Raises:
            ConfigurationError: If it is several files.
            DataError: If it is a volume of more slices, or not a file.
        """
        if not isinstance(path, str | Path):
            raise ConfigurationError(f"{type(self).__name__} reads one file at a time, got {path!r}")
        info = read_info(path)
        plane = self._only_slice(info)
        if (plane.shape[2] if plane.ndim == 3 else 1) != self.channels:
            raise DataError(
                f"{path}: shape {info.shape}, but one slice with {self.channels} channel(s) is needed; make the "
                "interface with other channels, or correct the file"
            )
        return check_image(plane, path), self._extended(info, 0)

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data`` as a NIfTI volume one voxel thick at the position of the slice, atomically."""
        array, _ = prediction_to_write(sample, path, self.values_of_classes())
        axis = int(sample.extended.get("slice_axis", self.slice_axis))
        write_nifti(path, np.expand_dims(array, axis), sample.extended)

    def _split(self, index: Hashable) -> tuple[str, int]:
        folder, separator, position = str(index).rpartition(SEPARATOR)
        if not separator or not position.isdecimal():
            raise DataError(f"{index!r} is not the name of a slice; slices are named '<folder>{SEPARATOR}<number>'")
        if self.data_directory is not None:
            sample_folder(self.data_directory, folder, self)
        return folder, int(position)

    def _in_range(self, index: Hashable, position: int, info: VolumeInfo) -> None:
        slices = info.shape[self.slice_axis]
        if position >= slices:
            raise DataError(f"{index!r}: {info.path} has slices 0 to {slices - 1} along axis {self.slice_axis}")

    def _extended(self, info: VolumeInfo, position: int) -> dict[str, Any]:
        facts = info.geometry()
        start = [0, 0, 0]
        start[self.slice_axis] = position
        for form in ("affine", "qform"):
            if form in facts:
                facts[form] = geometry.shifted_affine(facts[form], start)
        if "spacing" in facts:
            facts["spacing"] = np.delete(facts["spacing"], self.slice_axis)
        # Without qform and sform, viewers place a file by its shape, which is wrong for a slice.
        if not facts.get("qform_code") and not facts.get("sform_code"):
            facts["qform_code"] = facts["sform_code"] = 1
        return {**facts, "type": "nifti_slice", "slice_axis": self.slice_axis, "slice": position}

    def _only_slice(self, info: VolumeInfo) -> np.ndarray:
        shape = info.shape
        flat = len(shape) == 2
        if not flat and shape[self.slice_axis] != 1:
            raise DataError(
                f"{info.path}: a volume of {shape[self.slice_axis]} slices (shape {shape}) along axis "
                f"{self.slice_axis}; one slice is needed. Read volumes with initialize and '<folder>:#:<slice>'"
            )
        array = read_voxels(info)
        return array if flat else np.ascontiguousarray(array[(slice(None),) * self.slice_axis + (0,)])
