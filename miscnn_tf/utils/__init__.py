"""Tools for people: patch operations on arrays, plots and overlays."""
