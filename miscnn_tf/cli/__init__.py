"""The command ``miscnn-tf``."""
