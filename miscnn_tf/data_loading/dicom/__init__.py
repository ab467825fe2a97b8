"""DICOM: a CT, MR or PET series as a volume, RTSTRUCT and SEG as label maps, and label maps as both of them.

pydicom and highdicom read and write the files; they come with the extra ``dicom`` and are imported when they are
needed. What is here is the step between files and voxels: which files make one volume, where its voxels lie in the
patient, and which of them a contour surrounds.
"""

from miscnn_tf.data_loading.dicom.rtstruct_writer import write_rtstruct
from miscnn_tf.data_loading.dicom.seg_writer import write_seg

__all__ = ["write_rtstruct", "write_seg"]
