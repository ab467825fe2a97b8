"""Smooth random fields for uneven shapes, tissues and illumination."""

from __future__ import annotations

import numpy as np


def smooth_field(points: np.ndarray, rng: np.random.Generator, wavelength: float, waves: int = 8) -> np.ndarray:
    """Evaluate a smooth random function, a sum of waves, at points; it does not depend on their density.

    Args:
        points: ``(axes, ...)`` coordinates, in mm or pixels; 2 or 3 axes.
        rng: Generator for the function.
        wavelength: Typical length of a bump, in the unit of `points`.
        waves: Number of sine waves, of 0.7 to 1.4 times this length.

    Returns:
        float32 of shape ``points.shape[1:]``, mean about 0 and standard deviation about 1, at most ``sqrt(2 * waves)``
        from 0.

    Example:
        >>> points = np.indices((4, 5)).astype("float32")
        >>> smooth_field(points, np.random.default_rng(0), wavelength=10).shape
        (4, 5)
    """
    axes = len(points)
    flat = points.reshape(axes, -1).astype(np.float32)
    total = np.zeros(flat.shape[1], np.float32)
    for _ in range(waves):
        direction = rng.standard_normal(axes)
        direction *= 2 * np.pi / (wavelength * rng.uniform(0.7, 1.4) * np.linalg.norm(direction))
        total += np.sin(direction.astype(np.float32) @ flat + np.float32(rng.uniform(0, 2 * np.pi)))
    return (total * np.float32(np.sqrt(2 / waves))).reshape(points.shape[1:])
