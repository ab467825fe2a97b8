"""MIScnn's place for the curves of a training run; they are drawn in `miscnn_tf.evaluation.curves`."""

from miscnn_tf.evaluation.curves import draw_curves, metric_name, plot_validation

__all__ = ["draw_curves", "metric_name", "plot_validation"]
