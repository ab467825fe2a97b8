"""Several models that train and predict as one.

Example:
    >>> from miscnn_tf.multi_model import Model_Group, load_group
    >>> group = Model_Group([first, second], pre_processor)  # doctest: +SKIP
    >>> group.train(samples[:80], epochs=50)  # doctest: +SKIP
    >>> group.predict(samples[80:], aggregation_func="mean")  # doctest: +SKIP
    >>> group.dump("models")  # doctest: +SKIP
    >>> load_group("models").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
"""

from __future__ import annotations

from miscnn_tf.multi_model.aggregation import aggregations
from miscnn_tf.multi_model.cross_validation_group import CrossValidationGroup
from miscnn_tf.multi_model.loading import load_fold_models, load_group
from miscnn_tf.multi_model.model import Model
from miscnn_tf.multi_model.model_group import Model_Group

__all__ = ["CrossValidationGroup", "Model", "Model_Group", "aggregations", "load_fold_models", "load_group"]
