"""Curves of a training, at the path of MIScnn; see `miscnn_tf.evaluation.curves`."""

from miscnn_tf.evaluation.curves import draw_curves, metric_name, plot_validation

__all__ = ["draw_curves", "metric_name", "plot_validation"]
