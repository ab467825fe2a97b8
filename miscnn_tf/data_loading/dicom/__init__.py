"""DICOM: reading of CT, MR and PET series as volumes, and of RTSTRUCT and SEG as label maps; writing of label maps.

pydicom and highdicom, which the extra ``dicom`` installs and which are imported when needed, read and write the files.
This package converts between files and voxels: it finds the files of a volume, the positions of its voxels in the
patient, and the voxels inside a contour.
"""

from miscnn_tf.data_loading.dicom.rtstruct_writer import write_rtstruct
from miscnn_tf.data_loading.dicom.seg_writer import write_seg

__all__ = ["write_rtstruct", "write_seg"]
