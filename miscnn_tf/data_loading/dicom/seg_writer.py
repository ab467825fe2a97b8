"""Writer of label maps as DICOM SEG, with highdicom."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import miscnn_tf
from miscnn_tf._base.class_colours import cielab, class_colour
from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.writing import (
    MANUFACTURER,
    checked_labels,
    new_uids,
    short_names,
    source_headers,
)
from miscnn_tf.data_loading.labels import label_dtype

logger = logging.getLogger(__name__)

_SIDE = re.compile(r"[\s_-]+(l|r|left|right)$|^(l|r|left|right)[\s_-]+", re.IGNORECASE)
_DISEASED = ("Neoplasm", "Lesion", "Mass", "Cyst", "Edema", "Necrosis", "Nodule", "Hemorrhage")
_ENGLISH = {"tumour": "neoplasm", "tumor": "neoplasm", "oesophagus": "esophagus", "oedema": "edema"}


def write_seg(
    path: str | Path,
    labels: np.ndarray,
    series: str | Path | Sequence[str | Path],
    names: Mapping[int, str],
    *,
    codes: Mapping[int, Sequence[Any]] | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Path:
    """Write a label map as DICOM SEG (binary, a segment per label), atomically.

    Args:
        path: The output file; ends in ``.dcm``.
        labels: ``(slices, rows, columns)`` as `DICOM_interface` returns them for the series; 0 is background.
        series: The images: the folder of the series, or its files.
        names: Name of each label, ``{1: "Heart"}``. Segments are numbered from 1 by ascending label.
        codes: SNOMED CT codes of a label, ``{1: (category, type)}``, each a ``pydicom.sr.coding.Code``. By default
            the type is looked up by the name ("Lung_L" is a lung), and "Anatomical Structure" for unknown names.
        frames: Images that the labels belong to, if the series has several at one position; see `DICOM_interface`.

    Returns:
        The path.

    Raises:
        DataError: If the labels do not match the grid of the series, or one of them has no name.
        MissingExtraError: If the extra is not installed.
        StorageError: If it cannot be written.

    Example:
        >>> write_seg("seg.dcm", labels, "LCTSC-Train-S1-001/ct", {1: "Heart"})  # doctest: +SKIP
    """
    require_dicom()
    import highdicom

    grid = grid_of_files([series] if isinstance(series, str | Path) else series, frames=frames)
    labels = checked_labels(labels, names, grid, path)
    sources = source_headers(grid)
    texts = short_names(names)
    table = np.zeros(max(texts) + 1, label_dtype(len(texts) + 1))
    table[list(texts)] = np.arange(1, len(texts) + 1)
    pixels = table[labels]
    positions = None
    if len(sources) == 1 and len(grid.planes) < grid.planes[0][0].frames:
        # Give the positions of the selected frames: other frames of the file may have the same ones.
        positions = [
            highdicom.PlanePositionSequence(highdicom.CoordinateSystemNames.PATIENT, plane.position)
            for _, plane in grid.planes
        ]
    elif len(sources) == 1 and grid.planes[0][0].frames > 1:
        # highdicom takes the frames of one file in the file's order.
        ordered = np.zeros((grid.planes[0][0].frames, *grid.shape[1:]), pixels.dtype)
        ordered[[plane.frame for _, plane in grid.planes]] = pixels
        pixels = ordered
    series_uid, instance_uid = new_uids(2, None)
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        plane_positions=positions,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, value, name, (codes or {}).get(value))
            for number, (value, name) in enumerate(texts.items(), start=1)
        ],
        series_instance_uid=series_uid,
        series_number=1,
        sop_instance_uid=instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=miscnn_tf.__version__,
        device_serial_number="1",
        series_description="Segmentation by miscnn_tf",
        content_label="SEGMENTATION",
    )
    # Decode person names first: otherwise they keep the bytes of the scan's character set.
    segmentation.SpecificCharacterSet = "ISO_IR 192"
    for element in segmentation:
        if element.VR == "PN" and element.value:
            element.value = str(element.value)
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary, enforce_file_format=True)
    return Path(path)


def _description(number: int, value: int, name: str, code: Sequence[Any] | None) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    category, kind = code or _code(name)
    segment = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MANUFACTURER, version=miscnn_tf.__version__, family=codes.cid7162.ArtificialIntelligence
        ),
    )
    # Older versions of highdicom do not have an argument for it.
    segment.RecommendedDisplayCIELabValue = _scaled_cielab(class_colour(value))
    return segment


def _scaled_cielab(colour: Sequence[int]) -> list[int]:
    """Convert sRGB of 0 to 255 to CIELAB as DICOM stores it: L* of 0 to 100, a* and b* of -128 to 127 in 16 bits."""
    lightness, a, b = cielab(np.array([colour]))[0].tolist()
    return [round(65535 * share) for share in (lightness / 100, (a + 128) / 255, (b + 128) / 255)]


def _code(name: str) -> tuple[Any, Any]:
    """Return category and type of a structure by its English name."""
    from pydicom.sr.codedict import codes

    words = re.findall(r"[A-Za-z][a-z]*", _SIDE.sub("", name))
    keyword = "".join(_ENGLISH.get(word.lower(), word).capitalize() for word in words)
    kind = getattr(codes.SCT, keyword, None) if keyword else None
    if kind is None:
        logger.info("the name %r is not a keyword of SNOMED CT; the segment is coded as an anatomical structure", name)
        kind = codes.SCT.AnatomicalStructure
    diseased = any(word in keyword for word in _DISEASED)
    category = codes.SCT.MorphologicallyAbnormalStructure if diseased else codes.SCT.AnatomicalStructure
    return category, kind
