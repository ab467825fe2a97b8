"""Microscopy-like phantoms of moving, touching cells, in the layout of the Cell Tracking Challenge.

Tutorials and tests use them instead of real data. They do not represent real cells.

Reference:
    Layout and masks are those of Maška et al., "The Cell Tracking Challenge: 10 years of objective benchmarking",
    Nature Methods 2023; the images are PNG here, TIFF there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from miscnn_tf._base.files import atomic_path, make_folder
from miscnn_tf.datasets.scan_grid import smooth_field
from miscnn_tf.errors import ConfigurationError

#: Default shape: rows, columns.
DEFAULT_SHAPE = (96, 128)
#: Mean radius of a cell in pixels.
RADIUS = 9.0
# Distance of touching cells relative to the sum of their radii. Below 1 their border is flat.
_TOUCH = 0.88


class CellPhantom(NamedTuple):
    """A phantom sequence.

    Attributes:
        images: uint16 ``(frames, rows, columns)``, bright cells on a dark background.
        instances: uint16 of the same shape: 0 background, and a number per cell, the same in all frames.
    """

    images: np.ndarray
    instances: np.ndarray


def make_cell_phantom(
    seed: int | Sequence[int] | np.random.Generator = 0,
    frames: int = 8,
    shape: Sequence[int] = DEFAULT_SHAPE,
    cells: int | None = None,
) -> CellPhantom:
    """Create one sequence; the same arguments give the same pixels.

    Cells of different brightness form clusters, in which they touch with flat borders, and move slightly between
    frames. The illumination is uneven, so that a threshold cannot separate the cells. Photon and camera noise are those
    of a 16-bit camera.

    Args:
        seed: An integer, a sequence of them, or a generator to draw from.
        frames: Number of images.
        shape: Rows and columns, at least 32 each.
        cells: Number of cells; None (default) covers about a quarter of the field.

    Returns:
        The images and the instance masks.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> images, instances = make_cell_phantom(seed=1, frames=2, shape=(48, 64), cells=5)
        >>> images.shape, images.dtype.name, np.unique(instances).tolist()
        ((2, 48, 64), 'uint16', [0, 1, 2, 3, 4, 5])
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 2 or min(sizes) < 32:
        raise ConfigurationError(f"shape must be rows and columns of at least 32, got {tuple(shape)}")
    if int(frames) < 1:
        raise ConfigurationError(f"frames must be at least 1, got {frames}")
    room = int(0.6 * np.prod(sizes) / (np.pi * RADIUS**2))
    number = max(1, round(0.25 * np.prod(sizes) / (np.pi * RADIUS**2))) if cells is None else int(cells)
    if not 1 <= number <= room:
        raise ConfigurationError(f"cells must be 1 to {room} for {sizes[0]} x {sizes[1]} pixels, got {cells}")
    cell_rng, motion_rng, light_rng, noise_rng = rng.spawn(4)
    points = np.indices(sizes).astype(np.float32)
    population = _Population.draw(number, sizes, cell_rng)
    light = _illumination(points, sizes, light_rng)

    images = np.empty((int(frames), *sizes), np.uint16)
    instances = np.empty((int(frames), *sizes), np.uint16)
    for frame in range(int(frames)):
        if frame:
            population.move(motion_rng)
        instances[frame], signal = population.paint(points)
        images[frame] = _camera(signal * light, light, noise_rng)
    return CellPhantom(images, instances)


def write_cell_phantoms(
    path: str | Path,
    sequences: int = 2,
    frames: int = 8,
    shape: Sequence[int] = DEFAULT_SHAPE,
    cells: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[str]:
    """Write phantom sequences in the layout of the Cell Tracking Challenge, as 16-bit PNG files.

    Images are ``01/t000.png``, ``01/t001.png``, …; their instance masks ``01_GT/SEG/man_seg000.png``, …; the next
    sequence is ``02`` and ``02_GT``. ``01_GT/TRA/man_track.txt`` has a line per cell: its number, first and last frame,
    and 0 for no mother cell. A sequence depends on `seed` and its number only; the same call writes the same bytes.

    Args:
        path: Folder to write to; created if it does not exist.
        sequences: Number of sequences, 1 to 99.
        frames: Images per sequence, at most 1000.
        shape: Rows and columns.
        cells: Cells per sequence; None covers about a quarter of the field.
        seed: Random seed of the data set.
        progress: Show a progress bar on terminals.

    Returns:
        The names of the sequences.

    Raises:
        ConfigurationError: If an argument is invalid.
        StorageError: If the files cannot be written.

    Example:
        >>> write_cell_phantoms("cells", sequences=2)  # doctest: +SKIP
        ['01', '02']
    """
    if not 1 <= int(sequences) <= 99:
        raise ConfigurationError(f"sequences must be 1 to 99, got {sequences}")
    if int(frames) > 1000:
        raise ConfigurationError(f"frames must be at most 1000, got {frames}")
    folder = make_folder(path)
    names = [f"{number:02d}" for number in range(1, int(sequences) + 1)]
    # disable=None: shown on terminals only.
    for number, name in enumerate(tqdm(names, "writing phantoms", disable=None if progress else True)):
        images, instances = make_cell_phantom([int(seed), number], frames, shape, cells)
        for frame in range(len(images)):
            _write_png(folder / name / f"t{frame:03d}.png", images[frame])
            _write_png(folder / f"{name}_GT" / "SEG" / f"man_seg{frame:03d}.png", instances[frame])
        tracks = "".join(_track(instances, cell) for cell in np.unique(instances) if cell)
        with atomic_path(folder / f"{name}_GT" / "TRA" / "man_track.txt") as temporary:
            temporary.write_text(tracks, encoding="ascii")
    return names


class _Population:
    """Positions, shapes and brightness of cells. Positions are ``(cells, 2)`` in pixels."""

    def __init__(
        self, places: np.ndarray, radii: np.ndarray, brightness: np.ndarray, waves: np.ndarray, sizes: tuple[int, ...]
    ) -> None:
        self.places = places
        self.radii = radii
        self.brightness = brightness
        self.waves = waves
        self.sizes = np.array(sizes, float)

    @classmethod
    def draw(cls, number: int, sizes: tuple[int, ...], rng: np.random.Generator) -> _Population:
        """Draw random cells around a few cluster centres."""
        clusters = rng.uniform(0.1, 0.9, (max(1, number // 3), 2)) * sizes
        places = clusters[np.arange(number) % len(clusters)] + rng.normal(0, RADIUS, (number, 2))
        radii = RADIUS * rng.uniform(0.8, 1.2, number)
        # Amplitude and phase of the outline's Fourier modes 2 (elongated) and 3 (bent).
        waves = np.stack([rng.uniform(0.05, 0.16, (number, 2)), rng.uniform(0, 2 * np.pi, (number, 2))], axis=-1)
        population = cls(places, radii, rng.uniform(0.55, 1.3, number), waves, sizes)
        population.make_room()
        return population

    def move(self, rng: np.random.Generator) -> None:
        """Move and rotate the cells slightly."""
        self.places += rng.normal(0, 1.2, self.places.shape)
        self.waves[..., 1] += rng.normal(0, 0.15, (len(self.places), 1))
        self.make_room()

    def make_room(self) -> None:
        """Push cells apart until neighbours touch, within the field."""
        margin = self.radii[:, np.newaxis]
        wanted = _TOUCH * (self.radii[:, np.newaxis] + self.radii)
        for _ in range(200):
            self.places = np.clip(self.places, margin, self.sizes - 1 - margin)
            apart = self.places[:, np.newaxis] - self.places
            distance = np.linalg.norm(apart, axis=-1) + 1e-6
            np.fill_diagonal(distance, np.inf)
            overlap = np.clip(wanted - distance, 0, None)
            if overlap.max() < 0.2:
                break
            self.places += 0.4 * np.sum(apart / distance[..., np.newaxis] * overlap[..., np.newaxis], axis=1)

    def paint(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the instance mask (uint16) and the signal (float32, about 1 in a cell)."""
        nearest = np.full(points.shape[1:], np.inf, np.float32)
        instances = np.zeros(points.shape[1:], np.uint16)
        signal = np.zeros(points.shape[1:], np.float32)
        for number, (place, radius) in enumerate(zip(self.places, self.radii, strict=True)):
            rows, columns = points - place.astype(np.float32)[:, np.newaxis, np.newaxis]
            angle = np.arctan2(rows, columns)
            outline = radius * np.ones_like(angle)
            for wave, (amplitude, phase) in zip((2, 3), self.waves[number], strict=True):
                outline *= 1 + np.float32(amplitude) * np.cos(wave * angle + np.float32(phase))
            relative = np.hypot(rows, columns) / outline
            mine = (relative < 1) & (relative < nearest)
            nearest[mine] = relative[mine]
            instances[mine] = number + 1
            # Thick and bright in the middle, dim at the border.
            signal[mine] = self.brightness[number] * np.sqrt(1.05 - relative[mine] ** 2)
        return instances, signal


def _illumination(points: np.ndarray, sizes: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the illumination of each pixel, from about 0.3 to 1."""
    middle = rng.uniform(0.3, 0.7, 2) * sizes
    away = (points - middle.astype(np.float32)[:, np.newaxis, np.newaxis]) / max(sizes)
    light = np.exp(-1.6 * np.einsum("i...,i...->...", away, away))
    light *= 1 + 0.12 * np.clip(smooth_field(points, rng, max(sizes)), -2, 2)
    return np.clip(light / light.max(), 0.25, 1)


def _camera(signal: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulate a 16-bit camera: blur, stray light, photon noise, offset, read-out noise."""
    photons = 400 * gaussian_filter(signal, 0.9, truncate=3) + 80 * light
    counts = 600 + 45 * rng.poisson(photons) + rng.normal(0, 150, signal.shape)
    return np.clip(np.rint(counts), 0, 2**16 - 1).astype(np.uint16)


def _track(instances: np.ndarray, cell: int) -> str:
    frames = np.flatnonzero((instances == cell).any(axis=(1, 2)))
    return f"{cell} {frames[0]} {frames[-1]} 0\n"


def _write_png(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)
