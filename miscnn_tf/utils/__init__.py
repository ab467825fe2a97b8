"""Tools for people: patch operations on arrays, plots, overlays and animated pictures."""
