"""Which item stands where in which batch: a pure function of seed, epoch and step, so that workers cannot change it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

#: Keeps the streams of random numbers for different purposes apart.
_ORDER, _ITEM = 0, 1


@dataclass(frozen=True)
class Share:
    """The part of every batch that this process works on, where several devices or machines train one network.

    A batch is cut into contiguous parts, one per device; where they cannot be equal, the first ones have one item more.

    Args:
        of: Number of parts.
        first: The first part that is this process'.
        parts: How many are.

    Example:
        >>> [list(part) for part in Share(of=3, first=1, parts=2).split(4)]
        [[2], [3]]
    """

    of: int = 1
    first: int = 0
    parts: int = 1

    def split(self, size: int) -> list[range]:
        """The places in a batch of `size` items of each of this process' parts."""
        borders = [part * (size // self.of) + min(part, size % self.of) for part in range(self.of + 1)]
        return [range(borders[part], borders[part + 1]) for part in range(self.first, self.first + self.parts)]

    def places(self, size: int) -> range:
        """The places of all of this process' parts."""
        each = self.split(size)
        return range(each[0].start, each[-1].stop)


class Schedule:
    """The order of training items over epochs.

    Without `iterations`, an epoch goes once through all items, and its last batch is filled up from its beginning. With
    `iterations`, an epoch is that many batches, and the items follow each other over the epochs' borders, so that each
    is used equally often.

    Args:
        items: Number of items (samples × cycles, or patches).
        batch_size: Items per batch.
        iterations: Batches per epoch; None for as many as the items need.
        shuffle: Whether the order is drawn anew for each pass.
        seed: Seed of everything drawn.
        full: Whether the last batch is filled up.

    Example:
        >>> schedule = Schedule(10, 4)
        >>> [schedule.batch(0, step) for step in range(len(schedule))]
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    """

    def __init__(
        self,
        items: int,
        batch_size: int,
        iterations: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        full: bool = True,
    ) -> None:
        self.items = items
        self.batch_size = batch_size
        self.iterations = iterations
        self.shuffle = shuffle
        self.seed = seed
        self.full = full

    def __len__(self) -> int:
        return -(-self.items // self.batch_size) if self.iterations is None else self.iterations

    def batch(self, epoch: int, step: int) -> list[int]:
        """The numbers of the items in batch `step` of `epoch`."""
        first = step * self.batch_size
        if self.iterations is not None:
            first += epoch * self.iterations * self.batch_size
            places = [divmod(first + k, self.items) for k in range(self.batch_size)]
        else:
            stop = first + self.batch_size
            if not self.full:
                stop = min(stop, self.items)
            places = [(epoch, place % self.items) for place in range(first, stop)]
        return [int(self._order(round_)[place]) for round_, place in places]

    def generator(self, epoch: int, step: int, place: int) -> np.random.Generator:
        """The random generator for the item at `place` of batch `step` of `epoch`."""
        return np.random.default_rng([_ITEM, self.seed, epoch, step, place])

    def _order(self, round_: int) -> np.ndarray | range:
        return _permutation(self.seed, round_, self.items) if self.shuffle else range(self.items)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, round_: int, items: int) -> np.ndarray:
    return np.random.default_rng([_ORDER, seed, round_]).permutation(items)
