"""Cache of the volumes from which slices were read last, within a memory budget."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading.formats.nifti_reader import NiftiInfo, map_voxels, read_info, read_voxels, scaled_values
from miscnn_tf.errors import MissingDataError

# A memory map keeps its file open, and the number of open files is limited.
_MOST_VOLUMES = 64


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
        self._held: OrderedDict[tuple[str, int, int], tuple[NiftiInfo, np.ndarray]] = OrderedDict()
        self._locks: dict[tuple[str, int, int], threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of decoded voxels in the cache."""
        return sum(_cost(volume) for _, volume in self._held.values())

    def plane(self, path: Path, axis: int, position: int) -> tuple[NiftiInfo, np.ndarray]:
        """Return the header of a volume, and a copy of one of its slices without the sliced axis."""
        info, volume = self._volume(path)
        part = volume[(slice(None),) * axis + (position,)]
        return info, scaled_values(part, info) if isinstance(volume, np.memmap) else np.ascontiguousarray(part)

    def _volume(self, path: Path) -> tuple[NiftiInfo, np.ndarray]:
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
                volume = read_voxels(info) if info.compressed else map_voxels(info)
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
