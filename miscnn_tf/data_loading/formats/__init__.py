"""Single files of each format: bytes to arrays with geometry, and back. DICOM is in `miscnn_tf.data_loading.dicom`."""
