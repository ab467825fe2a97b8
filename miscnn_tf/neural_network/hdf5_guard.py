"""Safety check of an HDF5 file before its values are read.

A dataset in an HDF5 file may have its values in another file (external storage, virtual datasets, external links), may
need a filter from a plug-in, or may expand from a few bytes to gigabytes (fill values, chunks that were never written).
Weights of a model need none of these, so such files are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py

from miscnn_tf.errors import ModelFileError

_NUMBERS = "biuf"
_TEXT = "SU"
# Keras writes a few hundred names of layers and weights as attributes of .h5 files.
_MOST_TEXTS = 2**16
_MOST_OBJECTS = 2**20


def check_hdf5(file: h5py.File, size: int, where: str | Path) -> None:
    """Require that a file holds only groups and numbers, all stored in the file itself.

    Args:
        file: The file, opened for reading.
        size: Its size in bytes, the limit for the values of all datasets and attributes together.
        where: The file, for messages.

    Raises:
        ModelFileError: If it holds external or virtual datasets, soft or external links, filters, references, compound
            types, or values that are not stored; or if it is damaged.

    References:
        The HDF5 File Format Specification, version 3.0, sections IV.A.2.h (external data files) and IV.A.2.g (links).
    """
    try:
        for fault in _faults(file, size):
            raise ModelFileError(f"{where}: {fault}; weights never need that. Do not use this file")
    except ModelFileError:
        raise
    except Exception as error:  # h5py raises errors from OSError to OverflowError for damaged files
        raise ModelFileError(f"{where}: the HDF5 data is damaged ({error}); write the model again") from error


def _faults(file: h5py.File, size: int) -> Iterator[str]:
    seen: set[int] = set()
    values = 0
    waiting: list[tuple[str, h5py.Group | h5py.Dataset]] = [("/", file)]
    while waiting:
        name, node = waiting.pop()
        address = h5py.h5o.get_info(node.id).addr
        if address in seen:
            yield f"the object {name!r} occurs twice"
        seen.add(address)
        if len(seen) > _MOST_OBJECTS:
            yield f"it holds more than {_MOST_OBJECTS} objects"
        fault, held = _attributes(node)
        values += held
        if isinstance(node, h5py.Dataset):
            fault = fault or _dataset_fault(node, size)
            values += int(node.nbytes)
        if fault:
            yield f"{name!r} {fault}"
        if values > size:
            yield f"its values up to {name!r} take {values} bytes, but the file has {size}"
        if isinstance(node, h5py.Group):
            for key in node:
                link = node.get(key, getlink=True)
                if link is None:
                    yield f"{name.rstrip('/')}/{key} cannot be found"
                if not isinstance(link, h5py.HardLink):
                    yield f"{name.rstrip('/')}/{key} is a link to {_target(link)}"
                child = node[key]
                if not isinstance(child, h5py.Group | h5py.Dataset):
                    yield f"{name.rstrip('/')}/{key} is a named type"
                waiting.append((f"{name.rstrip('/')}/{key}", child))


def _dataset_fault(dataset: h5py.Dataset, size: int) -> str | None:
    layout = dataset.id.get_create_plist()
    if layout.get_external_count():
        return f"has its values in another file ({layout.get_external(0)[0].decode(errors='replace')})"
    kind = layout.get_layout()
    if kind not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT):
        return "is a virtual dataset"
    if layout.get_nfilters():
        return "is compressed or passes through another filter"
    if dataset.dtype.kind not in _NUMBERS:
        return f"holds {dataset.dtype}, not numbers"
    if dataset.shape is None:
        return "is an empty dataset"
    offset = dataset.id.get_offset() if kind == h5py.h5d.CONTIGUOUS else 0
    if int(dataset.nbytes) and (
        dataset.id.get_storage_size() < dataset.nbytes or offset is None or offset + dataset.nbytes > size
    ):
        return f"claims {dataset.nbytes} bytes of values that are not in the file"
    return None


def _attributes(node: h5py.Group | h5py.Dataset) -> tuple[str | None, int]:
    """Return the fault in the attributes of an object, if any, and the bytes that they take."""
    held = 0
    for position in range(h5py.h5a.get_num_attrs(node.id)):
        attribute = h5py.h5a.open(node.id, index=position)
        name = attribute.name.decode(errors="replace")
        count = attribute.get_space().get_simple_extent_npoints()
        if h5py.check_string_dtype(attribute.dtype) is None and attribute.dtype.kind not in _NUMBERS:
            return f"has an attribute {name!r} of {attribute.dtype}", held
        if count > _MOST_TEXTS and attribute.dtype.kind not in _NUMBERS:
            return f"has an attribute {name!r} of {count} texts", held
        held += int(attribute.get_type().get_size() * count)
    return None, held


def _target(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    return f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else str(link.path)
