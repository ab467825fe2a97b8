"""Aggregation of the predictions of several models."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from miscnn_tf.data_loading.labels import check_labels, decide_labels, label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.registry import Registry

#: ``aggregation_func(sample, [prediction, …]) -> prediction``
AggregationFunction = Callable[[Sample, Sequence[np.ndarray]], np.ndarray]

#: Aggregation functions by name; ``aggregations.register("name", function)`` adds your own.
aggregations: Registry[AggregationFunction] = Registry("aggregation function", "miscnn_tf.aggregations")


class Aggregation(ABC):
    """Base class of aggregation functions that declare their input, so that nothing else is made for them.

    Attributes:
        takes_probabilities: Whether it takes class probabilities; labels otherwise. A plain function gets the output
            that the group is asked for: labels, or with ``activation_output=True`` probabilities.
    """

    takes_probabilities = False

    @abstractmethod
    def __call__(
        self, sample: Sample, predictions: Sequence[np.ndarray], activation_output: bool = False
    ) -> np.ndarray:
        """Return one prediction.

        Args:
            sample: The predicted sample.
            predictions: One array per member, on the grid of the original image: labels ``(x, y[, z])`` or
                probabilities ``(x, y[, z], classes)``.
            activation_output: Return probabilities instead of labels.
        """


class Mean(Aggregation):
    """The mean of the class probabilities, as in deep ensembles; of equally probable classes the lowest is chosen.

    A group does not call it with the members' predictions, which would all be in memory: it averages them while they
    are made.

    Reference:
        Lakshminarayanan, Pritzel, Blundell: Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
        NeurIPS 2017, arXiv 1612.01474.

    Example:
        >>> first, second = np.array([[[0.6, 0.4]]], np.float32), np.array([[[0.1, 0.9]]], np.float32)
        >>> Mean()(None, [first, second])
        array([[1]], dtype=uint8)
    """

    takes_probabilities = True

    def __call__(
        self, sample: Sample, predictions: Sequence[np.ndarray], activation_output: bool = False
    ) -> np.ndarray:
        """Return the mean of probabilities ``(x, y[, z], classes)``, or its labels."""
        total = running_mean(iter(predictions))
        if activation_output:
            return total
        return decide_labels(total) if sample is None else sample.scheme.decide(total)


class Majority(Aggregation):
    """The label with the most votes; of labels with equally many votes the lowest one.

    Two members that disagree give the lower label, which is background if one of them voted for it.

    With ``activation_output=True`` it gives the share of the votes of each class.

    Example:
        >>> votes = [np.array([[0, 1, 2]]), np.array([[0, 2, 2]]), np.array([[1, 2, 0]])]
        >>> sample = Sample("a", np.zeros((1, 3)), channels=1, classes=3)
        >>> Majority()(sample, votes)
        array([[0, 2, 2]], dtype=uint8)
    """

    def __call__(
        self, sample: Sample, predictions: Sequence[np.ndarray], activation_output: bool = False
    ) -> np.ndarray:
        """Return labels ``(x, y[, z])``, or the votes' shares ``(x, y[, z], classes)`` as float32."""
        if activation_output:
            sample.scheme.require_classes("the share of votes for each class")
        classes, shape = sample.classes, predictions[0].shape
        result: np.ndarray = (
            np.empty((*shape, classes), np.float32) if activation_output else np.empty(shape, label_dtype(classes))
        )
        # Plane by plane: the votes of the whole image would be as large as its probabilities.
        for row in range(shape[0]):
            votes = np.zeros((classes, *shape[1:]), np.uint16)
            for labels in predictions:
                plane = np.asarray(labels[row])
                for number, of_class in enumerate(votes):
                    of_class += plane == number
            if activation_output:
                result[row] = np.moveaxis(votes, 0, -1) / np.float32(len(predictions))
            else:
                result[row] = votes.argmax(axis=0)
        return result


def running_mean(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of arrays that come one by one; one of them and the sum are in memory at once.

    Example:
        >>> running_mean(np.full(2, value, np.float32) for value in (1, 2, 6))
        array([3., 3.], dtype=float32)
    """
    total: np.ndarray | None = None
    number = 0
    for array in arrays:
        number += 1
        if total is None:
            total = np.array(array, np.float32)  # a copy: the array may belong to the caller
        else:
            total += array
        del array  # otherwise it stays in memory until the next one is made
    if total is None:
        raise ConfigurationError("there is nothing to average: the group has no members")
    total /= np.float32(number)
    return total


def find_aggregation(aggregation_func: str | AggregationFunction) -> AggregationFunction:
    """Return the function with a name, or the function itself.

    Raises:
        ConfigurationError: If the name is not known, or the function cannot be called.

    Example:
        >>> find_aggregation("majority")  # doctest: +ELLIPSIS
        <miscnn_tf.multi_model.aggregation.Majority object at ...>
    """
    if isinstance(aggregation_func, str):
        return aggregations.get(aggregation_func)
    if isinstance(aggregation_func, type) or not callable(aggregation_func):
        raise ConfigurationError(
            f"aggregation_func={aggregation_func!r} must be one of {', '.join(map(repr, aggregations.names()))}, or a "
            "function of (sample, [prediction, …])"
        )
    return aggregation_func


def wants_probabilities(function: AggregationFunction, activation_output: bool) -> bool:
    """Return whether an aggregation function gets class probabilities."""
    return function.takes_probabilities if isinstance(function, Aggregation) else activation_output


def aggregate(
    function: AggregationFunction, sample: Sample, predictions: Sequence[np.ndarray], activation_output: bool
) -> np.ndarray:
    """Call an aggregation function, and check its result.

    Raises:
        DataError: If that is not a prediction of this image.
    """
    if isinstance(function, Aggregation):
        return function(sample, predictions, activation_output)
    name = function.__name__ if inspect.isroutine(function) else type(function).__name__
    where = f"sample {sample.index!r}: the result of the aggregation function {name}"
    result = np.asarray(function(sample, predictions))
    shape = predictions[0].shape
    if not activation_output and result.shape == (*shape, 1):
        result = result[..., 0]
    if result.shape != shape:
        raise DataError(f"{where} has the shape {result.shape}, the predictions {shape}; return one array like them")
    result = result.astype(np.float32, copy=False) if activation_output else check_labels(result, sample.classes, where)
    # In memory: the members' predictions are in files that are deleted.
    given = any(np.may_share_memory(result, prediction) for prediction in predictions)
    return np.array(result) if given else result


aggregations.register("mean", Mean())
aggregations.register("majority", Majority())
