"""Paths of MIScnn: patch operations, curves and pictures."""
