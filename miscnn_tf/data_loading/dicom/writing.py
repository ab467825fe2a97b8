"""Parts that all DICOM files written by this package share: patient, study and referenced images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import miscnn_tf
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series_grid import Grid
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.errors import ConfigurationError, DataError

MANUFACTURER = "miscnn_tf"
_LONGEST_NAME = 64
_MOST_LABELS = 2**16
#: Elements that describe a study; those of the second list are optional.
_ALWAYS = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
]
_WHERE_KNOWN = ["StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved"]


def source_headers(grid: Grid) -> list[Any]:
    """Read the datasets of a series without their pixels, in the order of its files."""
    require_dicom()
    import pydicom

    return [pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in grid.files]


def checked_labels(labels: np.ndarray, names: Mapping[int, str], grid: Grid, path: str | Path) -> np.ndarray:
    """Check that a label map is on a grid and that its labels have names, and return it.

    Raises:
        DataError: If it holds no labels, its shape is not the grid's, or a label has no name.
        ConfigurationError: If a name is empty or occurs twice.
    """
    labels = np.asarray(labels)
    # Bytes stay bytes, without a copy of the volume.
    labels = check_labels(labels, 2**8 if labels.dtype == np.uint8 else _MOST_LABELS, path)
    if labels.shape != grid.shape:
        raise DataError(
            f"{path}: the label map has the shape {labels.shape}, but {grid.where} has {grid.shape} (slices, rows, "
            "columns); resample the label map to the grid of the images"
        )
    unknown = sorted(set(np.unique(labels).tolist()) - {0} - set(names))
    if unknown:
        raise DataError(
            f"{path}: the label map holds {unknown}, but names are given for {sorted(names)} only; name all labels"
        )
    texts = [name.strip() for name in names.values()]
    if not all(texts) or len(set(texts)) < len(texts):
        raise ConfigurationError(f"{path}: the names of the structures must be different and not empty, got {texts}")
    return labels


def short_names(names: Mapping[int, str]) -> dict[int, str]:
    """Return the names, shortened to the length that DICOM allows, by ascending label."""
    return {int(label): str(names[label]).strip()[:_LONGEST_NAME] for label in sorted(names)}


def new_dataset(sop_class: str, source: Any, moment: datetime, uids: Sequence[str]) -> Any:
    """Make a dataset of the patient and study of `source`, in a new series.

    Args:
        sop_class: SOP class UID.
        source: An image of the study.
        moment: Date and time of creation in the file.
        uids: UIDs of the series and of the instance.
    """
    import pydicom

    dataset = pydicom.Dataset()
    # Names of structures may be in any alphabet.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for name in _ALWAYS:
        value = source.get(name)
        setattr(dataset, name, "" if value is None else str(value))
    for name in _WHERE_KNOWN:
        if source.get(name):
            setattr(dataset, name, str(source.get(name)))
    dataset.SOPClassUID = pydicom.uid.UID(sop_class)
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = map(pydicom.uid.UID, uids)
    dataset.InstanceCreationDate = dataset.SeriesDate = moment.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.SeriesTime = moment.strftime("%H%M%S")
    dataset.Manufacturer = dataset.ManufacturerModelName = MANUFACTURER
    dataset.SoftwareVersions = miscnn_tf.__version__
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta = meta
    return dataset


def new_uids(count: int, uid_seed: str | None) -> list[str]:
    """Make unique UIDs; with a seed always the same ones."""
    import pydicom

    if uid_seed is None:
        return [str(pydicom.uid.generate_uid()) for _ in range(count)]
    return [str(pydicom.uid.generate_uid(entropy_srcs=[uid_seed, str(number)])) for number in range(count)]
