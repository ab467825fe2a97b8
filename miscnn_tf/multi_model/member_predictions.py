"""Predictions of the members of a group for one image: prepared once, and never all in memory."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import (
    atomic_path,
    make_folder,
    remove_abandoned_temporaries,
    temporary_beside,
)
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.multi_model.aggregation import running_mean
from miscnn_tf.neural_network.memory_budget import MemoryBudget, assemble_within
from miscnn_tf.processing.assembling import weighted
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.segmenter import PatchSegmenter, Prepare, Segmenter


class MemberPredictions:
    """The members' predictions of one image.

    Args:
        models: The members.
        index: Name of the sample; None for an image that belongs to no data set.
        prepare: Prepares the sample for a preprocessor; it is called once for each preprocessor.
        budget: Memory limit for `mean`.
    """

    def __init__(
        self, models: Sequence[Any], index: Hashable | None, prepare: Prepare, budget: MemoryBudget | None = None
    ) -> None:
        self.models = models
        self.index = index
        self.budget = budget
        self._prepare = prepare
        self._latest: tuple[Preprocessor, Sample] | None = None

    def prepared(self, preprocessor: Preprocessor) -> Sample:
        """Return the sample as the subfunctions of a preprocessor leave it."""
        if self._latest is None or self._latest[0] is not preprocessor:
            self._latest = None  # one at a time: samples are large
            self._latest = preprocessor, self._prepare(preprocessor)
        return self._latest[1]

    def mean(self, activation_output: bool, threshold: float | None = None) -> np.ndarray:
        """Compute the mean of the members' class probabilities, or its labels.

        Networks on one preprocessor are averaged patch by patch: that takes the memory of one network's prediction,
        whatever their number, and the label is decided after the mean was resampled, slab by slab; logits are averaged
        if their plan says so. Of other models the probabilities are averaged, as in nnU-Net's ensembles: the sum and
        one member's probabilities on the original grid are held.

        Args:
            activation_output: Class probabilities instead of labels.
            threshold: Decides labels: see `miscnn_tf.processing.assembling.weighted`.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.

        Raises:
            ConfigurationError: If there is a budget, but the members cannot be averaged patch by patch.
            MemoryBudgetError: If the budget is too small.
        """
        networks = [model for model in self.models if isinstance(model, PatchSegmenter)]
        alike = len(networks) == len(self.models) and len(_distinct(networks)) == 1
        # Networks of several depths pad whole images differently.
        if alike and all(network.plan == networks[0].plan for network in networks):
            return self._mean_of_patches(networks, activation_output, threshold)
        if self.budget is not None:
            raise ConfigurationError(
                "memory_budget is for groups of networks that share one preprocessor: they are averaged patch by "
                "patch, others hold the probabilities of the whole image; leave it out"
            )
        # A generator's variable would hold each prediction until the next one is made.
        mean = running_mean(map(itemgetter(1), self.each(activation_output=True)))
        if activation_output:
            return mean
        scheme = scheme_of(self.models[0].preprocessor.data_io.interface)
        (mean,) = weighted(iter([mean]), threshold, scheme)
        return scheme.decide(mean)

    def _mean_of_patches(
        self, networks: Sequence[PatchSegmenter], activation_output: bool, threshold: float | None
    ) -> np.ndarray:
        preprocessor = networks[0].preprocessor
        sample = self.prepared(preprocessor)

        def patches(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            means = _means([network.predict_patches(sample, numbers) for network in networks])
            return weighted(means, threshold, sample.scheme, plan.averages_logits)

        streams = [(network.patch_predictor(), network.views(sample.ndim)) for network in networks]
        plan, steps = networks[0].plan, preprocessor.subfunctions
        return assemble_within(self.budget, plan, steps, streams, sample, patches, activation_output)

    def each(self, activation_output: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the position and prediction of each member; members on one preprocessor follow each other."""
        for preprocessor in _distinct(self.models):
            for position, model in enumerate(self.models):
                if model.preprocessor is preprocessor:
                    yield position, self._of_member(model, activation_output)

    @contextmanager
    def on_disk(self, folder: Path, activation_output: bool) -> Iterator[list[np.ndarray]]:
        """Write all predictions to files, and provide memory maps of them in the members' order inside the block.

        Args:
            folder: The group's folder; the files go to a folder of their own in it.
            activation_output: Class probabilities instead of labels.

        Raises:
            StorageError: If the folder cannot be written, or the disk is full.
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
                with suppress(OSError):  # other files are in it now
                    each.rmdir()

    def _of_member(self, model: Any, activation_output: bool) -> np.ndarray:
        if isinstance(model, Segmenter):
            return model.segment(self.prepared, activation_output, self.index)
        if self.index is None:
            raise ConfigurationError(
                f"a {type(model).__name__} in the group predicts samples of its data set only, not single files and "
                "arrays; use predict()"
            )
        answer = model.predict([self.index], return_output=True, activation_output=activation_output)
        if not answer:
            raise ConfigurationError(
                f"{type(model).__name__}.predict(…, return_output=True) must return a list of arrays; got {answer!r}"
            )
        return np.asarray(answer[0])


def _means(streams: Sequence[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield the means of the first arrays, of the second ones, …; each is made when it is added."""
    first, *others = streams
    for patch in first:
        yield running_mean(chain([patch], (next(other) for other in others)))


def _distinct(models: Sequence[Any]) -> list[Preprocessor]:
    """Return the preprocessors of the models, each once."""
    return list({id(model.preprocessor): model.preprocessor for model in models}.values())
