"""Synthetic data sets for demos, tutorials and tests."""

from miscnn_tf.datasets.brats_phantom import BratsPhantom, make_brats_phantom, write_brats_phantoms
from miscnn_tf.datasets.cell_phantom import CellPhantom, make_cell_phantom, write_cell_phantoms
from miscnn_tf.datasets.kits_phantom import Phantom, make_kits_phantom, write_kits_phantoms
from miscnn_tf.datasets.lctsc_phantom import LCTSC_STRUCTURES, make_lctsc_phantom, write_lctsc_phantoms

__all__ = [
    "LCTSC_STRUCTURES",
    "BratsPhantom",
    "CellPhantom",
    "Phantom",
    "make_brats_phantom",
    "make_cell_phantom",
    "make_kits_phantom",
    "make_lctsc_phantom",
    "write_brats_phantoms",
    "write_cell_phantoms",
    "write_kits_phantoms",
    "write_lctsc_phantoms",
]
