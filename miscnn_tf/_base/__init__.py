"""Foundations of all packages: argument checks, messages, files, JSON and serialisation."""
