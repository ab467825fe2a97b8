"""Cost of a training patch for different sizes of its volume, measured in alternation.

    python benchmarks/large_volumes.py

Write volumes like those of KiTS (int16, gzip NIfTI, foreground as large as a kidney), each at least twice as large as
the previous one, and create batches of patches of 96x96x64 voxels with default augmentation: with the prepared volume
in memory, and memory-mapped (``cache_bytes=0``), with the same random numbers. Print one line of JSON, per size:
seconds of the first batch, which decodes and prepares the volume; milliseconds per patch of a later epoch, and the
median over the rounds of their ratio to the smallest volume; and, for the memory-mapped volume after its file was
dropped from the page cache, the MB that a batch of two patches reads, the MB of the patches with the margins for
augmentation, the MB of their pages in the file, and the MB of the volume.

Progress is printed to stderr. The volumes need 0.6 GB in the folder for temporary files, and 0.8 GB when prepared.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.processing.patching import region
from miscnn_tf.processing.subfunctions import Normalization

SIZES = ("256x256x100", "512x512x200", "512x512x400")
INDEX = "case_00000"


def write_volume(shape: tuple[int, ...], folder: Path) -> None:
    """Write a smooth, noisy body with an ellipsoid of class 1."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 200, [size // 8 for size in shape])
    image = ndimage.zoom(coarse.astype(np.float32), np.divide(shape, coarse.shape), order=1)
    image += rng.normal(0, 20, shape).astype(np.float32)
    distances = [((np.arange(size) - size / 2) / (size / 8)) ** 2 for size in shape]
    labels = (np.add.outer(np.add.outer(distances[0], distances[1]), distances[2]) < 1).astype(np.uint8)
    case = folder / INDEX
    case.mkdir(parents=True)
    nib.openers.Opener.default_compresslevel = 1  # the speed of writing does not matter
    for name, array in (("imaging", image.astype(np.int16)), ("segmentation", labels)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), case / f"{name}.nii.gz")


class Volume:
    """Batches of one volume.

    Args:
        size: Its shape, such as ``256x256x100``.
        folder: Folder for files.
        mapped: Memory-map the prepared volume instead of storing it in memory.
        patch: Shape of the patches.
    """

    def __init__(self, size: str, folder: Path, mapped: bool, patch: tuple[int, ...]) -> None:
        io = miscnn_tf.Data_IO(
            NIFTI_interface(channels=1, classes=2), str(folder / size), batch_path=str(folder / f"batches {size}")
        )
        self.preprocessor = miscnn_tf.Preprocessor(
            io,
            batch_size=2,
            subfunctions=[Normalization(mode="z-score")],
            patch_shape=patch,
            seed=0,
            cache_bytes=0 if mapped else 8 * 2**30,
        )
        begin = time.perf_counter()
        # Two copies of the sample, so that an epoch is one batch.
        self.batches = self.preprocessor.training_batches([INDEX, INDEX])
        self.batches.batch(0, 0)
        self.first_seconds = time.perf_counter() - begin

    def milliseconds(self, first: int, count: int) -> float:
        """Measure the mean time per patch over `count` batches of two, from epoch `first` on."""
        begin = time.perf_counter()
        for epoch in range(first, first + count):
            self.batches.batch(epoch, 0)
        return 1000 * (time.perf_counter() - begin) / (2 * count)

    def cold(self, epoch: int) -> dict[str, float]:
        """Measure the megabytes that a batch reads from disk, if nothing of the volume is in memory."""
        image = self.preprocessor.prepare_sample_subfunctions(INDEX).img_data
        assert isinstance(image, np.memmap)
        image.base.madvise(mmap.MADV_DONTNEED)  # releases the pages of this process; the system follows
        (file,) = Path(self.preprocessor.data_io.batch_path).rglob("image.npy")
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        before, read = resident(image), []
        original = region.announce

        def recorded(array: np.ndarray, location: list[slice]) -> None:
            if array.dtype == image.dtype:
                read.append(location)
            original(array, location)

        region.announce = recorded
        try:
            self.batches.batch(epoch, 0)
        finally:
            region.announce = original
        pages: set[int] = set()
        for location in read:
            for start, stop in region.spans(image, location):
                first = image.offset % mmap.ALLOCATIONGRANULARITY
                pages |= set(range((first + start) // mmap.PAGESIZE, -(-(first + stop) // mmap.PAGESIZE)))
        voxels = sum(int(np.prod([span.stop - span.start for span in location])) for location in read)
        return {
            "patches_mb": round(voxels * image.itemsize / 1e6, 1),
            "pages_mb": round(len(pages) * mmap.PAGESIZE / 1e6, 1),
            "brought_mb": round((resident(image) - before) / 1e6, 1),
            "volume_mb": round(image.nbytes / 1e6, 1),
        }


def resident(array: np.ndarray) -> int:
    """Return the bytes of a memory map that are in memory."""
    first = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    pages = -(-(array.ctypes.data + array.nbytes - first) // mmap.PAGESIZE)
    flags = np.zeros(pages, np.uint8)
    size = ctypes.c_size_t(pages * mmap.PAGESIZE)
    if ctypes.CDLL(None).mincore(ctypes.c_void_p(first), size, flags.ctypes.data_as(ctypes.c_void_p)):
        raise OSError("mincore failed")
    return mmap.PAGESIZE * int((flags & 1).sum())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help=f"shapes of the volumes (default: {' '.join(SIZES)})")
    parser.add_argument("--patch", type=int, nargs=3, default=[96, 96, 64], help="patch shape (default: 96 96 64)")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    parser.add_argument("--batches", type=int, default=20, help="batches of two patches per round (default: 20)")
    options = parser.parse_args()
    report: dict[str, Any] = {"benchmark": "large_volumes", "patch": options.patch}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.sizes:
            print(f"writing {size}", file=sys.stderr, flush=True)
            write_volume(tuple(map(int, size.split("x"))), folder / size)
        for mapped in (False, True):
            volumes = {size: Volume(size, folder, mapped, tuple(options.patch)) for size in options.sizes}
            times: dict[str, list[float]] = {size: [] for size in volumes}
            for round_ in range(options.rounds):
                for size, volume in volumes.items():
                    times[size].append(volume.milliseconds(1 + round_ * options.batches, options.batches))
                    print(f"{size}: {times[size][-1]:.1f} ms per patch", file=sys.stderr, flush=True)
            smallest = times[options.sizes[0]]
            report["memory_mapped" if mapped else "in_memory"] = {
                size: {
                    "first_batch_seconds": round(volume.first_seconds, 1),
                    "ms_per_patch": round(statistics.median(times[size]), 1),
                    "ratio": round(statistics.median(a / b for a, b in zip(times[size], smallest, strict=True)), 2),
                    **({"cold": volume.cold(epoch=10_000)} if mapped and hasattr(os, "posix_fadvise") else {}),
                }
                for size, volume in volumes.items()
            }
            for volume in volumes.values():
                volume.preprocessor.cache.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
