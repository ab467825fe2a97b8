"""Data sets that this package can make itself, for demos, tutorials and tests."""

from miscnn_tf.datasets.kits_phantom import Phantom, make_kits_phantom, write_kits_phantoms

__all__ = ["Phantom", "make_kits_phantom", "write_kits_phantoms"]
