"""CT-like phantoms of the abdomen with kidneys and kidney tumours, in the layout of the KiTS19 challenge.

The demo, tutorials and tests use them instead of real data. They do not represent real patients.

Reference:
    The layout, labels and axis order are those of Heller et al., "The KiTS19 Challenge Data", arXiv 1904.00445.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from miscnn_tf._base.files import make_folder
from miscnn_tf.datasets.abdomen import Patient, draw_abdomen, draw_kidneys
from miscnn_tf.datasets.canvas import Canvas
from miscnn_tf.datasets.scan_files import write_volume
from miscnn_tf.datasets.scan_grid import axis_rotation, centred_affine, orientation_matrix
from miscnn_tf.errors import ConfigurationError

#: Default shape: slices, rows, columns.
DEFAULT_SHAPE = (36, 80, 112)
#: KiTS19's orientation with a probability of 3/5, and others with slices as the first axis.
KITS_ORIENTATIONS = ("IPL", "IPL", "IPL", "SPL", "IPR")


class Phantom(NamedTuple):
    """A phantom scan.

    Attributes:
        image: int16, Hounsfield units, axes in the requested orientation.
        labels: uint8 of the same shape: 0 background, 1 kidney, 2 tumour.
        affine: float64 4x4, voxel index to mm (right, anterior, superior), as in NIfTI.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def make_kits_phantom(
    seed: int | Sequence[int] | np.random.Generator = 0,
    shape: Sequence[int] = DEFAULT_SHAPE,
    spacing: Sequence[float] | None = None,
    orientation: str | None = None,
    oblique: bool | None = None,
    tumours: int | None = None,
) -> Phantom:
    """Create one phantom scan; the same arguments give the same voxels.

    Size and position of the organs, build, contrast phase, noise, spacing and orientation depend on the seed; there are
    always one or two kidneys. Voxels on the border of two tissues have a value between both (partial volume).

    Args:
        seed: An integer, a sequence of them, or a generator to draw from.
        shape: Voxels per stored axis, 3 of at least 8: slices, rows, columns, unless `orientation` is given.
        spacing: Voxel size in mm per stored axis. None (default): the body fills the field of view in-plane, and the
            slices are thicker.
        orientation: Letters of the directions of the three stored axes (nibabel's ``aff2axcodes``); KiTS19 is
            ``"IPL"``. None (default): mostly ``"IPL"``, sometimes with reversed slices or sides.
        oblique: Rotate the grid against the patient. None (default): with a probability of 2/5.
        tumours: Number of tumours. None (default): a random number up to three, mostly one.

    Returns:
        The image, the labels and the affine.

    Raises:
        ConfigurationError: If `shape`, `spacing`, `orientation` or `tumours` is invalid.

    Example:
        >>> image, labels, affine = make_kits_phantom(seed=3, shape=(16, 32, 32))
        >>> image.shape, image.dtype.name, labels.dtype.name
        ((16, 32, 32), 'int16', 'uint8')
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    shape = _checked_shape(shape)
    if tumours is not None and not 0 <= int(tumours) <= 20:
        raise ConfigurationError(f"tumours must be a number from 0 to 20, or None for a random number, got {tumours!r}")
    # All random numbers are drawn in a fixed order, also those that an argument overrides, so that the patient stays
    # the same.
    grid_rng, patient_rng, abdomen_rng, kidney_rng, canvas_rng, noise_rng = rng.spawn(6)
    patient = Patient.draw(patient_rng)
    in_patient, affine = _scan_grid(grid_rng, patient, shape, spacing, orientation, oblique)
    for _ in range(20):
        canvas = Canvas(shape, in_patient, canvas_rng)
        draw_abdomen(canvas, patient, abdomen_rng)
        draw_kidneys(canvas, patient, kidney_rng, tumours)
        image, labels = canvas.develop()
        if np.any(labels == 1):
            break
    else:
        raise ConfigurationError(
            f"no kidney fits into shape {shape} with spacing {spacing}: the kidneys are about 60 mm from the centre "
            "of the scan; use more or larger voxels"
        )
    # Axis of the slices in the array, because the noise of a scanner is correlated within slices.
    slice_axis = int(np.argmax(np.abs(in_patient[2, :3]) / np.linalg.norm(in_patient[:3, :3], axis=0)))
    return Phantom(_scanned(image, slice_axis, noise_rng), labels, affine)


def write_kits_phantoms(
    path: str | Path,
    cases: int = 24,
    shape: Sequence[int] = DEFAULT_SHAPE,
    seed: int = 0,
    tumours: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Write phantom scans in the layout of KiTS19: ``case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``.

    A case depends on `seed` and its number only, so that more cases do not change the first ones, and the same call
    writes the same bytes. Existing files are replaced, each atomically.

    Args:
        path: Folder to write to; created if it does not exist.
        cases: Number of cases.
        shape: Voxels per stored axis: slices, rows, columns.
        seed: Random seed of the data set.
        tumours: Tumours per case; None (default) for a random number.
        progress: Show a progress bar on terminals.

    Returns:
        The names of the cases.

    Raises:
        ConfigurationError: If `cases` or `shape` is invalid.
        StorageError: If the files cannot be written.

    Example:
        >>> write_kits_phantoms("phantoms", cases=2)  # doctest: +SKIP
        ['case_00000', 'case_00001']
    """
    if int(cases) < 1:
        raise ConfigurationError(f"cases must be at least 1, got {cases}")
    folder = make_folder(path)
    names = [f"case_{number:05d}" for number in range(int(cases))]
    # disable=None: shown on terminals only.
    for number, name in enumerate(tqdm(names, "writing phantoms", unit="case", disable=None if progress else True)):
        phantom = make_kits_phantom([int(seed), number], shape, tumours=tumours)
        write_volume(folder / name / "imaging.nii.gz", phantom.image, phantom.affine)
        write_volume(folder / name / "segmentation.nii.gz", phantom.labels, phantom.affine)
    return names


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 8:
        raise ConfigurationError(f"shape must be 3 sizes of at least 8, got {tuple(shape)}")
    return sizes


def _scan_grid(
    rng: np.random.Generator,
    patient: Patient,
    shape: tuple[int, int, int],
    spacing: Sequence[float] | None,
    orientation: str | None,
    oblique: bool | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the affine to the coordinates of the anatomy, and the one to those of the scanner, for the file."""
    drawn_orientation = str(rng.choice(KITS_ORIENTATIONS))
    drawn_oblique = rng.random() < 0.4
    field, thickness, angles = rng.uniform(1.04, 1.14), rng.uniform(1.25, 1.6), rng.uniform(-1, 1, 3) * (14, 5, 9)
    table, shift = rng.uniform(-1, 1, 3) * (40, 60, 300), rng.normal(0, 1, 3) * (5, 5, 9)

    directions = orientation_matrix(drawn_orientation if orientation is None else orientation)
    if spacing is None:
        extents = np.abs(directions.T) @ np.array([2 * patient.half_width, 2 * patient.half_depth, 0.0])
        in_plane = extents > 0
        pixel = field * max(extents[in_plane] / np.array(shape)[in_plane])
        # Slices always cover the kidneys, so that few slices are thick.
        slices = np.array(shape)[~in_plane][0]
        voxel = np.where(in_plane, pixel, max(thickness * pixel, 155 / slices))
        voxel = np.round(voxel, 3)
    else:
        voxel = np.asarray(spacing, float)
        if voxel.shape != (3,) or not np.all(np.isfinite(voxel)) or voxel.min() <= 0:
            raise ConfigurationError(f"spacing must be 3 voxel sizes in mm above 0, got {spacing!r}")
    if drawn_oblique if oblique is None else oblique:
        for axis in range(3):
            directions = axis_rotation(axis, angles[axis]) @ directions
    in_patient = centred_affine(shape, directions, voxel)
    in_patient[:3, 3] += shift
    affine = in_patient.copy()
    affine[:3, 3] += table
    return in_patient, affine


def _scanned(image: np.ndarray, slice_axis: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate the blur, noise and range of a scanner, in integer Hounsfield units."""
    level = rng.uniform(9, 24)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    for axis in range(3):
        if axis != slice_axis:
            image = gaussian_filter1d(image, 0.45, axis=axis, truncate=3)
            noise = gaussian_filter1d(noise, 0.7, axis=axis, truncate=3)
    # Less noise in air than in the body.
    noise *= level / noise.std() * np.clip((image + 1100) / 1000, 0.25, 1)
    return np.clip(np.rint(image + noise), -1024, 3071).astype(np.int16)
