# Type checkers do not support callable modules: they see the function of the same name.
from miscnn_tf.evaluation.cross_validation import cross_validation as cross_validation
from miscnn_tf.evaluation.leave_one_out import leave_one_out as leave_one_out
from miscnn_tf.evaluation.options import ValidationOptions as ValidationOptions
from miscnn_tf.evaluation.split_validation import split_validation as split_validation
