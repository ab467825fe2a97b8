"""MRI-like phantoms of brains with gliomas, in the layout of the BraTS challenge.

Tutorials and tests use them instead of data that require registration. They do not represent real patients.

Reference:
    Contrasts, labels, grid and file names are those of Menze et al., "The Multimodal Brain Tumor Image Segmentation
    Benchmark (BRATS)", IEEE TMI 2015, and of the challenge's data from 2017 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from miscnn_tf._base.files import make_folder
from miscnn_tf.datasets.scan_files import write_volume
from miscnn_tf.datasets.scan_grid import smooth_field
from miscnn_tf.errors import ConfigurationError

#: The four contrasts in the order of the channels, which are also the endings of the file names.
MODALITIES = ("t1", "t1ce", "t2", "flair")
#: Size of BraTS' grid in mm: 240 x 240 x 155 voxels of 1 mm.
FIELD_OF_VIEW = (240.0, 240.0, 155.0)
#: Default shape: a sixth of BraTS' voxels per axis.
DEFAULT_SHAPE = (40, 40, 26)

#: Labels of BraTS: 3 does not occur.
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4

# Signal of each tissue in t1, t1ce, t2, flair.
_SIGNAL = {
    "grey": (480, 500, 560, 430),
    "white": (650, 660, 420, 350),
    "fluid": (240, 240, 950, 130),
    "necrosis": (330, 340, 780, 470),
    "oedema": (430, 440, 800, 820),
    "enhancing": (500, 1050, 640, 600),
}


class BratsPhantom(NamedTuple):
    """A phantom patient.

    Attributes:
        image: int16 ``(x, y, z, 4)``, the channels in the order of `MODALITIES`, arbitrary units; exactly 0 outside the
            brain.
        labels: uint8 ``(x, y, z)``: 0 background, 1 necrotic core, 2 oedema, 4 enhancing tumour.
        affine: float64 4x4, voxel index to mm (right, anterior, superior). As in BraTS the first two axes run to the
            patient's left and back.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def make_brats_phantom(
    seed: int | Sequence[int] | np.random.Generator = 0, shape: Sequence[int] = DEFAULT_SHAPE
) -> BratsPhantom:
    """Create one phantom patient; the same arguments give the same voxels.

    A skull-stripped brain with grey and white matter and ventricles, and one glioma: a necrotic core inside an
    enhancing rim (together the tumour core), inside oedema (the whole tumour). No single channel distinguishes all of
    them: the rim is bright only after contrast agent (t1ce), oedema and ventricles are both bright in t2 but not in
    flair. Scale, bias field and noise differ between channels.

    Args:
        seed: An integer, a sequence of them, or a generator to draw from.
        shape: Voxels per axis, 3 of at least 12. The field of view is always 240 x 240 x 155 mm, so that fewer voxels
            are larger.

    Returns:
        The four channels, the labels and the affine.

    Raises:
        ConfigurationError: If `shape` is invalid.

    Example:
        >>> image, labels, affine = make_brats_phantom(seed=3, shape=(24, 24, 16))
        >>> image.shape, image.dtype.name, np.unique(labels).tolist()
        ((24, 24, 16, 4), 'int16', [0, 1, 2, 4])
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 12:
        raise ConfigurationError(f"shape must be 3 sizes of at least 12, got {tuple(shape)}")
    anatomy_rng, tumour_rng, scanner_rng = rng.spawn(3)
    spacing = np.array(FIELD_OF_VIEW) / sizes
    # Position in mm from the centre of the field of view, along the axes of the array: left, back, up.
    ticks = [((np.arange(size) + 0.5) / size - 0.5) * field for size, field in zip(sizes, FIELD_OF_VIEW, strict=True)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij")).astype(np.float32)

    tissues = _draw_brain(points, anatomy_rng)
    labels = _draw_tumour(points, tissues, tumour_rng)
    image = _scan(points, tissues, labels, spacing, scanner_rng)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[1, 3] = spacing[1] * (sizes[1] - 1)
    return BratsPhantom(image, labels, affine)


def write_brats_phantoms(
    path: str | Path,
    cases: int = 12,
    shape: Sequence[int] = DEFAULT_SHAPE,
    seed: int = 0,
    progress: bool = True,
) -> list[str]:
    """Write phantom patients in the layout of BraTS.

    A folder per case, and in it ``<case>_t1.nii.gz``, ``<case>_t1ce.nii.gz``, ``<case>_t2.nii.gz``,
    ``<case>_flair.nii.gz`` and ``<case>_seg.nii.gz``. A case depends on `seed` and its number only; the same call
    writes the same bytes. Existing files are replaced, each atomically.

    Args:
        path: Folder to write to; created if it does not exist.
        cases: Number of cases.
        shape: Voxels per axis.
        seed: Random seed of the data set.
        progress: Show a progress bar on terminals.

    Returns:
        The names of the cases.

    Raises:
        ConfigurationError: If `cases` or `shape` is invalid.
        StorageError: If the files cannot be written.

    Example:
        >>> write_brats_phantoms("brats", cases=2)  # doctest: +SKIP
        ['BraTS20_Training_001', 'BraTS20_Training_002']
    """
    if int(cases) < 1:
        raise ConfigurationError(f"cases must be at least 1, got {cases}")
    folder = make_folder(path)
    names = [f"BraTS20_Training_{number:03d}" for number in range(1, int(cases) + 1)]
    # disable=None: shown on terminals only.
    for number, name in enumerate(tqdm(names, "writing phantoms", unit="case", disable=None if progress else True)):
        phantom = make_brats_phantom([int(seed), number], shape)
        for channel, modality in enumerate(MODALITIES):
            write_volume(folder / name / f"{name}_{modality}.nii.gz", phantom.image[..., channel], phantom.affine)
        write_volume(folder / name / f"{name}_seg.nii.gz", phantom.labels, phantom.affine)
    return names


class _Brain(NamedTuple):
    """Masks of the tissues, bool ``(x, y, z)`` each. Grey matter is the brain without the other two."""

    brain: np.ndarray
    white: np.ndarray
    fluid: np.ndarray
    #: Radius of each voxel relative to that of the brain in the same direction.
    depth: np.ndarray
    radii: np.ndarray


def _draw_brain(points: np.ndarray, rng: np.random.Generator) -> _Brain:
    radii = np.array([66, 82, 62]) * rng.uniform(0.93, 1.05, 3)
    depth = _ellipsoid(points, (0, 0, 0), radii) * (1 + 0.03 * smooth_field(points, rng, 90))
    brain = depth < 1
    # Grey matter folds inwards: the wavelength of the surface of white matter is that of gyri.
    white = brain & (depth * (1 + 0.09 * smooth_field(points, rng, 26)) < 0.82)
    fluid = np.zeros_like(brain)
    width = rng.uniform(0.8, 1.5)
    for side in (-1, 1):
        turned = points.copy()
        turned[0] -= side * (9 + 0.12 * np.abs(points[1]))  # the horns diverge
        fluid |= _ellipsoid(turned, (0, 2, 6), np.array([6 * width, 32, 14])) < 1
    return _Brain(brain, white & ~fluid, fluid & brain, depth, radii)


def _draw_tumour(points: np.ndarray, tissues: _Brain, rng: np.random.Generator) -> np.ndarray:
    core = rng.uniform(15, 24)  # mm
    side = rng.choice((-1, 1))
    # Between the ventricles and the cortex, on either side.
    centre = tissues.radii * np.array([side * rng.uniform(0.35, 0.55), rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.4)])
    uneven = 1 + 0.12 * smooth_field(points, rng, 45)
    distance = _ellipsoid(points, centre, core * rng.uniform(0.85, 1.15, 3)) * uneven
    necrosis = rng.uniform(0.5, 0.65)
    # Oedema spreads in the white matter, not in the ventricles.
    spread = rng.uniform(1.4, 1.8) * np.where(tissues.white, 1.1, 0.9)
    inside = tissues.brain & (tissues.depth < 0.97)
    labels = np.zeros(points.shape[1:], np.uint8)
    labels[inside & ~tissues.fluid & (distance < spread)] = OEDEMA
    labels[inside & (distance < 1)] = ENHANCING
    labels[inside & (distance < necrosis)] = NECROSIS
    return labels


def _scan(
    points: np.ndarray, tissues: _Brain, labels: np.ndarray, spacing: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    regions = (
        ("grey", tissues.brain),
        ("white", tissues.white),
        ("fluid", tissues.fluid),
        ("oedema", labels == OEDEMA),
        ("enhancing", labels == ENHANCING),
        ("necrosis", labels == NECROSIS),
    )
    image = np.zeros((*labels.shape, len(MODALITIES)), np.int16)
    for channel in range(len(MODALITIES)):
        signal = np.zeros(labels.shape, np.float32)
        for name, where in regions:
            signal[where] = _SIGNAL[name][channel]
        # Partial volume: about half a voxel, at least 1 mm.
        blurred = gaussian_filter(signal, np.maximum(1.0 / spacing, 0.4), truncate=3)
        inside = gaussian_filter(tissues.brain.astype(np.float32), np.maximum(1.0 / spacing, 0.4), truncate=3)
        signal = blurred / np.maximum(inside, 0.05)  # without loss at the border of the stripped skull
        signal *= 1 + 0.03 * smooth_field(points, rng, 14, waves=24)
        signal *= 1 + 0.07 * np.clip(smooth_field(points, rng, 260), -2, 2)  # bias field of the coil
        signal += rng.normal(0, rng.uniform(12, 24), labels.shape).astype(np.float32)
        signal *= rng.uniform(0.5, 2.0)  # arbitrary units
        image[..., channel] = np.where(tissues.brain, np.clip(np.rint(signal), 1, 2**15 - 1), 0)
    return image


def _ellipsoid(points: np.ndarray, centre: Sequence[float] | np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the distance from `centre` relative to the radius in the same direction: below 1 inside."""
    shape = (-1, *(1,) * (points.ndim - 1))
    scaled = (points - np.asarray(centre, np.float32).reshape(shape)) / np.asarray(radii, np.float32).reshape(shape)
    return np.sqrt(np.einsum("i...,i...->...", scaled, scaled))
