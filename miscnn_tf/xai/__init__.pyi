# Type checkers do not support callable modules: they see the function of the same name.
from miscnn_tf.xai import certaintymap as certaintymap
from miscnn_tf.xai import gradcam as gradcam
from miscnn_tf.xai.certaintymap import compute_certaintymap as compute_certaintymap
from miscnn_tf.xai.gradcam import compute_gradient_heatmap as compute_gradient_heatmap
from miscnn_tf.xai.occlusion_sensitivity import occlusion_sensitivity as occlusion_sensitivity
