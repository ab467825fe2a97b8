"""A step that is applied to a sample before the network, and undone on the prediction after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from miscnn_tf.configuration import plain
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.labels import decide_labels

__all__ = ["Abstract_Subfunction", "decide_labels"]


class Abstract_Subfunction(ABC):
    """Base class of all subfunctions; subclass it to write a step of your own.

    A subfunction keeps no state about a sample in itself: what it needs to undo its work it stores with `remember`, and
    gets it back with `recall`. It keeps each constructor argument in an attribute of the same name, so that it can be
    written into a model file.

    Attributes:
        acts_on_activation: Whether `postprocessing` also takes class probabilities on the way to labels. Steps that
            do nothing afterwards, or crop or resample, say True; a step that expects labels leaves it False.
        interpolates: Whether `postprocessing` resamples. The label decision then waits until this step has resampled
            the probabilities (see `postprocess_to_labels`), which is more exact than resampling labels.

    Example:
        >>> class Invert(Abstract_Subfunction):
        ...     def preprocessing(self, sample, training=True):
        ...         sample.img_data = -sample.img_data
    """

    acts_on_activation: bool = False
    interpolates: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class that undoes nothing may stand anywhere in the chain of class probabilities.
        if cls.postprocessing is Abstract_Subfunction.postprocessing and "acts_on_activation" not in cls.__dict__:
            cls.acts_on_activation = True

    @abstractmethod
    def preprocessing(self, sample: Sample, training: bool = True) -> None:
        """Change ``sample.img_data`` (and ``sample.seg_data`` where it is not None) in place.

        Assign new arrays: ``sample.img_data`` may be read-only or shared.

        Args:
            sample: The sample, channels-last.
            training: Whether a label map is to be processed too.
        """

    def postprocessing(self, sample: Sample, prediction: np.ndarray, activation_output: bool = False) -> np.ndarray:
        """Undo the step on a prediction; by default there is nothing to undo.

        Args:
            sample: The sample as `preprocessing` left it.
            prediction: Labels ``(x, y[, z])``; class probabilities ``(x, y[, z], classes)`` with `activation_output`.
            activation_output: Which of the two `prediction` is.

        Returns:
            The prediction on the grid that the sample had before this step.
        """
        return prediction

    def postprocess_to_labels(self, sample: Sample, activation: np.ndarray) -> np.ndarray:
        """Turn class probabilities on this step's grid into labels on the grid before it.

        The default decides first and then undoes the step on labels. Steps that resample do it the other way round.
        """
        labels = decide_labels(activation)
        return self.postprocessing(sample, labels, activation_output=False)

    def remember(self, sample: Sample, **facts: Any) -> None:
        """Store with the sample what `postprocessing` will need (plain data: numbers, strings, lists)."""
        sample.history.append({"step": type(self).__name__, **plain(facts)})

    def recall(self, sample: Sample) -> dict[str, Any]:
        """What this class remembered last for the sample.

        Raises:
            DataError: If the sample never went through `preprocessing`.
        """
        for record in reversed(sample.history):
            if record["step"] == type(self).__name__:
                return record
        raise DataError(
            f"sample {sample.index!r} was not preprocessed by {type(self).__name__}, so there is nothing to undo; "
            "hand the sample that went through preprocessing() to postprocessing()"
        )
