"""CT-like phantoms of the thorax as DICOM, in the layout of the thoracic challenge LCTSC: series and RTSTRUCT.

Tests and tutorials use them. They do not represent real patients.

Reference:
    Yang et al., "Data from Lung CT Segmentation Challenge 2017 (LCTSC)", The Cancer Imaging Archive,
    doi:10.7937/K9/TCIA.2017.3R3FVZ08; Yang et al., "Autosegmentation for thoracic radiation treatment planning: a grand
    challenge at AAPM 2017", Med. Phys. 45 (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from miscnn_tf._base.files import make_folder
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.rtstruct_writer import write_rtstruct
from miscnn_tf.datasets.canvas import Canvas
from miscnn_tf.datasets.kits_phantom import Phantom
from miscnn_tf.datasets.scan_files import write_ct_series
from miscnn_tf.datasets.scan_grid import centred_affine, orientation_matrix
from miscnn_tf.datasets.thorax import Chest, draw_thorax
from miscnn_tf.errors import ConfigurationError

#: Labels of the challenge's structures.
LCTSC_STRUCTURES = {"Esophagus": 1, "Heart": 2, "Lung_L": 3, "Lung_R": 4, "SpinalCord": 5}
#: Default shape: slices, rows, columns.
DEFAULT_LCTSC_SHAPE = (48, 96, 96)
# A fixed date, so that the files depend on the seed only.
_MOMENT = datetime(2017, 7, 31, 12, 0, 0)


def make_lctsc_phantom(
    seed: int | Sequence[int] | np.random.Generator = 0, shape: Sequence[int] = DEFAULT_LCTSC_SHAPE
) -> Phantom:
    """Create one phantom scan; the same arguments give the same voxels.

    Args:
        seed: An integer, a sequence of them, or a generator to draw from.
        shape: Slices, rows and columns; at least 8 each.

    Returns:
        The image (int16, Hounsfield units), the labels (uint8, `LCTSC_STRUCTURES`) and the affine; the slices run from
        the feet to the head, the rows to the back, the columns to the patient's left.

    Raises:
        ConfigurationError: If `shape` is invalid.

    Example:
        >>> image, labels, affine = make_lctsc_phantom(seed=1, shape=(16, 32, 32))
        >>> image.shape, image.dtype.name, labels.dtype.name
        ((16, 32, 32), 'int16', 'uint8')
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 8:
        raise ConfigurationError(f"shape must be 3 sizes of at least 8, got {tuple(shape)}")
    chest_rng, grid_rng, thorax_rng, canvas_rng, noise_rng = rng.spawn(5)
    chest = Chest.draw(chest_rng)
    field = grid_rng.uniform(1.05, 1.15)
    pixel = field * 2 * max(chest.half_depth / sizes[1], chest.half_width / sizes[2])
    # From the top of the lungs to below the diaphragm, for any number of slices.
    spacing = np.round([grid_rng.uniform(275, 300) / sizes[0], pixel, pixel], 3)
    in_patient = centred_affine(sizes, orientation_matrix("SPL"), spacing)
    affine = in_patient.copy()
    affine[:3, 3] += np.round(grid_rng.uniform(-1, 1, 3) * (15, 120, 400), 1)
    canvas = Canvas(sizes, in_patient, canvas_rng, deformation=3.0)
    draw_thorax(canvas, chest, thorax_rng)
    image, labels = canvas.develop()
    noise = gaussian_filter(noise_rng.standard_normal(image.shape, dtype=np.float32), (0, 0.6, 0.6))
    noise *= noise_rng.uniform(8, 20) / noise.std()
    return Phantom(np.clip(np.rint(image + noise), -1024, 3071).astype(np.int16), labels, affine)


def write_lctsc_phantoms(
    path: str | Path,
    cases: int = 6,
    shape: Sequence[int] = DEFAULT_LCTSC_SHAPE,
    seed: int = 0,
    progress: bool = True,
) -> list[str]:
    """Write phantom scans in the layout of LCTSC in The Cancer Imaging Archive.

    ``LCTSC-Train-S1-001/<study>/0.000000-CT-<number>/000000.dcm, …`` is the series, and
    ``…/1.000000-.simplified-<number>/000000.dcm`` the RTSTRUCT, found by the annotation tag "simplified". A case
    depends on `seed` and its number only, and the same call writes the same bytes, UIDs included.

    Args:
        path: Folder to write to; created if it does not exist.
        cases: Number of cases.
        shape: Slices, rows and columns.
        seed: Random seed of the data set.
        progress: Show a progress bar on terminals.

    Returns:
        The names of the cases.

    Raises:
        MissingExtraError: If the extra ``dicom`` is not installed.
        ConfigurationError: If `cases` or `shape` is invalid.
        StorageError: If the files cannot be written.

    Example:
        >>> write_lctsc_phantoms("lctsc", cases=2)  # doctest: +SKIP
        ['LCTSC-Train-S1-001', 'LCTSC-Train-S1-002']
    """
    require_dicom()
    if int(cases) < 1:
        raise ConfigurationError(f"cases must be at least 1, got {cases}")
    folder = make_folder(path)
    names = [f"LCTSC-Train-S{1 + number // 12}-{1 + number % 12:03d}" for number in range(int(cases))]
    structures = {label: name for name, label in LCTSC_STRUCTURES.items()}
    # disable=None: shown on terminals only.
    for number, name in enumerate(tqdm(names, "writing phantoms", unit="case", disable=None if progress else True)):
        phantom = make_lctsc_phantom([int(seed), number], shape)
        # UIDs, and the numbers in folder names, depend on the data set and the case.
        uid_seed = f"miscnn_tf LCTSC phantom {int(seed)} {number} {tuple(phantom.image.shape)}"
        study = folder / name / "07-31-2017-NA-THORAX-PHANTOM"
        images = study / f"0.000000-CT-{10000 + number}"
        write_ct_series(images, phantom.image, phantom.affine, patient=name, uid_seed=uid_seed, moment=_MOMENT)
        write_rtstruct(
            study / f"1.000000-.simplified-{20000 + number}" / "000000.dcm",
            phantom.labels,
            images,
            structures,
            label="simplified",
            uid_seed=f"{uid_seed} structures",
            moment=_MOMENT,
        )
    return names
