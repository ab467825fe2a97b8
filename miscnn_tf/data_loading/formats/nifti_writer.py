"""Writers of NIfTI files and maps in the geometry of their image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from isal import igzip

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.file_names import is_nifti
from miscnn_tf.data_loading.formats import authorship
from miscnn_tf.data_loading.formats.nifti_reader import (
    LENGTH_BITS,
    MILLIMETRES,
    in_millimetres,
    read_info,
    stored_header,
)
from miscnn_tf.data_loading.formats.voxel_file import stored_bytes
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError

_ESSENTIAL = ("dim", "datatype", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
              "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")  # fmt: skip


def write_nifti(path: str | Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array as NIfTI, atomically, with qform, sform and unit.

    Codes and unit are those of the source, so that readers that ignore the unit find the same numbers in both files. If
    the source has neither form, the output has neither, so that viewers derive the same grid for both files. A sheared
    affine, which a qform cannot express, is written to the sform only. The header's description records that this
    package wrote the file (`was_written_here`).

    Args:
        path: Name ending in ``.nii.gz`` or ``.nii``.
        array: ``(x, y[, z[, channels]])``, integers or floating (stored as float32).
        facts: ``"affine"`` and ``"qform"`` in millimetres, and ``"spacing"``, ``"qform_code"``, ``"sform_code"``,
            ``"xyzt_units"`` if known, as returned by `NiftiInfo.geometry`.

    Raises:
        ConfigurationError: If the name has another ending.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    if not is_nifti(path):
        raise ConfigurationError(f"{path}: NIfTI files end in .nii.gz or .nii; name the output so")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    kind = nibabel.Nifti2Image if max(array.shape) > np.iinfo(np.int16).max else nibabel.Nifti1Image
    image = kind(array, None)
    _set_geometry(image.header, facts)
    image.header["descrip"] = authorship.mark(authorship.checksum_of([_essence(image.header), array]))
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(raw)
            return
        # Without name and time in the gzip header, the same labels give the same bytes.
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
            image.to_stream(packed)


def was_written_here(path: str | Path) -> bool:
    """Return True if `write_nifti` wrote this file and it is unchanged.

    Raises:
        DataError: If it cannot be read.
    """
    path = Path(path)
    header = stored_header(path)
    line = bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")
    if not authorship.is_mark(line):
        return False
    info = read_info(path)

    def parts() -> Iterator[bytes]:
        yield _essence(header)
        yield from stored_bytes(info)

    return authorship.matches(line, authorship.checksum_of(parts()))


def _essence(header: Any) -> bytes:
    """Return the header fields that identify an image: shape, type and geometry."""
    return b"".join(header[name].tobytes() for name in _ESSENTIAL)


def _set_geometry(header: Any, facts: Mapping[str, Any]) -> None:
    affine = facts.get("affine")
    spacing = facts.get("spacing")
    if affine is None:
        sizes = [1.0] * 3 if spacing is None else [*map(float, spacing), 1.0][:3]
        affine = np.diag([*sizes, 1.0])
    units = int(facts.get("xyzt_units", MILLIMETRES))
    # The fourth axis holds classes, not times.
    header["xyzt_units"] = units if len(header.get_data_shape()) < 4 else units & LENGTH_BITS
    scale = np.diag([in_millimetres(units) or 1.0] * 3 + [1.0])
    qform = np.linalg.solve(scale, np.asarray(facts.get("qform", affine), dtype=np.float64))
    affine = np.linalg.solve(scale, np.asarray(affine, dtype=np.float64))
    qform_code, sform_code = int(facts.get("qform_code", 1)), int(facts.get("sform_code", 1))
    unset = qform_code == 0 and sform_code == 0
    # An unusable qform of the source is not given and has the code 0; the affine is used instead.
    header.set_qform(qform, 0 if unset else qform_code or sform_code)
    expressed = _difference(header.get_qform(), qform) < 1e-3
    if not expressed:
        header.set_qform(None, 0)
    header.set_sform(affine, 0 if unset else sform_code or qform_code)
    # The voxel sizes are a part of the qform; without forms, only they define the grid.
    sizes = list(header.get_zooms())
    sizes[:3] = _voxel_sizes(qform if expressed else affine)[: len(sizes)]
    header.set_zooms(sizes)


def _difference(stored: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference of the steps of two affines, as a share of the smallest voxel size."""
    return float(np.max(np.abs(stored - wanted)[:3, :3]) / geometry.spacing_of(wanted).min())


def _voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """Return the voxel sizes of the source bit by bit; rounded only to remove the noise of float32."""
    exact = np.linalg.norm(affine[:3, :3], axis=0)
    rounded = geometry.spacing_of(affine)
    return np.where(np.abs(rounded - exact) <= 2 * np.finfo(np.float32).eps * exact, rounded, exact)


def write_map(stem: str | Path, values: np.ndarray, sample: Sample) -> Path:
    """Write a map, atomically: as NIfTI if the affine of the image is known, else as ``.npy``.

    Each map has its own file, not one of four dimensions, so that viewers can overlay it.

    Args:
        stem: Name of the file without its ending.
        values: ``(x, y[, z])`` on the grid of the original image; written as float32.
        sample: The sample; its ``extended`` holds the ``"affine"`` and further geometry that the interface read.

    Returns:
        The file's path.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> sample = Sample("a", np.zeros((4, 4)), 1, 2, three_dim=False)
        >>> write_map("maps/a.entropy", np.zeros((4, 4)), sample).as_posix()
        'maps/a.entropy.npy'
    """
    values = values.astype(np.float32, copy=False)
    stem, facts = Path(stem), sample.extended
    if facts.get("affine") is None:
        path = stem.with_name(stem.name + ".npy")
        with atomic_path(path) as temporary:
            np.save(temporary, values, allow_pickle=False)
        return path
    if values.ndim == 2 and ("slice_axis" in facts or facts.get("file_axes", 2) == 3):
        # A slice that has three axes in its file is written in that shape, so that viewers can overlay it.
        values = np.expand_dims(values, int(facts.get("slice_axis", 2)))
    path = stem.with_name(stem.name + ".nii.gz")
    write_nifti(path, values, facts)
    return path
