"""NIfTI files: their names, headers and voxels, read without trusting them, and how they are written."""

from __future__ import annotations

from miscnn_tf.data_loading.nifti_header import NiftiInfo, read_info
from miscnn_tf.data_loading.nifti_names import ENDINGS, ending_of, find_nifti, is_nifti, stem_of
from miscnn_tf.data_loading.nifti_voxels import check_size, map_voxels, read_voxels, scaled_values
from miscnn_tf.data_loading.nifti_writer import was_written_here, write_nifti

__all__ = [
    "ENDINGS",
    "NiftiInfo",
    "check_size",
    "ending_of",
    "find_nifti",
    "is_nifti",
    "map_voxels",
    "read_info",
    "read_voxels",
    "scaled_values",
    "stem_of",
    "was_written_here",
    "write_nifti",
]
