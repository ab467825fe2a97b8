"""Draw parameters with the distributions of batchgenerators' transforms, from a given generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Two numbers, the lower one first.
Range = Sequence[float]


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Draw True with this probability."""
    return bool(rng.random() < probability)


def uniform(rng: np.random.Generator, limits: Range) -> float:
    """Draw a number uniformly between the two limits."""
    low, high = limits
    return float(low + (high - low) * rng.random())


def around_one(rng: np.random.Generator, limits: Range) -> float:
    """Draw a factor: half of the draws are below 1, half above, each half uniform within the limits.

    This is how batchgenerators draws scaling, contrast and gamma: (0.3, 3.0) enlarges as often as it reduces. If both
    limits are on the same side of 1, the draw is uniform between them.

    Example:
        >>> 0.5 <= around_one(np.random.default_rng(0), (0.5, 2.0)) <= 2.0
        True
    """
    low, high = limits
    if low >= 1 or high <= 1:
        return uniform(rng, limits)
    return uniform(rng, (low, 1.0) if rng.random() < 0.5 else (1.0, high))


def factors(
    rng: np.random.Generator, limits: Range, channels: int, per_channel: bool, centred: bool
) -> tuple[float, ...]:
    """Draw a factor for each channel, or one for all of them.

    Args:
        rng: Source of the random numbers.
        limits: Lowest and highest factor.
        channels: Number of channels.
        per_channel: Draw a factor for each channel.
        centred: Draw with `around_one` rather than uniformly.
    """
    draw = around_one if centred else uniform
    if per_channel:
        return tuple(draw(rng, limits) for _ in range(channels))
    return (draw(rng, limits),) * channels


def seed(rng: np.random.Generator) -> int:
    """Draw the seed of an array of random numbers, which is generated when the augmentation is applied."""
    return int(rng.integers(2**63))
