"""Patch operations on arrays, plots, overlays and animations."""
