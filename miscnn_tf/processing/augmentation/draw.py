"""Drawing parameters as batchgenerators' transforms draw them, from a generator that is passed in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Two numbers, the lower one first.
Range = Sequence[float]


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Whether something that has this probability is to be done."""
    return bool(rng.random() < probability)


def uniform(rng: np.random.Generator, limits: Range) -> float:
    """A number that is uniform between the two limits."""
    low, high = limits
    return float(low + (high - low) * rng.random())


def around_one(rng: np.random.Generator, limits: Range) -> float:
    """A factor: half of the draws lie below 1, half above, each half uniform within the limits.

    So batchgenerators draws scaling, contrast and gamma: (0.3, 3.0) enlarges as often as it reduces. Where the limits
    lie on one side of 1, the draw is uniform between them.

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
    """A factor for each channel, or the same for all of them.

    Args:
        rng: Where the numbers come from.
        limits: Least and greatest factor.
        channels: Number of channels.
        per_channel: Whether each channel gets a factor of its own.
        centred: Whether to draw with `around_one` rather than uniformly.
    """
    draw = around_one if centred else uniform
    if per_channel:
        return tuple(draw(rng, limits) for _ in range(channels))
    return (draw(rng, limits),) * channels


def seed(rng: np.random.Generator) -> int:
    """A seed for a field of random numbers, so that a plan stays a few numbers until it is applied."""
    return int(rng.integers(2**63))
