"""Locations of patches, drawing and reading them, and blending predicted ones."""
