"""Pictures of samples, at the path of MIScnn; see `miscnn_tf.pictures.visualizer`."""

from miscnn_tf.pictures.visualizer import visualize_prediction_overlap_3D, visualize_samples

__all__ = ["visualize_prediction_overlap_3D", "visualize_samples"]
