"""Prediction within a budget of memory: estimated before it begins, and cut into sections until it fits."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from miscnn_tf.arguments import byte_count
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.inference import WindowPredictor
from miscnn_tf.processing.prediction_memory import assembling_bytes, most_sections, preparation_bytes
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.resident_memory import PeakWatch, resident_bytes
from miscnn_tf.system_memory import system_memory

logger = logging.getLogger(__name__)

#: What the allocator holds back, Python's own objects and the like: a share of all that is estimated, and bytes.
_SLACK = 0.05
_SLACK_BYTES = 32 * 10**6

#: What is free now is not all taken: other programs go on, and what is written goes through memory too.
_SHARE_OF_FREE = 0.9

#: Of whole images a part of this size along each axis is predicted to learn what the network takes, by their axes.
_PROBE_EDGE = {2: 512, 3: 64}


class MemoryBudget:
    """How much resident memory this process may have while it predicts.

    Args:
        budget: In bytes, or a text such as ``"4GB"``.

    Raises:
        ConfigurationError: If it is no such number, or the system does not say what is resident.

    Example:
        >>> MemoryBudget("4GB").bytes
        4000000000
    """

    def __init__(self, budget: int | str) -> None:
        self.bytes = byte_count(budget, "memory_budget")
        self._said = f"memory_budget={_gb(self.bytes)}"
        self._advice = "Give a larger memory_budget"
        resident_bytes()

    @classmethod
    def of_what_is_free(cls, free: int) -> Self:
        """A budget of what this process has by now and most of what the machine has free.

        Args:
            free: Bytes that are free.
        """
        budget = cls(resident_bytes() + round(_SHARE_OF_FREE * free))
        budget._said = f"this process with the {_gb(free)} that are free on this machine"
        budget._advice = "End other programs"
        return budget

    def require_preparation(
        self, sample: Sample, subfunctions: Sequence[Abstract_Subfunction], kept: bool = False
    ) -> None:
        """Make sure that a sample that was just read can be prepared.

        Args:
            sample: The sample.
            subfunctions: What will be done to it.
            kept: Whether the image that was read stays in memory meanwhile.

        Raises:
            MemoryBudgetError: If it cannot.
        """
        now, steps = resident_bytes(), preparation_bytes(sample, subfunctions, kept)
        needed = _with_slack(now, steps)
        if needed > self.bytes:
            raise MemoryBudgetError(
                f"sample {sample.index!r}: {self._said} does not suffice to prepare the image, "
                f"at least {_gb(needed)} are needed: {_gb(now)} is in memory by now, the subfunctions take {_gb(steps)}"
                f". {self._advice}, or predict in a process that holds nothing else"
            )

    def sections(
        self,
        preprocessor: Preprocessor,
        predictors: Sequence[WindowPredictor],
        sample: Sample,
        activation_output: bool,
        held: int,
    ) -> int:
        """The fewest sections in which the prediction of a prepared sample stays within the budget.

        Args:
            preprocessor: Assembles the prediction.
            predictors: The networks that predict its windows, one after the other.
            sample: The sample after all subfunctions.
            activation_output: Whether probabilities are asked for.
            held: How many predicted windows are in memory at once: see `prediction.windows_held`.

        Raises:
            MemoryBudgetError: If no number of sections is enough.
        """
        now = resident_bytes()  # before the networks are tried, which leaves something behind
        window = preprocessor.boxes().window(sample.img_data.shape[:-1])
        divisor = preprocessor.fullimage_divisor
        # Of several the sum: what each leaves behind, the next one finds there, and was not measured to take.
        network = sum(network_bytes(predictor, window, sample.channels, divisor) for predictor in predictors)
        if _is_mapped(sample.img_data):
            now += sample.img_data.nbytes  # what is read of a file in the store becomes resident
        most = most_sections(preprocessor, sample)
        for sections in range(1, most + 1):
            parts = assembling_bytes(preprocessor, sample, activation_output, held, sections)
            needed = _with_slack(now, network + sum(parts))
            if needed <= self.bytes:
                logger.log(
                    logging.INFO if sections > 1 else logging.DEBUG,
                    "sample %r: predicted in %d section(s) to stay within %s (estimate: %s)",
                    *(sample.index, sections, _gb(self.bytes), _gb(needed)),
                )
                return sections
        advice = "a smaller patch_shape or a coarser Resampling needs less"
        if activation_output:
            advice = "labels (activation_output=False) need much less than the probabilities of all classes"
        raise MemoryBudgetError(
            f"sample {sample.index!r}: {self._said} does not suffice, at least {_gb(needed)} are "
            f"needed: {_gb(now)} is in memory by now, the network takes {_gb(network)}, windows and their sums "
            f"{_gb(parts.windows + parts.sums)}, resampling {_gb(parts.resampling)}, the result {_gb(parts.result)}. "
            f"{self._advice}; {advice}"
        )


def sections_within(
    budget: MemoryBudget | None,
    preprocessor: Preprocessor,
    predictors: Sequence[WindowPredictor],
    sample: Sample,
    activation_output: bool,
    held: int,
) -> int:
    """The fewest sections in which a prediction stays within the budget, or within what the machine has free.

    Args:
        budget: The budget; None: what is free. Where not even the most sections are expected to fit into that, they are
            taken and a warning is logged, because an estimate of what others leave free is no reason to refuse.
        preprocessor: As for `MemoryBudget.sections`, like all that follow.
        predictors: The networks.
        sample: The sample after all subfunctions.
        activation_output: Whether probabilities are asked for.
        held: How many predicted windows are in memory at once: see `prediction.windows_held`.

    Raises:
        MemoryBudgetError: If there is a budget, and no number of sections is enough.
    """
    if budget is not None:
        return budget.sections(preprocessor, predictors, sample, activation_output, held)
    free = system_memory().available
    # The network is not tried where the image is small: it takes a second.
    if free is None or 2 * sum(assembling_bytes(preprocessor, sample, activation_output, held, 1)) <= free:
        return 1
    try:
        return MemoryBudget.of_what_is_free(free).sections(preprocessor, predictors, sample, activation_output, held)
    except MemoryBudgetError as error:
        logger.warning("%s. It is tried nevertheless", error)
        return most_sections(preprocessor, sample)


def network_bytes(
    predictor: WindowPredictor, window: Sequence[int], channels: int, divisor: int | Sequence[int] = 1
) -> int:
    """What the network takes to predict a batch of windows of this shape: measured, once for each shape of windows.

    Args:
        predictor: The network.
        window: Spatial shape of the windows. For whole images, of whatever size, one part is predicted, and larger ones
            are reckoned in proportion.
        channels: Channels of the image.
        divisor: What the part's sizes have to be multiples of.
    """
    part = tuple(window)
    if None in predictor.window_shape:
        divisors = (divisor,) * len(part) if isinstance(divisor, int) else divisor
        part = tuple(-(-_PROBE_EDGE[len(part)] // each) * each for each in divisors)
    if part not in predictor.measured_bytes:
        images = [np.zeros((*part, channels), np.float32)] * predictor.batch_size
        with PeakWatch() as watch:
            for _ in range(2):  # the first prediction makes what stays, which the second finds there
                for _ in predictor(images):
                    pass
        predictor.measured_bytes[part] = watch.growth
    return round(predictor.measured_bytes[part] * max(1.0, math.prod(window) / math.prod(part)))


def _is_mapped(array: np.ndarray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _with_slack(now: int, more: int) -> int:
    return round(now + more * (1 + _SLACK)) + _SLACK_BYTES


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
