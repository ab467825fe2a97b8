"""Store of samples after their subfunctions, in memory up to a budget or on disk, so that none is prepared twice."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import threading
import time
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.files import is_abandoned, make_folder, remove_abandoned_temporaries
from miscnn_tf._base.messages import size_text
from miscnn_tf.data_loading.cache.sample_files import (
    SAMPLE_FILE,
    TEMPORARY_ENDING,
    UnstorableError,
    encode_name,
    read_sample,
    remove_sample,
    write_sample,
)
from miscnn_tf.data_loading.cache.spill_folder import SpillFolder, remove_abandoned
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError, MissingDataError, StorageError

#: Number of versions of a sample (other settings, another state of the file) that stay on disk.
VERSIONS_KEPT = 4

#: Number of versions of a sample that stay in memory: with and without its label map, for the latest settings.
VERSIONS_IN_MEMORY = 2

_LAST_USE_EVERY = 60.0  # seconds between two records on disk that a version is in use
_SMALL_BYTES = 2**16


def _open_samples() -> int:
    """Return the number of samples that stay open: two file descriptors each, at most a quarter of all."""
    if resource is None:
        return 128
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if descriptors == resource.RLIM_INFINITY else min(1024, max(32, descriptors // 8))


_OPEN_SAMPLES = _open_samples()

logger = logging.getLogger(__name__)


class PreparedStore:
    """Store that prepares each sample once and returns it from then on.

    If persistent, samples are in ``<root>/<encoded index>.<key>/`` (see `sample_files`), where other processes and
    later runs find them; they are returned memory-mapped. More than `VERSIONS_KEPT` simultaneous runs with different
    settings need separate folders, since each removes the oldest versions of the others.

    Otherwise samples stay in memory in their own type (read-only, in C order) until `budget` is spent; later ones are
    written below `root` and memory-mapped. They are removed when the store is closed or the program ends, or, after a
    killed program, by the next run that writes there. A sample never replaces another one, since training reads all
    equally often. A version replaces older versions of the same sample, at most `VERSIONS_IN_MEMORY` of which stay, so
    that a notebook in which settings change keeps working in memory. A version that was replaced and is prepared again
    replaces none, so that of two alternating versions one is in memory and one on disk.

    Many threads may use a store: those that request the same sample wait for the first one, and get its error if it
    fails. Many processes may use a persistent store: two may prepare the same sample, and one of the results is kept.

    Args:
        root: The folder; created when a sample is written to it.
        budget: Bytes of memory for samples, if the store is not persistent.
        persistent: Whether samples are kept after the program ends.

    Raises:
        ConfigurationError: If `budget` is not a number of bytes.

    Example:
        >>> store = PreparedStore("batches/prepared", budget=2**30, persistent=False)
        >>> sample = store.get("0a1b2c", "case_00000", lambda: prepare("case_00000"))  # doctest: +SKIP
    """

    def __init__(self, root: str | Path, budget: int, persistent: bool) -> None:
        self.root = Path(root)
        self.budget = whole_number(budget, "budget (bytes)")
        self.persistent = bool(persistent)
        self._lock = threading.Lock()
        self._making: dict[tuple[Hashable, str], Future[Sample]] = {}
        self._memory: dict[Hashable, OrderedDict[str, Sample]] = {}  # the version used last comes last
        self._dropped: set[tuple[Hashable, str]] = set()
        self._memory_bytes = 0
        self._open: OrderedDict[str, Sample] = OrderedDict()
        self._disk_bytes: dict[str, int] = {}
        self._noted: dict[str, float] = {}
        self._hits = 0
        self._made = 0
        self._warned = False
        self._spill: Path | None = None
        self._cleaner: weakref.finalize[Any, PreparedStore] | None = None
        self._versions: defaultdict[str, set[str]] = defaultdict(set)
        self._looked_around = False
        if self.persistent:
            remove_abandoned_temporaries(self.root)

    def get(self, key: str, index: Hashable, make: Callable[[], Sample]) -> Sample:
        """Return the sample called `index` in the version called `key`; `make` prepares it if it is missing.

        Args:
            key: Digest of everything that the prepared sample depends on: source files, steps and settings.
            index: The sample's name.
            make: Prepares the sample. Called once, for any number of threads.

        Returns:
            The sample. Its arrays are read-only and shared; ``details``, ``history`` and ``extended`` are the caller's.

        Raises:
            StorageError: If it cannot be written; the message shows the space needed and the folder.
            Exception: Any error of `make`; nothing is kept then.
        """
        name = (index, key)
        with self._lock:
            kept = self._recall(key, index)
            if kept is not None:
                return _shared(kept)
            future = self._making.get(name)
            mine = future is None
            if future is None:
                future = self._making[name] = Future()
        if not mine:
            sample = future.result()
            with self._lock:
                self._hits += 1
            return _shared(sample)
        try:
            sample = self._find_or_make(key, index, make)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(sample)
        finally:
            with self._lock:
                del self._making[name]
        return _shared(sample)

    def peek(self, key: str, index: Hashable) -> Sample | None:
        """Return the sample called `index` in the version called `key`, like `get`; None if it is missing."""
        with self._lock:
            kept = self._recall(key, index)
            if kept is not None:
                return _shared(kept)
        folder = self._folder(key, index)
        if not self.persistent and str(folder) not in self._disk_bytes:
            return None
        found = self._find(folder, index)
        return None if found is None else _shared(found)

    def info(self) -> dict[str, int]:
        """Return ``ram_bytes``, ``disk_bytes`` (of samples that this store wrote or found), ``hits`` and ``made``."""
        with self._lock:
            return {
                "ram_bytes": self._memory_bytes,
                "disk_bytes": sum(self._disk_bytes.values()),
                "hits": self._hits,
                "made": self._made,
            }

    def close(self) -> None:
        """Drop the samples in memory, and remove those on disk if the store is not persistent."""
        with self._lock:
            self._memory.clear()
            self._dropped.clear()
            self._open.clear()
            self._memory_bytes = 0
            self._disk_bytes.clear()
            if not self.persistent:
                self._versions.clear()
            cleaner, self._cleaner, self._spill = self._cleaner, None, None
        if cleaner is not None:
            cleaner()

    def __enter__(self) -> PreparedStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _find_or_make(self, key: str, index: Hashable, make: Callable[[], Sample]) -> Sample:
        if self.persistent or (self._spill is not None and str(self._folder(key, index)) in self._disk_bytes):
            found = self._find(self._folder(key, index), index)
            if found is not None:
                with self._lock:
                    self._hits += 1
                return found
        sample = make()
        if not isinstance(sample, Sample):
            raise TypeError(f"make() returned a {type(sample).__name__} for {index!r}; a Sample is needed")
        with self._lock:
            self._made += 1
        kept = None if self.persistent else self._remember(key, index, sample)
        if kept is not None:
            return kept
        try:
            folder = self._write(key, index, sample)
        except UnstorableError as error:
            return self._keep_anyway(key, index, sample, error)
        # None if another process has removed it already.
        return self._find(folder, index) or sample

    def _find(self, folder: Path, index: Hashable) -> Sample | None:
        """Return the sample in a folder, memory-mapped; the latest stay open, since opening takes a millisecond."""
        name = str(folder)
        with self._lock:
            sample = self._open.get(name)
            if sample is not None:
                self._open.move_to_end(name)
        if sample is None:
            sample = self._read(folder)
            if sample is None:
                return None
            sample.index = index
            with self._lock:
                self._open[name] = sample
                while len(self._open) > _OPEN_SAMPLES:
                    self._open.popitem(last=False)
        self._count(folder)
        return sample

    def _read(self, folder: Path) -> Sample | None:
        for _ in range(10):
            folder_before = _inode(folder)
            try:
                return read_sample(folder)
            except MissingDataError:
                return None
            except DataError as error:
                # Another process may have removed or replaced the folder while this one read it.
                if folder_before is not None and _inode(folder) == folder_before:
                    logger.warning("%s", error)
                    break
        with suppress(OSError):
            remove_sample(folder)
        return None

    def _recall(self, key: str, index: Hashable) -> Sample | None:
        """Return a version from memory, and mark it as used last; the caller holds the lock."""
        versions = self._memory.get(index)
        if versions is None or key not in versions:
            return None
        self._hits += 1
        versions.move_to_end(key)
        return versions[key]

    def _remember(self, key: str, index: Hashable, sample: Sample) -> Sample | None:
        """Keep a sample in memory, if the budget allows; None if not."""
        size = _bytes(sample)
        with self._lock:
            if self._replaced(key, index, size) is None:
                return None
        frozen = _shared(sample, compact=True)
        with self._lock:
            replaced = self._replaced(key, index, size)  # others may have come in the meantime
            if replaced is None:
                return None
            versions = self._memory.setdefault(index, OrderedDict())
            for old in replaced:
                self._memory_bytes -= _bytes(versions.pop(old))
                self._dropped.add((index, old))
            self._memory_bytes += size
            versions[key] = frozen
        return frozen

    def _replaced(self, key: str, index: Hashable, size: int) -> list[str] | None:
        """Return the versions that a new one of `size` bytes replaces, oldest use first; None if it does not fit."""
        versions = self._memory.get(index) or OrderedDict[str, Sample]()
        free = self.budget - self._memory_bytes
        makes_room = (index, key) not in self._dropped
        replaced: list[str] = []
        for old, sample in versions.items():
            too_many = len(versions) - len(replaced) >= VERSIONS_IN_MEMORY
            if not too_many and (size <= free or not makes_room):
                break
            replaced.append(old)
            free += _bytes(sample)
        return replaced if size <= free else None

    def _keep_anyway(self, key: str, index: Hashable, sample: Sample, error: UnstorableError) -> Sample:
        """Keep a sample that cannot be stored on disk in memory, if it fits; otherwise it is prepared each time."""
        kept = self._remember(key, index, sample)
        if not self._warned:
            self._warned = True
            consequence = (
                "kept in memory only"
                if kept is not None
                else "prepared anew each time, because the memory budget is spent"
            )
            logger.warning("%s. Such samples are %s", error, consequence)
        return sample if kept is None else kept

    def _write(self, key: str, index: Hashable, sample: Sample) -> Path:
        try:
            if self.persistent:
                self._look_around()
            elif self._spill is None:
                self._open_spill()
            folder = write_sample(self._folder(key, index), sample, overwrite=False, durable=self.persistent)
        except StorageError as error:
            advice = "" if self.persistent else ", or give the preprocessor a larger memory budget"
            raise StorageError(
                f"the prepared-sample store in {self.root} cannot take the sample {index!r}, which needs "
                f"{size_text(_bytes(sample), 'MB')}: {error}. Make room there or choose another folder{advice}"
            ) from error
        self._remove_old_versions(index, folder)
        return folder

    def _folder(self, key: str, index: Hashable) -> Path:
        # No dot in the key, so that the last dot of the name ends the index.
        return (self._spill or self.root) / f"{encode_name(index)}.{encode_name(key).replace('.', '%2E')}"

    def _count(self, folder: Path) -> None:
        name = str(folder)
        now = time.monotonic()
        if name not in self._disk_bytes:
            with suppress(OSError):
                self._disk_bytes[name] = sum(entry.stat().st_size for entry in os.scandir(folder))
        if now - self._noted.get(name, -_LAST_USE_EVERY) >= _LAST_USE_EVERY:
            self._noted[name] = now
            with suppress(OSError):  # read-only folders are allowed
                os.utime(folder / SAMPLE_FILE)

    def _remove_old_versions(self, index: Hashable, newest: Path) -> None:
        with self._lock:
            names = self._versions[encode_name(index)]
            names.add(newest.name)
            versions = [newest.parent / name for name in names if name != newest.name]
        versions.sort(key=_last_use, reverse=True)
        for path in versions[VERSIONS_KEPT - 1 :]:
            logger.info("removing the prepared sample %s, the least recently used version", path)
            with suppress(OSError):
                remove_sample(path)
            with self._lock:
                self._versions[path.name.rpartition(".")[0]].discard(path.name)
                self._disk_bytes.pop(str(path), None)
                self._open.pop(str(path), None)

    def _look_around(self) -> None:
        """List the versions on disk and remove temporary folders of ended processes.

        This is done once per store, since listing a folder of many thousand samples for each new one would be slow.
        """
        if self._looked_around:
            return
        make_folder(self.root)
        with self._lock, os.scandir(self.root) as entries:
            self._looked_around = True
            for entry in entries:
                if not entry.name.startswith("."):
                    self._versions[entry.name.rpartition(".")[0]].add(entry.name)
                elif entry.name.endswith(TEMPORARY_ENDING):
                    with suppress(OSError):
                        if is_abandoned(Path(entry.path)):
                            shutil.rmtree(entry.path, ignore_errors=True)

    def _open_spill(self) -> None:
        with self._lock:
            if self._spill is None:
                # Stores of other runs are beside this one (see `Preprocessor.cache`).
                remove_abandoned([*self.root.glob("run-*"), *self.root.parent.glob("*.prepared/run-*")])
                folder = SpillFolder(self.root)
                self._spill = folder.path
                self._cleaner = weakref.finalize(self, _end, self._open, folder)


def _end(opened: OrderedDict[str, Sample], folder: SpillFolder) -> None:
    opened.clear()  # Windows cannot remove memory-mapped files
    folder.remove()


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def _last_use(folder: Path) -> float:
    try:
        return (folder / SAMPLE_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _shared(sample: Sample, compact: bool = False) -> Sample:
    """Copy a sample; its arrays are shared, read-only, and everything else is copied."""
    twin = copy(sample)
    for attribute in ("img_data", "seg_data", "pred_data", "previous_data"):
        array = getattr(sample, attribute)
        if array is not None:
            setattr(twin, attribute, _read_only(_compact(array) if compact else array))
    twin.extended = _own(sample.extended)
    twin.details = _own(sample.details)
    twin.history = _own(sample.history)
    return twin


def _own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_own(item) for item in value)
    if isinstance(value, np.ndarray):
        # A caller may change an affine; a large array is shared like the image.
        return value.copy() if value.nbytes <= _SMALL_BYTES else _read_only(value)
    return value


def _read_only(array: np.ndarray) -> np.ndarray:
    if not array.flags.writeable:
        return array
    # A view, because the array itself may be the user's own.
    view = array.view()
    view.flags.writeable = False
    return view


def _compact(array: np.ndarray) -> np.ndarray:
    """Copy `array` if it is a part of a much larger array, not in C order, or memory-mapped.

    A patch of 128x128x128 is read from C order in 1 ms, from the Fortran order of NIfTI files in 17 ms. Memory maps of
    an interface keep their files open, and change with them.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if isinstance(owner.base, mmap.mmap):
        return np.array(array, order="C")
    if not array.flags.c_contiguous:
        return array.copy(order="C")
    return array.copy() if owner.nbytes > 1.25 * array.nbytes + _SMALL_BYTES else array


def _bytes(value: Any) -> int:
    """Return the bytes of all arrays in a sample, or in a value of it."""
    if isinstance(value, Sample):
        return sum(map(_bytes, vars(value).values()))
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return 0
