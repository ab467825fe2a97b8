"""Resampling of label maps to the grids of their images; copies are written, the data are not changed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from miscnn_tf._base.files import make_folder
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import ending_of, stem_of
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.data_loading.formats.volumes import WRITTEN, prediction_ending, read_voxels, write_volume
from miscnn_tf.data_loading.interfaces.listed_files import ListedFiles_interface
from miscnn_tf.data_loading.interfaces.nifti_io import NIFTI_interface
from miscnn_tf.errors import ConfigurationError, MiscnnError

#: Least share of the foreground that resampling keeps; if less is left, the header is probably wrong.
LEAST_KEPT = 0.9


@dataclass(frozen=True)
class Repaired:
    """Result of the resampling of one label map.

    Attributes:
        index: The sample.
        path: The copy; None if it was not written.
        message: The fault or a warning; empty if there is none.
    """

    index: Hashable
    path: Path | None
    message: str = ""


def resample_label_maps(data_io: Data_IO, indices: Sequence[Hashable], folder: str | Path) -> list[Repaired]:
    """Write copies of label maps, resampled to their images' grids with nearest-neighbour interpolation.

    Each voxel of the image gets the label of the voxel of the label map that contains its centre, by the two affines,
    and 0 outside. The copies have the same relative paths in `folder` as the originals in the data folder.

    Args:
        data_io: The data set; its files store an affine, as NIfTI does.
        indices: The samples.
        folder: A new or empty folder outside the data.

    Returns:
        The result of each.

    Raises:
        ConfigurationError: If the folder is not empty, or is inside the data folder.
        StorageError: If it cannot be written.

    Example:
        >>> resample_label_maps(data_io, ["case_00003"], "resampled")[0].path  # doctest: +SKIP
        PosixPath('resampled/case_00003/segmentation.nii.gz')
    """
    root, folder = Path(str(data_io.input_path)), Path(folder)
    if folder.resolve().is_relative_to(root.resolve()):
        raise ConfigurationError(
            f"{folder} is inside the data folder {root}, which is not changed; choose a folder outside it"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty; choose a new or an empty folder")
    make_folder(folder)
    progress = tqdm(indices, desc="Resampling", unit="sample", disable=None)
    return [_resample(data_io.interface, index, root, folder) for index in progress]


def resample_labels(
    labels: np.ndarray, affine: np.ndarray, new_shape: Sequence[int], new_affine: np.ndarray
) -> np.ndarray:
    """Resample labels to another grid: each voxel gets the label of the nearest voxel, and 0 outside.

    Args:
        labels: ``(x, y, z)``.
        affine: 4x4, voxel to mm.
        new_shape: Shape of the other grid.
        new_affine: Affine of the other grid, 4x4.

    Example:
        >>> coarse = np.array([1, 2]).reshape(2, 1, 1)
        >>> resample_labels(coarse, np.diag([3.0, 1, 1, 1]), (7, 1, 1), np.eye(4)).ravel().tolist()
        [1, 1, 2, 2, 2, 0, 0]
    """
    matrix = np.linalg.inv(affine) @ new_affine
    # "grid-constant": positions in the outer half of a border voxel belong to it.
    result: np.ndarray = ndimage.affine_transform(
        labels, matrix, output_shape=tuple(new_shape), order=0, mode="grid-constant", cval=0, prefilter=False
    )
    return result


def _resample(interface: Any, index: Hashable, root: Path, folder: Path) -> Repaired:
    if isinstance(interface, ListedFiles_interface):
        interface = interface.reader
    if not isinstance(interface, NIFTI_interface):
        return Repaired(
            index,
            None,
            f"files of {type(interface).__name__} do not store their position in space; resize the mask by hand",
        )
    try:
        image, segmentation = interface.image_infos(index)[0], interface.segmentation_info(index)
        labels = read_voxels(segmentation).reshape(_spatial(segmentation), order="F")
    except MiscnnError as error:
        return Repaired(index, None, str(error))
    if image.affine is None or segmentation.affine is None:
        return Repaired(index, None, f"{segmentation.path} or its image does not store its position in space")
    result = resample_labels(labels, segmentation.affine, _spatial(image), image.affine)
    before, after = _foreground(labels, segmentation.affine), _foreground(result, image.affine)
    share = after / before if before else 1.0
    if not after and before:
        return Repaired(
            index,
            None,
            f"not written: by its header, all foreground of {segmentation.path} is outside the image, so the header is "
            "probably wrong; copy the image's affine into it if the voxels match",
        )
    path = folder / _below(segmentation.path, root)
    if ending_of(path) not in WRITTEN:
        path = path.with_name(stem_of(path) + prediction_ending(ending_of(path)))
    shape = (image.shape + (1,))[:3] if len(image.shape) > 2 else image.shape
    write_volume(path, result.reshape(shape, order="A"), image.geometry())
    if share < LEAST_KEPT:
        return Repaired(index, path, f"only {share:.0%} of the foreground is inside the image; check the label map")
    return Repaired(index, path)


def _spatial(info: VolumeInfo) -> tuple[int, ...]:
    return (info.shape + (1, 1))[:3]


def _foreground(labels: np.ndarray, affine: np.ndarray) -> float:
    """Return the volume of the foreground in mm³."""
    return float(np.count_nonzero(labels)) * abs(float(np.linalg.det(affine[:3, :3])))


def _below(path: Path, root: Path) -> Path:
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
