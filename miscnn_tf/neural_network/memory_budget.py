"""Prediction within a budget of memory: it is estimated before it begins, and split into sections until it fits."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Self

import numpy as np

from miscnn_tf._base.arguments import byte_count
from miscnn_tf._machine.resident_memory import PeakWatch, resident_bytes
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.processing.assembling import assemble, assembling_bytes, most_sections, preparation_bytes
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preparation import complete, run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.segmenter import Predictor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: Allowance for allocator overhead and Python objects: a fraction of the estimate plus a fixed number of bytes.
_SLACK = 0.05
_SLACK_BYTES = 32 * 10**6

#: Not all free memory is taken: other programs go on, and written files go through memory too.
_SHARE_OF_FREE = 0.9

#: Size of the part of whole images that is predicted to measure the network's memory, by their number of axes.
_PROBE_EDGE = {2: 512, 3: 64}


class MemoryBudget:
    """A limit of this process' resident memory while it predicts.

    Args:
        budget: In bytes, or a text such as ``"4GB"``.

    Raises:
        ConfigurationError: If `budget` is not such a number, or the system does not report resident memory.

    Example:
        >>> MemoryBudget("4GB").bytes
        4000000000
    """

    def __init__(self, budget: int | str) -> None:
        self.bytes = byte_count(budget, "memory_budget")
        self._name = f"memory_budget={_gb(self.bytes)}"
        self._advice = "Give a larger memory_budget"
        resident_bytes()

    @classmethod
    def of_what_is_free(cls, free: int) -> Self:
        """Return a budget of this process' present memory and most of the machine's free memory.

        Args:
            free: Free bytes.
        """
        budget = cls(resident_bytes() + round(_SHARE_OF_FREE * free))
        budget._name = f"this process with the {_gb(free)} that are free on this machine"
        budget._advice = "End other programs"
        return budget

    def require_preparation(
        self, sample: Sample, subfunctions: Sequence[Abstract_Subfunction], kept: bool = False
    ) -> None:
        """Require that the budget is enough to prepare a sample that was just read.

        Args:
            sample: The sample.
            subfunctions: The steps.
            kept: Whether the image that was read stays in memory meanwhile.

        Raises:
            MemoryBudgetError: If it is not.
        """
        now, steps = resident_bytes(), preparation_bytes(sample, subfunctions, kept)
        needed = _with_slack(now, steps)
        if needed > self.bytes:
            raise MemoryBudgetError(
                f"sample {sample.index!r}: {self._name} does not suffice to prepare the image, "
                f"at least {_gb(needed)} are needed: {_gb(now)} is in memory by now, the subfunctions take {_gb(steps)}"
                f". {self._advice}, or predict in a process that holds nothing else"
            )

    def sections(
        self,
        plan: PatchPlan,
        steps: Sequence[Abstract_Subfunction],
        predictors: Sequence[Predictor],
        sample: Sample,
        activation_output: bool,
        held: int,
    ) -> int:
        """Return the fewest sections in which the prediction of a prepared sample stays within the budget.

        Args:
            plan: Settings of the patches.
            steps: The subfunctions.
            predictors: The networks that predict its patches, one after the other.
            sample: The sample after all subfunctions.
            activation_output: Whether probabilities are asked for.
            held: Number of predicted patches in memory at once: see `patches_held`.

        Raises:
            MemoryBudgetError: If no number of sections is enough.
        """
        now = resident_bytes()  # before the networks are tried, which take memory that stays
        shape = plan.patch_shape_for(sample.img_data.shape[:-1])
        # Of several the sum: memory that one network leaves behind is there for the next one, and was not measured.
        network = sum(network_bytes(predictor, shape, sample.input_channels, plan.divisors) for predictor in predictors)
        if _is_mapped(sample.img_data):
            now += sample.img_data.nbytes  # what is read of a file in the store becomes resident
        most = most_sections(plan, sample)
        for sections in range(1, most + 1):
            parts = assembling_bytes(plan, steps, sample, activation_output, held, sections)
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
            f"sample {sample.index!r}: {self._name} does not suffice, at least {_gb(needed)} are "
            f"needed: {_gb(now)} is in memory by now, the network takes {_gb(network)}, patches and their sums "
            f"{_gb(parts.windows + parts.sums)}, resampling {_gb(parts.resampling)}, the result {_gb(parts.result)}. "
            f"{self._advice}; {advice}"
        )


def prepared_sample(preprocessor: Preprocessor, index: Hashable, budget: MemoryBudget | None = None) -> Sample:
    """Return a sample of the data set after all subfunctions, without a label map.

    Args:
        preprocessor: Prepares the sample.
        index: The sample's name.
        budget: Memory limit.
    """

    def check(sample: Sample) -> None:
        if budget is not None:
            budget.require_preparation(sample, preprocessor.subfunctions)

    # Most samples are predicted once: keeping them in memory would only fill it.
    keep = preprocessor.prepare_subfunctions
    return preprocessor.prepare_sample_subfunctions(index, training=False, keep=keep, loaded=check)


def prepare_image(
    sample: Sample, subfunctions: Sequence[Abstract_Subfunction], budget: MemoryBudget | None, kept: bool = False
) -> None:
    """Run the subfunctions over an image that belongs to no data set.

    Args:
        sample: The image, which is changed.
        subfunctions: The steps.
        budget: Memory limit.
        kept: Whether the image that was read stays in memory meanwhile.
    """
    if budget is not None:
        budget.require_preparation(sample, subfunctions, kept)
    run_subfunctions(sample, subfunctions, training=False)
    with memory_for(sample.index, "preparing it", lambda: sample.img_data.shape):
        complete(sample)


def assemble_within(
    budget: MemoryBudget | None,
    plan: PatchPlan,
    steps: Sequence[Abstract_Subfunction],
    streams: Sequence[tuple[Predictor, int]],
    sample: Sample,
    patches: Callable[[Sequence[int]], Iterator[np.ndarray]],
    activation_output: bool,
) -> np.ndarray:
    """Predict a prepared sample in the fewest sections that stay within the budget.

    Args:
        budget: Memory limit; None for what the machine has free.
        plan: Settings of the patches.
        steps: The subfunctions.
        streams: The networks that predict the patches, each with the number of predictions averaged for each patch.
        sample: The sample after all subfunctions.
        patches: Makes class probabilities of the patches with the given numbers of the grid.
        activation_output: Return class probabilities instead of labels.

    Returns:
        Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.

    Raises:
        MemoryBudgetError: If there is a budget, and no number of sections is enough.
    """
    held = patches_held([(predictor.batch_size, views) for predictor, views in streams])
    predictors = [predictor for predictor, _ in streams]
    sections = sections_within(budget, plan, steps, predictors, sample, activation_output, held)
    logits = plan.averages_logits
    return assemble(sample, patches, plan, steps, activation_output, sections=sections, logits=logits)


def sections_within(
    budget: MemoryBudget | None,
    plan: PatchPlan,
    steps: Sequence[Abstract_Subfunction],
    predictors: Sequence[Predictor],
    sample: Sample,
    activation_output: bool,
    held: int,
) -> int:
    """Return the fewest sections in which a prediction stays within the budget, or within the machine's free memory.

    Args:
        budget: The budget; None for the free memory. If not even the most sections are expected to fit into that, they
            are taken and a warning is logged, because an estimate of free memory is not a reason to refuse.
        plan: As for `MemoryBudget.sections`, like all that follow.
        steps: The subfunctions.
        predictors: The networks.
        sample: The sample after all subfunctions.
        activation_output: Whether probabilities are asked for.
        held: Number of predicted patches in memory at once: see `patches_held`.

    Raises:
        MemoryBudgetError: If there is a budget, and no number of sections is enough.
    """
    if budget is not None:
        return budget.sections(plan, steps, predictors, sample, activation_output, held)
    free = system_memory().available
    # The network is not tried if the image is small: that takes a second.
    if free is None or 2 * sum(assembling_bytes(plan, steps, sample, activation_output, held, 1)) <= free:
        return 1
    try:
        return MemoryBudget.of_what_is_free(free).sections(plan, steps, predictors, sample, activation_output, held)
    except MemoryBudgetError as error:
        logger.warning("%s. Trying anyway", error)
        return most_sections(plan, sample)


def patches_held(streams: Sequence[tuple[int, int]]) -> int:
    """Return the number of predicted patches in memory at once, beside the batch that is being made.

    Args:
        streams: For each network the patches of its batches, and the number of predictions averaged for each patch.

    Example:
        >>> patches_held([(1, 1)]), patches_held([(2, 4)]), patches_held([(2, 4), (1, 1)])
        (1, 3, 6)
    """
    # The last batch, of which a view is kept as a part, and of flipped patches the next sum.
    held = sum(batch_size + (views > 1) for batch_size, views in streams)
    # Of several networks the mean so far, and the patch that is added to it.
    return held + 2 * (len(streams) > 1)


def network_bytes(predictor: Predictor, patch_shape: Sequence[int], channels: int, divisors: Sequence[int] = ()) -> int:
    """Return the memory that the network takes to predict a batch: measured, once for each shape of patches.

    Args:
        predictor: The network.
        patch_shape: Spatial shape of the patches. For whole images, of any size, one part is predicted, and larger ones
            are computed in proportion.
        channels: Channels of the image.
        divisors: The part's sizes are multiples of these; empty: of any size.
    """
    part = tuple(patch_shape)
    if None in predictor.patch_shape:
        part = tuple(-(-_PROBE_EDGE[len(part)] // each) * each for each in divisors or (1,) * len(part))
    if part not in predictor.measured_bytes:
        images = [np.zeros((*part, channels), np.float32)] * predictor.batch_size
        with PeakWatch() as watch:
            for _ in range(2):  # the first prediction makes what stays, which the second finds there
                for _ in predictor(images):
                    pass
        predictor.measured_bytes[part] = watch.growth
    return round(predictor.measured_bytes[part] * max(1.0, math.prod(patch_shape) / math.prod(part)))


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
