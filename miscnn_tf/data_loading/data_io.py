"""Data_IO: reading samples, and writing predictions, batches and prepared samples."""

from __future__ import annotations

import copy
import errno
import importlib
import logging
import random
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.configuration import get_config
from miscnn_tf._base.files import atomic_path, inside, make_folder
from miscnn_tf._base.messages import did_you_mean, some_of
from miscnn_tf._base.plain_files import read_arrays
from miscnn_tf._base.representation import Represented
from miscnn_tf.data_loading.cache.sample_files import SAMPLE_FILE, encode_name, read_sample, remove_sample, write_sample
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.earlier_signatures import with_current_arguments
from miscnn_tf.data_loading.interfaces.registered import miscnn_data_interfaces
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import (
    MOST_CLASSES,
    LabelWarning,
    check_image,
    check_labels,
    label_dtype,
    require_classes,
)
from miscnn_tf.data_loading.layout_detection import locate_data
from miscnn_tf.data_loading.sample import Sample, as_index_list, memory_for
from miscnn_tf.errors import ConfigurationError, DataError, LabelError, MiscnnError, MissingDataError, StorageError

# The functions are resolved by __getattr__ below.
__all__ = ["Data_IO", "backup_evaluation", "backup_history", "create_directories"]  # noqa: F822

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHOWN = 20
_PROGRESS_AFTER = 2.0  # seconds
# Errors of the files of one sample, not of the machine.
_READ_ERRORS = {
    getattr(errno, name) for name in ("EACCES", "EPERM", "EIO", "ELOOP", "ENAMETOOLONG", "EISDIR", "ENOTDIR")
}
_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class Data_IO(Represented):
    """Load samples through an interface, save predictions, and store batches and prepared samples on disk.

    Args:
        interface: Reads and writes the data format; one of `miscnn_tf.data_loading.interfaces`, or your own subclass of
            `Abstract_IO`.
        input_path: The data; for most formats a folder with a folder per sample.
        output_path: Folder for predictions, created when the first is saved.
        batch_path: Folder for batches and prepared samples, created when the first is written. Several runs may share
            it: each writes and removes only names that begin with its own `seed`.
        delete_batchDir: Whether `batch_cleanup` also removes `batch_path`, if nothing else is left in it.

    Attributes:
        indices_list: The names of all samples, in the interface's order.
        seed: A random whole number, different for each instance.

    Raises:
        ConfigurationError: If the interface lacks a required method or attribute.
        MissingDataError: If no samples are found.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> data_io = Data_IO(NIFTI_interface(channels=1, classes=3), "kits19/data")  # doctest: +SKIP
        >>> data_io.sample_loader(data_io.get_indiceslist()[0]).shape  # doctest: +SKIP
        (611, 512, 512, 1)
    """

    def __init__(
        self,
        interface: Abstract_IO,
        input_path: str | Path,
        output_path: str | Path = "predictions",
        batch_path: str | Path = "batches",
        delete_batchDir: bool = True,
    ) -> None:
        _require_interface(interface)
        self.interface = interface
        self.input_path = input_path
        self.output_path = output_path
        self.batch_path = batch_path
        self.delete_batchDir = delete_batchDir
        # Not from the global generators, which a script may seed: two runs of the script must not share names.
        self.seed: int = random.SystemRandom().randrange(10**12)
        self.indices_list: list[Hashable] = self._find_samples()

    def _description(self) -> dict[str, Any]:
        return {
            "samples": f"{len(self.indices_list)}: {some_of(map(str, self.indices_list), 3)}",
            "interface": repr(self.interface),
            "input_path": self.input_path,
            "output_path": self.output_path,
            "batch_path": self.batch_path,
        }

    def get_indiceslist(self) -> list[Hashable]:
        """Return the names of all samples, in a new list."""
        return list(self.indices_list)

    # ---------------------------------------------------------------- samples

    def sample_loader(
        self, index: Hashable, load_seg: bool = True, load_pred: bool = False, backup: bool = False
    ) -> Sample:
        """Read a sample and check that it matches the interface's settings.

        Args:
            index: The sample's name.
            load_seg: Whether to read its label map.
            load_pred: Whether to read its prediction from `output_path`.
            backup: Whether to read the sample that `backup_sample` wrote instead of the source.

        Returns:
            The sample. Images are float32 or an integer type of at most 32 bits, label maps uint8 (uint16 above 256
            classes). A label map or prediction with labels that are not below ``interface.classes`` is returned
            unchanged, for viewing; training, verification and scoring refuse it.

        Raises:
            MissingDataError: If the sample, its label map or its prediction does not exist.
            DataError: If the number of axes or channels is not the interface's, image and label map differ in shape, or
                labels are fractional, negative or above 65535.

        Warns:
            NotFiniteWarning: If the image holds NaN or infinite voxels.
            LabelWarning: If labels are not below ``interface.classes``.
        """
        self._require_safe(index)
        if backup:
            return self.load_sample_pickle(index)
        with memory_for(index, "reading it", lambda: self.interface.load_shape(index)):
            return self._load(index, load_seg, load_pred)

    def _load(self, index: Hashable, load_seg: bool, load_pred: bool) -> Sample:
        interface = self.interface
        where = f"sample {index!r} (read by {type(interface).__name__} from {self.input_path})"
        image, extended = _image_and_facts(self._ask(index, lambda: interface.load_image(index)), where)
        image = _compact_type(image, f"{where}: the image")
        if not _is_ours(interface, "load_image"):  # interfaces of this package check it themselves, and name the file
            image = check_image(image, where)
        sample = Sample(
            *(index, image, interface.channels, interface.classes, extended, interface.three_dim),
            scheme=scheme_of(interface),
        )
        load_details = getattr(interface, "load_details", None)
        details = None if load_details is None else self._ask(index, lambda: load_details(index))
        if details is not None:
            sample.add_details(details)
        if load_seg:
            sample.add_segmentation(self._with_any_labels(index, lambda one: self._segmentation(one, index, where)))
        if load_pred:
            self._add_prediction(sample, where)
        return sample

    def get_samples(self, load_seg: bool = False, load_pred: bool = False) -> list[Sample]:
        """Load all samples into memory at the same time; see `sample_loader`."""
        return [self.sample_loader(index, load_seg=load_seg, load_pred=load_pred) for index in self.indices_list]

    def save_prediction(self, sample: Sample, write: Callable[[Sample], None] | None = None) -> None:
        """Write ``sample.pred_data`` to `output_path` in the interface's format.

        Args:
            sample: The sample.
            write: Writes it instead of the interface: see `prediction_formats.prediction_writer`.

        Raises:
            ConfigurationError: If the sample has no prediction.
            DataError: If its index cannot be a file name below `output_path`.
            StorageError: If it cannot be written. Earlier predictions are complete.
        """
        self._require_safe(sample.index)
        if sample.pred_data is None:
            raise ConfigurationError(
                f"sample {sample.index!r} has no prediction to save; call sample.add_prediction(...) first"
            )
        make_folder(self.output_path)
        try:
            with memory_for(sample.index, "writing its prediction", lambda: sample.shape):
                if write is None:
                    with_current_arguments(self.interface.save_prediction)(sample, self.output_path)
                else:
                    write(sample)
        except OSError as error:
            if isinstance(error, MiscnnError) or error.errno not in _WRITE_ERRORS:
                raise
            raise StorageError(
                f"could not save the prediction of sample {sample.index!r} in {self.output_path}: "
                f"{error.strerror or error}. Earlier predictions are complete; make room or choose another "
                "output_path, and run again"
            ) from error

    def check(self, indices: Hashable | Iterable[Hashable], load_seg: bool = True) -> None:
        """Check all samples before a long run, and list every one that cannot be used.

        The interface decides what is checked (see `Abstract_IO.check`); those of this package read headers only.

        Args:
            indices: Names of samples, or one.
            load_seg: Whether label maps are needed as well.

        Raises:
            ConfigurationError: If `indices` is not a list of names.
            DataError: If there are bad samples, or some that do not exist; the message lists the first 20 of them.
        """
        names = list(dict.fromkeys(as_index_list(indices)))
        known = set(self.indices_list)
        bad: list[tuple[Hashable, Exception]] = []
        for index in tqdm(names, desc="Checking samples", delay=_PROGRESS_AFTER, disable=None, leave=False):
            try:
                self._check_one(index, load_seg, index in known)
            except Exception as error:  # the other samples must still be checked
                bad.append((index, error))
        if not bad:
            return
        lines = [f"  {index!r}: {_one_line(error)}" for index, error in bad[:_SHOWN]]
        if len(bad) > _SHOWN:
            lines.append(f"  … and {len(bad) - _SHOWN} more")
        raise DataError(
            f"{len(bad)} of {len(names)} samples cannot be used; repair them, or leave them out:\n" + "\n".join(lines)
        ) from bad[0][1]

    def fingerprint(self, index: Hashable) -> str | None:
        """Return a digest that changes with the files of a sample; None if the interface cannot compute one."""
        self._require_safe(index)
        ask = getattr(self.interface, "fingerprint", None)
        return None if ask is None else self._ask(index, lambda: ask(index, self.input_path))

    # ---------------------------------------------------------------- batches on disk

    def backup_batches(self, batch_img: np.ndarray | None, batch_seg: np.ndarray | None, pointer: Hashable) -> None:
        """Write a batch: ``<seed>.batch_img.<pointer>.npz`` and ``<seed>.batch_seg.<pointer>.npz`` in `batch_path`.

        Args:
            batch_img: Images, ``(batch, x, y[, z], channels)``; None writes no file.
            batch_seg: Segmentations, ``(batch, x, y[, z], classes)``; None writes no file.
            pointer: The number of the batch.

        Raises:
            StorageError: If the file cannot be written.
        """
        for array, kind in ((batch_img, "img"), (batch_seg, "seg")):
            if array is None:
                continue
            array = np.asarray(array)
            if array.dtype.hasobject:
                raise DataError(f"batch {pointer!r}: the {kind} batch is an array of Python objects; pass numbers")
            with atomic_path(self._batch_file(kind, pointer), durable=False) as temporary:
                np.savez(temporary, batch=array)

    def batch_load(self, pointer: Hashable, img: bool = True) -> np.ndarray:
        """Read a batch that `backup_batches` of this instance wrote.

        Args:
            pointer: The number of the batch.
            img: Whether to read the images, or else the segmentations.

        Raises:
            MissingDataError: If this instance did not write the batch, or it was removed.
            DataError: If the file is damaged.
        """
        path = self._batch_file("img" if img else "seg", pointer)
        try:
            return read_arrays(path, "delete it and prepare the batches again", ["batch"])["batch"]
        except MissingDataError as error:
            raise MissingDataError(
                f"the {'image' if img else 'segmentation'} batch {pointer!r} of this run is missing: {path} does not "
                "exist; prepare the batches again"
            ) from error
        except DataError as error:
            raise DataError(f"the batch {error}") from error

    def batch_cleanup(self, pointer: Hashable | None = None) -> None:
        """Remove the files that this instance wrote to `batch_path`.

        Args:
            pointer: The batch to remove; None removes all batches and prepared samples of this instance, and
                `batch_path` itself if `delete_batchDir` is set and nothing else is in it.
        """
        if pointer is not None:
            for kind in ("img", "seg"):
                self._batch_file(kind, pointer).unlink(missing_ok=True)
            return
        folder = Path(self.batch_path)
        if not folder.is_dir():
            return
        for path in list(folder.iterdir()):
            if not path.name.startswith(f"{self.seed}."):
                continue
            if path.name.startswith((f"{self.seed}.batch_img.", f"{self.seed}.batch_seg.")) and path.is_file():
                path.unlink(missing_ok=True)
            elif (path / SAMPLE_FILE).is_file():  # a prepared sample, not the store of a running preprocessor
                remove_sample(path)
        if self.delete_batchDir:
            with suppress(OSError):  # other runs' files are in it
                folder.rmdir()

    # ---------------------------------------------------------------- prepared samples on disk

    def backup_sample(self, sample: Sample) -> None:
        """Write a sample, as it is now, to the folder ``<seed>.<index>`` in `batch_path`; see `write_sample`.

        Raises:
            DataError: If it holds something that is neither number, text, list, dict nor array.
            StorageError: If the file cannot be written.
        """
        self._require_safe(sample.index)
        write_sample(self._sample_folder(sample.index), sample, durable=False)

    def load_sample_pickle(self, index: Hashable) -> Sample:
        """Read a sample that `backup_sample` of this instance wrote, memory-mapped and read-only.

        The name is MIScnn's; no pickle is involved.

        Raises:
            MissingDataError: If it is missing.
            DataError: If its folder is damaged.
        """
        self._require_safe(index)
        sample = read_sample(self._sample_folder(index))
        sample.index = index
        return sample

    # ---------------------------------------------------------------- details

    def _find_samples(self) -> list[Hashable]:
        found = self._initialize()
        name = type(self.interface).__name__
        if found is None or isinstance(found, str):
            raise ConfigurationError(f"{name}.initialize() returned {found!r}; it must return a list of sample names")
        indices = list(found)
        if not indices:
            raise MissingDataError(
                f"{name} found no samples in {self.input_path}; check the path, the pattern and the layout of the files"
            )
        try:
            repeated = len(set(indices)) < len(indices)
        except TypeError as error:
            raise ConfigurationError(f"{name}.initialize() returned names that cannot be used: {error}") from error
        if repeated:
            twice = next(index for index in indices if indices.count(index) > 1)
            raise DataError(f"{name} found the sample {twice!r} more than once in {self.input_path}; names must differ")
        return indices

    def _initialize(self) -> Any:
        """Let the interface find the samples, if need be in the only folder below `input_path` that has its layout."""
        try:
            return self.interface.initialize(self.input_path)  # type: ignore[arg-type]  # Path or text, as given
        except MissingDataError:
            inner = self._inner_folder()
            if inner is None:
                raise
        logger.warning("%s holds the data in %s, which is used", self.input_path, inner)
        self.input_path = str(inner)
        return self.interface.initialize(self.input_path)

    def _inner_folder(self) -> Path | None:
        name = miscnn_data_interfaces.name_of(type(self.interface))
        if name is None or not isinstance(self.input_path, str | Path):
            return None
        try:
            arguments = get_config(self.interface)
        except ConfigurationError as error:  # of data in memory
            logger.debug("no folder in %s is looked at: %s", self.input_path, error)
            return None
        root = Path(self.input_path)
        inner = locate_data(root, name, {key: arguments[key] for key in ("part", "pattern") if key in arguments})
        return None if inner == root else inner

    def _require_safe(self, index: Hashable) -> None:
        if not isinstance(index, Hashable):
            raise ConfigurationError(f"a sample is named by text or a number, not by a {type(index).__name__}")
        inside(self.output_path, index)

    def _ask(self, index: Hashable, question: Callable[[], T]) -> T:
        """Call the interface, and add the sample's name to errors of a user's own interface."""
        try:
            return question()
        except MiscnnError:
            raise
        except Exception as error:
            if index not in self.indices_list and isinstance(error, LookupError | OSError):
                raise self._unknown(index, error) from error
            if isinstance(error, FileNotFoundError):
                raise MissingDataError(
                    f"sample {index!r}: {error}; {type(self.interface).__name__} needs this file"
                ) from error
            if isinstance(error, OSError) and error.errno in _READ_ERRORS:
                place = self.input_path if error.filename is None else error.filename
                raise DataError(
                    f"sample {index!r}: {place}: cannot be read ({error.strerror}); check its type and permissions"
                ) from error
            error.add_note(f"while {type(self.interface).__name__} read the sample {index!r} from {self.input_path}")
            raise

    def _unknown(self, index: Hashable, error: Exception) -> MissingDataError:
        hint = did_you_mean(index, self.indices_list)
        return MissingDataError(
            f"sample {index!r} is not one of the {len(self.indices_list)} in {self.input_path}.{hint} "
            f"({_one_line(error)})"
        )

    def require_classes(self, sample: Sample) -> None:
        """Check that all labels of a sample have a class, as training requires.

        Raises:
            LabelError: If a label is not below the number of classes; the message names the file if the interface
                does.
        """
        try:
            require_classes(sample.seg_data, sample.scheme.labels, f"sample {sample.index!r}: label map")
        except LabelError:
            # Read again: the interface's own error names the file.
            self._segmentation(self.interface, sample.index, f"sample {sample.index!r}")
            raise

    def _check_one(self, index: Hashable, load_seg: bool, known: bool) -> None:
        self._require_safe(index)
        check = getattr(self.interface, "check", None)
        try:
            if check is not None:
                with memory_for(index, "reading its headers"):
                    check(index, load_seg)
            # The default check of a user's own interface reads nothing, so unknown names are read.
            if not known:
                self.require_classes(self.sample_loader(index, load_seg=load_seg))
        except Exception as error:
            if known or (isinstance(error, DataError) and not isinstance(error, MissingDataError)):
                raise
            raise self._unknown(index, error) from error

    def _segmentation(self, interface: Abstract_IO, index: Hashable, where: str) -> np.ndarray:
        segmentation = self._ask(index, lambda: interface.load_segmentation(index))
        if segmentation is None:
            raise MissingDataError(f"{where} has no label map; add one, or load it with load_seg=False")
        # Cheap if already checked; a subclass may have changed the labels.
        return check_labels(np.asarray(segmentation), scheme_of(interface).labels, f"{where}: label map")

    def _prediction(self, interface: Abstract_IO, sample: Sample, where: str) -> np.ndarray:
        prediction = self._ask(
            sample.index,
            lambda: interface.load_prediction(sample.index, self.output_path),  # type: ignore[arg-type]
        )
        if prediction is None:
            raise MissingDataError(f"{where} has no prediction in {self.output_path}; predict it first")
        prediction = np.asarray(prediction)
        where = f"{where}: prediction in {self.output_path}"
        if _is_activation(prediction, sample):
            return _compact_type(prediction, where)
        return check_labels(prediction, interface.classes, where)

    def _with_any_labels(self, index: Hashable, read: Callable[[Abstract_IO], np.ndarray]) -> np.ndarray:
        """Return the labels by `read`; if some have no class, return all unchanged, with a warning."""
        try:
            return read(self.interface)
        except LabelError as error:
            if scheme_of(self.interface).has_ignored:
                raise  # unchanged labels could be taken for voxels without annotation
            unlimited = copy.copy(self.interface)
            try:
                unlimited.classes = MOST_CLASSES
                labels = read(unlimited)
            except (LabelError, AttributeError):  # of a user's interface whose classes cannot be set
                raise error from None
            # Interfaces of this package name the file, not the sample.
            named = "" if repr(index) in str(error) else f"sample {index!r}: "
            warnings.warn(
                LabelWarning(
                    f"{named}{error}. The labels are loaded unchanged, for viewing only; training and "
                    "scores refuse them"
                ),
                stacklevel=4,
            )
            return labels.astype(label_dtype(int(labels.max()) + 1), copy=False)

    def _add_prediction(self, sample: Sample, where: str) -> None:
        prediction = self._with_any_labels(sample.index, lambda interface: self._prediction(interface, sample, where))
        where = f"{where}: prediction in {self.output_path}"
        activation = _is_activation(prediction, sample)
        sample.add_prediction(prediction, activation_output=activation)
        expected = (*sample.img_data.shape[:-1], sample.scheme.outputs if activation else 1)
        if (
            prediction.shape[: sample.ndim] != expected[:-1]
            or sample.pred_data is None
            or sample.pred_data.shape != expected
        ):
            raise DataError(
                f"{where} has shape {prediction.shape}, the image {sample.img_data.shape[:-1]}; was it made from "
                "another version of the image? Predict again"
            )

    def _batch_file(self, kind: str, pointer: Hashable) -> Path:
        name = str(pointer) if isinstance(pointer, int | np.integer) else encode_name(pointer)
        return Path(self.batch_path) / f"{self.seed}.batch_{kind}.{name}.npz"

    def _sample_folder(self, index: Hashable) -> Path:
        return Path(self.batch_path) / f"{self.seed}.{encode_name(index)}"


def _require_interface(interface: object) -> None:
    if isinstance(interface, type):
        raise ConfigurationError(
            f"interface is the class {interface.__name__}; pass an instance: {interface.__name__}()"
        )
    for method in ("initialize", "load_image"):
        if not callable(getattr(interface, method, None)):
            raise ConfigurationError(
                f"interface is a {type(interface).__name__} without a method {method}(); pass one of "
                "miscnn_tf.data_loading.interfaces, or your own subclass of Abstract_IO"
            )
    for attribute in ("channels", "classes", "three_dim"):
        if not hasattr(interface, attribute):
            name = type(interface).__name__
            raise ConfigurationError(
                f"{name} has no attribute {attribute!r}: call super().__init__(channels, classes, three_dim) in "
                f"{name}.__init__, or set self.{attribute} there"
            )


def _is_ours(interface: object, method: str) -> bool:
    return getattr(getattr(type(interface), method, None), "__module__", "").startswith("miscnn_tf.")


def _image_and_facts(answer: Any, where: str) -> tuple[np.ndarray, dict[str, Any]]:
    if isinstance(answer, np.ndarray):
        raise DataError(f"{where}: load_image() returned an array alone; it must return (image, {{…}})")
    if not isinstance(answer, Sequence) or len(answer) != 2:
        raise DataError(f"{where}: load_image() returned a {type(answer).__name__}; it must return (image, {{…}})")
    image, facts = answer
    if image is None:
        raise MissingDataError(f"{where}: load_image() returned no image")
    return np.asanyarray(image), dict(facts or {})


def _is_activation(prediction: np.ndarray, sample: Sample) -> bool:
    return (
        prediction.dtype.kind == "f"
        and prediction.ndim == sample.ndim + 1
        and prediction.shape[-1] == sample.scheme.outputs
        and (sample.scheme.outputs > 1 or bool(sample.scheme.regions))
    )


def _compact_type(array: np.ndarray, where: str) -> np.ndarray:
    """Convert `array` to the machine's byte order and at most 32 bits per voxel."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is an array of {array.dtype}; integers or floating numbers are needed")
    if array.size == 0:
        raise DataError(f"{where} is empty (shape {array.shape}); repair the file or leave the sample out")
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype.itemsize == 8:
        fits = np.iinfo(np.int32).min <= array.min() and array.max() <= np.iinfo(np.int32).max
        return array.astype(np.int32 if fits else np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, MiscnnError) else f"{type(error).__name__}: {text}"


def __getattr__(name: str) -> Any:
    # MIScnn has these functions here; they are in a package that uses this one.
    if name in ("backup_evaluation", "backup_history", "create_directories"):
        return getattr(importlib.import_module("miscnn_tf.runs.tables"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
