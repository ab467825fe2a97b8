"""Networks, losses, training and prediction: the only floor that imports TensorFlow and Keras."""
