"""Storage of a sample in a folder: arrays as ``.npy`` files that can be memory-mapped, other values as JSON.

::

    case_00000/
        image.npy           (x, y[, z], channels)
        segmentation.npy    (x, y[, z], 1), if present
        prediction.npy      if present
        array_0.npy, …      larger arrays from extended, details and history
        sample.json         all other values; small arrays (an affine, a spacing) inline

Nothing in such a folder is run as code: arrays of Python objects are refused in writing and reading, and the JSON
contains no file names.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from pydantic import Field

from miscnn_tf._base.files import UNFINISHED, make_folder, put_in_place, read_bounded, temporary_beside
from miscnn_tf._base.messages import size_text
from miscnn_tf._base.plain_files import LARGEST, read_array
from miscnn_tf._base.plain_limits import MOST_DIGITS, parse_json, shown
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError, MissingDataError, StorageError

SAMPLE_FILE = "sample.json"
TEMPORARY_ENDING = f".{UNFINISHED}"

_FORMAT = 1
_ARRAY_FILES = {
    "img_data": "image.npy",
    "seg_data": "segmentation.npy",
    "pred_data": "prediction.npy",
    "previous_data": "previous_stage.npy",
}
_INLINE_ELEMENTS = 64
_BLOCK_BYTES = 2**24
_LONGEST_NAME = 120
_NUMBERS = "biufc"
_ADVICE = "delete this folder to have it made again"
# How often a sample is written again because another process removes the folder meanwhile.
_ATTEMPTS = 10

_Size = Annotated[int, Field(ge=0)]


class _SampleFile(Document):
    format: Literal[1]
    index: str | int
    channels: _Size
    classes: _Size
    three_dim: bool
    shape: list[_Size]
    arrays: list[str]
    types: dict[str, list[Any]] | None = None
    extended: dict[str, Any]
    details: dict[str, Any]
    history: list[Any]


class UnstorableError(DataError):
    """Error for a sample with a value that cannot be stored, such as a function or an open file."""


def encode_name(index: Hashable) -> str:
    """Encode `index` as a file name: the same for the same index, different for different ones, never a path.

    Letters, digits and ``_ - ~ .`` are kept, so that most names remain readable; other characters are percent-encoded
    as in a URL, and so is a dot at the beginning. Long names are cut and end in a digest. Whole numbers get a suffix
    that distinguishes them from text.

    Example:
        >>> encode_name("case_00000"), encode_name("../x:#:3"), encode_name(7)
        ('case_00000', '%2E.%2Fx%3A%23%3A3', '7%-int')
    """
    name = quote(str(index), safe="", errors="surrogatepass")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_NAME:
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        name = f"{name[:_LONGEST_NAME]}%~{digest}"
    # Encoded text never contains a percent sign followed by a dash, so it cannot equal these.
    if isinstance(index, str):
        return name or "%-"
    return f"{name}%-{'int' if _whole(index) is not None else quote(type(index).__name__)}"


def write_sample(folder: str | Path, sample: Sample, overwrite: bool = True, *, durable: bool = True) -> Path:
    """Write a sample into `folder`, atomically.

    The files are written into a hidden folder beside it, which is renamed at the end; a writer that is killed leaves
    only the hidden folder. Arrays are written slab by slab in C order, so that a patch can be read from a few ranges of
    the file, without a second copy of the volume in memory.

    Args:
        folder: The output folder; its parent is created.
        sample: The sample: the three arrays, ``extended``, ``details``, ``history`` and the numbers are stored, other
            attributes are not.
        overwrite: Whether to replace an existing sample. If False, a sample that another process has written is kept.
        durable: Whether the sample must survive a power failure.

    Returns:
        The folder.

    Raises:
        UnstorableError: If the sample holds a value that JSON and ``.npy`` cannot represent; nothing is written.
        StorageError: If it cannot be written: no space, no permission.

    Example:
        >>> write_sample("batches/case_00000", sample)  # doctest: +SKIP
    """
    folder = Path(folder)
    content, arrays = _to_plain(sample)
    text = json.dumps(content)
    if len(text) > LARGEST:
        raise UnstorableError(
            f"sample {sample.index!r}: the values besides arrays take {size_text(len(text), 'MB')}, but at most "
            f"{size_text(LARGEST, 'MB')} can be stored on disk; use arrays"
        )
    needed = sum(array.nbytes for array in arrays.values())
    for attempt in reversed(range(_ATTEMPTS)):
        make_folder(folder.parent)
        temporary = temporary_beside(folder)
        try:
            _require_space(folder, needed)
            temporary.mkdir()
            for name, array in arrays.items():
                _write_array(temporary / name, array)
            (temporary / SAMPLE_FILE).write_text(text, encoding="utf-8")
            _put_in_place(temporary, folder, overwrite, durable)
            break
        except StorageError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt:
                continue  # another process has removed the parent
            raise StorageError(
                f"could not write the sample {sample.index!r} to {folder}: {error.strerror or error}. It needs "
                f"{size_text(needed, 'MB')}; make room or choose another folder, and run again. Earlier files are "
                "complete"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_sample(folder: str | Path, mmap: bool = True) -> Sample:
    """Read what `write_sample` wrote.

    Args:
        folder: The sample's folder.
        mmap: Leave image, label map and prediction on disk, as read-only memory maps. Otherwise they are ordinary
            arrays.

    Returns:
        The sample. An index that was neither text nor a whole number comes back as its text.

    Raises:
        MissingDataError: If the folder does not exist.
        DataError: If the folder is damaged, or of another version of this package.

    Example:
        >>> read_sample("batches/case_00000").img_data[:64, :64, :32]  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not hold a stored sample; prepare it again")
    try:
        content = parse_json(read_bounded(folder / SAMPLE_FILE, LARGEST), SAMPLE_FILE, _ADVICE, any_text=True)
        require(_SampleFile, content, SAMPLE_FILE, _ADVICE)
        return _from_plain(folder, content, mmap)
    except MissingDataError as error:
        if not folder.is_dir():  # another process has removed it
            raise MissingDataError(f"{folder} does not hold a stored sample; prepare it again") from error
        raise _damaged(folder, error) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files may raise any error in the parsers
        # Other causes, such as too many open files, are not damage.
        cause = error.__cause__ if isinstance(error, DataError) else error
        if isinstance(cause, OSError) and cause.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise cause from None
        raise _damaged(folder, error) from error


def _to_plain(sample: Sample) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    for attribute, name in _ARRAY_FILES.items():
        array = getattr(sample, attribute)
        if array is not None:
            _require_numbers(array, f"sample {sample.index!r}: {attribute}")
            arrays[name] = array
    encoder = _Encoder(sample.index, arrays)
    whole = _whole(sample.index)
    content = {
        "format": _FORMAT,
        "index": str(sample.index) if whole is None else whole,
        "channels": int(sample.channels),
        "classes": int(sample.classes),
        "three_dim": bool(sample.three_dim),
        "shape": [int(length) for length in sample.shape],
        "arrays": sorted(arrays),
        "extended": encoder.encode(dict(sample.extended), "extended"),
        "details": encoder.encode(dict(sample.details), "details"),
        "history": encoder.encode(list(sample.history), "history"),
    }
    if sample.scheme != LabelScheme(sample.classes):
        content["scheme"] = sample.scheme.to_plain()
    # A single flipped bit changes "<f4" in an array's header to ">f4", so the types are stored here as well.
    content["types"] = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    return content, arrays


def _from_plain(folder: Path, content: dict[str, Any], mmap: bool) -> Sample:
    # Not with Sample's constructor, which would refuse a number of channels that a subfunction has changed.
    sample = Sample.__new__(Sample)
    sample.index = content["index"]
    sample.channels, sample.classes = content["channels"], content["classes"]
    sample.three_dim = content["three_dim"]
    stored = content.get("scheme")
    sample.scheme = None if stored is None else LabelScheme.from_plain(sample.classes, stored)
    sample.shape = tuple(content["shape"])
    types = content.get("types")  # missing in folders of earlier versions
    for attribute, name in _ARRAY_FILES.items():
        array = _read_array(folder / name, mmap, types) if name in content["arrays"] else None
        if array is not None and array.dtype.kind not in _NUMBERS:
            raise TypeError(f"{name} is an array of {array.dtype}")
        setattr(sample, attribute, array)
    if sample.img_data is None:
        raise ValueError("the image is missing")
    decoder = _Decoder(folder, types)
    sample.extended = decoder.decode(content["extended"])
    sample.details = decoder.decode(content["details"])
    sample.history = decoder.decode(content["history"])
    if not (
        isinstance(sample.extended, dict) and isinstance(sample.details, dict) and isinstance(sample.history, list)
    ):
        raise TypeError(f"{SAMPLE_FILE} does not have the expected structure")
    return sample


class _Encoder:
    """Encoder of nested values as JSON; types that JSON lacks become a dict with one key that starts with ``$``."""

    def __init__(self, index: Hashable, arrays: dict[str, np.ndarray]) -> None:
        self.index = index
        self.arrays = arrays
        self.count = 0

    def encode(self, value: Any, where: str) -> Any:
        if isinstance(value, np.ndarray):
            return {"$array": self._array(value, where)}
        if isinstance(value, np.generic) and value.dtype.kind in "biufU" and value.dtype.itemsize != 16:
            value = value.item()
        if value is None or isinstance(value, bool):
            return value
        # Subclasses (such as members of an enumeration) become plain values.
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise UnstorableError(
                f"sample {self.index!r}: {where} is a whole number of more than {MOST_DIGITS} digits, which cannot be "
                "stored on disk; use a float or text there"
            )
        for kind in (int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, list):
            return [self.encode(item, f"{where}[{number}]") for number, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"$tuple": [self.encode(item, f"{where}[{number}]") for number, item in enumerate(value)]}
        if isinstance(value, Mapping):
            items = [(key, self.encode(item, f"{where}[{key!r}]")) for key, item in value.items()]
            if all(type(key) is str and not key.startswith("$") for key, _ in items):
                return dict(items)
            return {"$dict": [[self.encode(key, f"{where}, key {key!r}"), item] for key, item in items]}
        raise UnstorableError(
            f"sample {self.index!r}: {where} is a {type(value).__name__}, which cannot be stored on disk; use numbers, "
            "text, lists, dicts and arrays there"
        )

    def _array(self, array: np.ndarray, where: str) -> Any:
        if array.size <= _INLINE_ELEMENTS and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
            return {"dtype": array.dtype.str, "shape": list(array.shape), "values": array.ravel().tolist()}
        if array.dtype.hasobject:
            raise UnstorableError(
                f"sample {self.index!r}: {where} is an array of Python objects, which cannot be stored on disk; use an "
                "array of numbers or a list"
            )
        number = self.count
        self.count += 1
        self.arrays[f"array_{number}.npy"] = array
        return number


class _Decoder:
    def __init__(self, folder: Path, types: Mapping[str, Any] | None) -> None:
        self.folder = folder
        self.types = types

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((key, item),) = value.items()
            if key == "$tuple":
                return tuple(self.decode(part) for part in item)
            if key == "$dict":
                items = [(self.decode(name), self.decode(part)) for name, part in item]
                if len(dict(items)) < len(items):
                    raise ValueError("a dict has a duplicate key")
                return dict(items)
            if key == "$array":
                return self._array(item)
        return {key: self.decode(item) for key, item in value.items()}

    def _array(self, item: Any) -> np.ndarray:
        if isinstance(item, dict):
            dtype = np.dtype(item["dtype"])
            if dtype.kind not in "biuf":
                raise TypeError(f"an array is of type {dtype}")
            return _inline_array(item["values"], dtype, item["shape"])
        if type(item) is not int:
            raise TypeError(f"an array has the number {shown(item)}")
        return _read_array(self.folder / f"array_{item}.npy", False, self.types)


def _inline_array(values: Any, dtype: np.dtype, shape: Any) -> np.ndarray:
    """Decode a small array without converting its values, as ``numpy.array(["1.5"], int)`` would."""
    kinds: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
    if not isinstance(values, list) or any(type(value) not in kinds[dtype.kind] for value in values):
        raise TypeError(f"an array of {dtype} holds {shown(values)}")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise TypeError(f"an array is of shape {shown(shape)}")
    return np.array(values, dtype=dtype).reshape(shape)


def _write_array(path: Path, array: np.ndarray) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        if array.ndim == 0:
            file.write(array.tobytes())
            return
        step = max(1, _BLOCK_BYTES * len(array) // max(array.nbytes, 1))
        for start in range(0, len(array), step):
            file.write(array[start : start + step].tobytes())


def _read_array(path: Path, mmap: bool, types: Mapping[str, Any] | None) -> np.ndarray:
    array = read_array(path, _ADVICE, mmap=mmap)
    if types is not None and types.get(path.name) != [array.dtype.str, list(array.shape)]:
        raise ValueError(f"{path.name} is of {array.dtype.str} and {array.shape}, but was {types.get(path.name)}")
    return array


def _put_in_place(temporary: Path, folder: Path, overwrite: bool, durable: bool) -> None:
    for _ in range(100):
        try:
            put_in_place(temporary, folder, durable=durable)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not folder.exists():
                raise
        if not overwrite and folder.is_dir():
            return
        remove_sample(folder)
    raise StorageError(
        f"could not replace {folder} in 100 attempts: other processes are writing it; run again when they have ended"
    )


def remove_sample(folder: Path) -> None:
    """Remove a sample's folder atomically; ignore a missing one."""
    doomed = temporary_beside(folder)
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink(missing_ok=True)


def _require_numbers(array: Any, where: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in _NUMBERS:
        what = f"array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UnstorableError(f"{where} is a {what}, not an array of numbers, and cannot be stored on disk")


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise StorageError(
            f"could not write {folder}: it needs {size_text(needed, 'MB')}, but only {size_text(free, 'MB')} are free "
            "there; make room or choose another folder, and run again. Files written before are complete"
        )


def _damaged(folder: Path, reason: object) -> DataError:
    return DataError(f"the stored sample in {folder} is damaged ({reason}); {_ADVICE}")


def _whole(index: Hashable) -> int | None:
    return int(index) if isinstance(index, int | np.integer) and not isinstance(index, bool) else None
