"""Augmentation of one sample: drawn values, spatial transform and intensity transforms."""
