"""Writing of phantom volumes as NIfTI files and DICOM CT series whose bytes depend on the arguments only."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path

import nibabel as nib
import numpy as np

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series_grid import LPS_TO_RAS
from miscnn_tf.data_loading.dicom.writing import new_dataset, new_uids
from miscnn_tf.data_loading.geometry import spacing_of

_INTERCEPT = -1024


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume with equal qform and sform, atomically, and create its folder.

    Args:
        path: The file, which ends in ``.nii.gz``.
        array: Voxels ``(x, y, z)``, in the type to be stored.
        affine: 4x4, voxel index to mm (right, anterior, superior).

    Raises:
        StorageError: If the file cannot be written.
    """
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # No time in the gzip header, so that files are reproducible.
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_ct_series(
    folder: Path, image: np.ndarray, affine: np.ndarray, *, patient: str, uid_seed: str, moment: datetime
) -> None:
    """Write a volume as CT images ``000000.dcm``, ``000001.dcm``, …, each atomically.

    Args:
        folder: Folder to write to; created if it does not exist.
        image: int16 ``(slices, rows, columns)``, Hounsfield units of -1024 to 3071.
        affine: 4x4, index to mm (right, anterior, superior), without shear.
        patient: The patient's ID and name.
        uid_seed: Text from which the UIDs are derived.
        moment: Date and time of the scan.

    Raises:
        StorageError: If the files cannot be written.
    """
    require_dicom()
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage

    to_patient = LPS_TO_RAS @ affine
    spacing = spacing_of(affine)
    steps = to_patient[:3, :3] / spacing
    study, series, frame, *instances = new_uids(3 + len(image), uid_seed)
    source = Dataset()
    source.PatientName, source.PatientID = f"{patient}^", patient
    source.PatientSex = "O"
    source.StudyInstanceUID = study
    source.StudyDate, source.StudyTime, source.StudyID = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S"), "1"
    for number, (plane, instance) in enumerate(zip(image, instances, strict=True)):
        one = new_dataset(CTImageStorage, source, moment, (series, instance))
        one.Modality, one.SeriesNumber, one.SeriesDescription = "CT", 0, "Thorax phantom"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.BodyPartExamined = "CHEST"
        one.FrameOfReferenceUID, one.PositionReferenceIndicator = frame, ""
        one.AcquisitionNumber, one.InstanceNumber, one.KVP, one.PatientPosition = 1, number + 1, "120", "HFS"
        one.SliceThickness = f"{spacing[0]:.6g}"
        one.ImagePositionPatient = [f"{value:.6f}" for value in (to_patient @ (number, 0, 0, 1))[:3]]
        one.ImageOrientationPatient = [f"{value:.9g}" for value in [*steps[:, 2], *steps[:, 1]]]
        one.PixelSpacing = [f"{value:.6g}" for value in spacing[1:]]
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, _INTERCEPT, "HU"
        one.WindowCenter, one.WindowWidth = 40, 400
        one.PixelData = (plane.astype(np.int32) - _INTERCEPT).astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        with atomic_path(folder / f"{number:06d}.dcm") as temporary:
            one.save_as(temporary, enforce_file_format=True)
