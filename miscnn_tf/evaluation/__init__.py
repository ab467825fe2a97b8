"""Cross-validation and scores.

`cross_validation`, `split_validation` and `leave_one_out` are modules that can be called like the function of the same
name in them, so that all of MIScnn's imports work. They share the options in `ValidationOptions`. TensorFlow is only
imported with the model.

Example:
    >>> from miscnn_tf.evaluation import cross_validation
    >>> cross_validation(samples, model, k_fold=5, epochs=100, draw_figures=True)  # doctest: +SKIP
    >>> from miscnn_tf.evaluation.cross_validation import split_folds, run_fold
"""

from __future__ import annotations

from miscnn_tf.evaluation import cross_validation, leave_one_out, split_validation
from miscnn_tf.evaluation.options import ValidationOptions

__all__ = ["ValidationOptions", "cross_validation", "leave_one_out", "split_validation"]
