"""Detection of samples, masks, channels and class names in a data folder."""
