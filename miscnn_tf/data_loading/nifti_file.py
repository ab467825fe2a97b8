"""NIfTI files: names, headers, voxels and writing."""

from __future__ import annotations

from miscnn_tf.data_loading.nifti_header import NiftiInfo as NiftiInfo
from miscnn_tf.data_loading.nifti_header import read_info as read_info
from miscnn_tf.data_loading.nifti_names import ENDINGS as ENDINGS
from miscnn_tf.data_loading.nifti_names import ending_of as ending_of
from miscnn_tf.data_loading.nifti_names import find_nifti as find_nifti
from miscnn_tf.data_loading.nifti_names import is_nifti as is_nifti
from miscnn_tf.data_loading.nifti_names import stem_of as stem_of
from miscnn_tf.data_loading.nifti_voxels import check_size as check_size
from miscnn_tf.data_loading.nifti_voxels import map_voxels as map_voxels
from miscnn_tf.data_loading.nifti_voxels import read_voxels as read_voxels
from miscnn_tf.data_loading.nifti_voxels import scaled_values as scaled_values
from miscnn_tf.data_loading.nifti_writer import was_written_here as was_written_here
from miscnn_tf.data_loading.nifti_writer import write_nifti as write_nifti
