"""Exploration of a data set: sizes, spacings, intensities and class frequencies."""
