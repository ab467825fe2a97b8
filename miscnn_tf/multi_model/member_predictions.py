"""What the members of a group predict for one image: prepared once, and never all in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.storage import (
    atomic_path,
    make_folder,
    remove_abandoned_temporaries,
    temporary_beside,
)
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.multi_model.aggregation import running_mean
from miscnn_tf.processing.one_hot import decide_labels
from miscnn_tf.processing.preprocessor import Preprocessor

if TYPE_CHECKING:
    from miscnn_tf.neural_network.memory_budget import MemoryBudget

#: Makes the sample as the subfunctions of a preprocessor leave it.
Prepare = Callable[[Preprocessor], Sample]


class MemberPredictions:
    """The members' predictions of one image.

    Args:
        models: The members.
        index: Name of the sample; None for an image that belongs to no data set.
        prepare: Makes the prepared sample for a preprocessor; it is called once for each preprocessor.
        of_group: Where `index` is None: what a member that is a group predicts for the image, given the group and
            whether probabilities are wanted.
        budget: The memory that `mean` has to stay within.
    """

    def __init__(
        self,
        models: Sequence[Any],
        index: Hashable | None,
        prepare: Prepare,
        of_group: Callable[[Any, bool], np.ndarray] | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.models = models
        self.index = index
        self.prepare = prepare
        self.of_group = of_group
        self.budget = budget

    def mean(self, activation_output: bool) -> np.ndarray:
        """The mean of the members' class probabilities, or the labels that it decides for.

        Networks on one preprocessor are averaged window by window: that takes the memory of one network's prediction,
        whatever their number, and the label is decided after the mean was resampled, slab by slab. Of other models the
        sum and one member's probabilities on the original grid are held.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.

        Raises:
            ConfigurationError: If there is a budget, but the members cannot be averaged window by window.
            MemoryBudgetError: If the budget is too small.
        """
        preprocessors = _distinct(self.models)
        if len(preprocessors) == 1 and all(hasattr(model, "predict_windows") for model in self.models):
            preprocessor = preprocessors[0]
            sample = self.prepare(preprocessor)
            divisors = set()
            for model in self.models:
                model.windows(sample)  # sets it
                divisors.add(preprocessor.fullimage_divisor)
            # Networks of several depths pad whole images differently.
            if len(divisors) == 1 or preprocessor.analysis != "fullimage":
                return self._mean_of_windows(preprocessor, sample, activation_output)
        if self.budget is not None:
            raise ConfigurationError(
                "memory_budget is for groups of networks that share one preprocessor: they are averaged window by "
                "window, others hold the probabilities of the whole image; leave it out"
            )
        # A generator's variable would hold each prediction until the next one is made.
        mean = running_mean(map(itemgetter(1), self.each(activation_output=True)))
        return mean if activation_output else decide_labels(mean)

    def _mean_of_windows(self, preprocessor: Preprocessor, sample: Sample, activation_output: bool) -> np.ndarray:
        """The mean, window by window, in as many sections as keep the budget."""
        # Its floor starts TensorFlow, which networks have done.
        from miscnn_tf.neural_network.memory_budget import sections_within
        from miscnn_tf.neural_network.prediction import windows_held

        def windows(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            return _means([model.predict_windows(sample, numbers) for model in self.models])

        predictors = [model.window_predictor() for model in self.models]
        batch_sizes = [predictor.batch_size for predictor in predictors]
        held = windows_held(list(zip(batch_sizes, [model.views(sample.ndim) for model in self.models], strict=True)))
        sections = sections_within(self.budget, preprocessor, predictors, sample, activation_output, held)
        return preprocessor.assemble(sample, windows, activation_output, sections=sections)

    def each(self, activation_output: bool) -> Iterator[tuple[int, np.ndarray]]:
        """The position and prediction of each member, one by one; members on one preprocessor follow each other."""
        for preprocessor in _distinct(self.models):
            sample: Sample | None = None
            for position, model in enumerate(self.models):
                if model.preprocessor is not preprocessor:
                    continue
                if hasattr(model, "predict_windows"):
                    sample = sample or self.prepare(preprocessor)
                    yield position, preprocessor.assemble(sample, model.predict_windows(sample), activation_output)
                else:
                    yield position, self._of_other_model(model, activation_output)

    @contextmanager
    def on_disk(self, folder: Path, activation_output: bool) -> Iterator[list[np.ndarray]]:
        """All members' predictions in the members' order, as memory maps of files that are gone after the block.

        Args:
            folder: The group's folder; the files go to a folder of their own in it.
            activation_output: Class probabilities instead of labels.

        Raises:
            StorageError: If the folder cannot be written, or has no room for them.
        """
        above = [folder, *folder.parents]
        new = [each for each in above if not each.exists()]
        remove_abandoned_temporaries(folder)
        own = make_folder(temporary_beside(folder / "members"))
        maps: list[np.ndarray] = [np.empty(0)] * len(self.models)
        try:
            for position, prediction in self.each(activation_output):
                file = own / f"member_{position}.npy"
                with atomic_path(file, durable=False) as temporary:
                    np.save(temporary, prediction)
                del prediction
                maps[position] = np.load(file, mmap_mode="r")
            yield maps
        finally:
            maps.clear()
            shutil.rmtree(own, ignore_errors=True)
            for each in new:
                with suppress(OSError):  # something else is in it by now
                    each.rmdir()

    def _of_other_model(self, model: Any, activation_output: bool) -> np.ndarray:
        if self.index is None and self.of_group is not None and hasattr(model, "predict_image"):
            return self.of_group(model, activation_output)
        if self.index is None:
            raise ConfigurationError(
                f"a {type(model).__name__} in the group predicts samples of its data set only, not single files and "
                "arrays; use predict()"
            )
        answer = model.predict([self.index], return_output=True, activation_output=activation_output)
        if not answer:
            raise ConfigurationError(
                f"{type(model).__name__}.predict(…, return_output=True) has to return a list of arrays; got {answer!r}"
            )
        return np.asarray(answer[0])


def _means(streams: Sequence[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """The means of the first arrays, of the second ones, …; each is made when it is added."""
    first, *others = streams
    for window in first:
        yield running_mean(chain([window], (next(other) for other in others)))


def _distinct(models: Sequence[Any]) -> list[Preprocessor]:
    """The preprocessors of the models, each once."""
    return list({id(model.preprocessor): model.preprocessor for model in models}.values())
