"""Data interfaces, one file per layout. Subclass `Abstract_IO` to add another one."""

from __future__ import annotations

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.acdc_io import ACDC_interface
from miscnn_tf.data_loading.interfaces.brats_io import BraTS_interface
from miscnn_tf.data_loading.interfaces.cell_tracking_io import CellTracking_interface
from miscnn_tf.data_loading.interfaces.dataset_json_io import DatasetJSON_interface
from miscnn_tf.data_loading.interfaces.dicom_io import DICOM_interface
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.data_loading.interfaces.image_io import Image_interface
from miscnn_tf.data_loading.interfaces.nifti_io import NIFTI_interface
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import NIFTIslicer_interface
from miscnn_tf.data_loading.interfaces.object_masks_io import ObjectMasks_interface
from miscnn_tf.data_loading.interfaces.paired_io import Paired_interface
from miscnn_tf.data_loading.interfaces.registered import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.split_folders_io import SplitFolders_interface
from miscnn_tf.data_loading.interfaces.totalsegmentator_io import TotalSegmentator_interface

__all__ = [
    "ACDC_interface",
    "Abstract_IO",
    "BraTS_interface",
    "CellTracking_interface",
    "DICOM_interface",
    "DatasetJSON_interface",
    "Dictionary_interface",
    "Image_interface",
    "NIFTI_interface",
    "NIFTIslicer_interface",
    "ObjectMasks_interface",
    "Paired_interface",
    "SplitFolders_interface",
    "TotalSegmentator_interface",
    "atomic_path",
    "get_data_interface_from_file_term",
    "miscnn_data_interfaces",
]

miscnn_data_interfaces.register("NIFTI", NIFTI_interface)
miscnn_data_interfaces.register("NIFTI_S", NIFTIslicer_interface)
miscnn_data_interfaces.register("IMG", Image_interface)
miscnn_data_interfaces.register("DICOM", DICOM_interface)
miscnn_data_interfaces.register("DICT", Dictionary_interface)
miscnn_data_interfaces.register("DATASET_JSON", DatasetJSON_interface)
miscnn_data_interfaces.register("PAIRED", Paired_interface)
miscnn_data_interfaces.register("BRATS", BraTS_interface)
miscnn_data_interfaces.register("ACDC", ACDC_interface)
miscnn_data_interfaces.register("TOTALSEGMENTATOR", TotalSegmentator_interface)
miscnn_data_interfaces.register("CELL_TRACKING", CellTracking_interface)
miscnn_data_interfaces.register("OBJECT_MASKS", ObjectMasks_interface)
miscnn_data_interfaces.register("SPLIT", SplitFolders_interface)


def get_data_interface_from_file_term(file_term: str) -> type[Abstract_IO] | None:
    """Return the interface class that reads files with an ending, or None.

    Args:
        file_term: The ending, ``".nii.gz"``; the dot may be missing.

    Example:
        >>> get_data_interface_from_file_term(".nii.gz").__name__
        'NIFTI_interface'
    """
    ending = file_term if file_term.startswith(".") else f".{file_term}"
    return next((cls for cls in miscnn_data_interfaces.values() if cls.check_file_termination(ending)), None)
