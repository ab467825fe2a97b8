"""Interface for data with one mask per structure: a folder per scan, as TotalSegmentator has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from miscnn_tf._base.messages import did_you_mean, plural, some_of
from miscnn_tf.data_loading.file_names import ENDINGS, find_nifti, first_folders, folders_in, list_files, nifti_files
from miscnn_tf.data_loading.interfaces.listed_files import FoundFiles, ListedFiles_interface, needs_labels
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile, SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.errors import ConfigurationError, MissingDataError

_IMAGES = ("ct", "mri")
_MASKS = "segmentations"


class TotalSegmentator_interface(ListedFiles_interface):
    """Interface for unmodified data of TotalSegmentator, and others with a mask per structure.

    ::

        Totalsegmentator_dataset/
          s0000/
            ct.nii.gz                     or mri.nii.gz
            segmentations/
              liver.nii.gz                0 and one other value
              spleen.nii.gz

    The masks of a scan are united to a label map: the structures get the labels 1, 2, … in alphabetical order, and
    their names are the names of the classes. `structure_dict` chooses some, or gives several the same label. Where
    masks overlap, the smaller structure is used, and a warning reports the overlap; ``miscnn-tf verify`` lists all.

    Every scan must have a mask of each chosen structure, which may be empty. Predictions are label maps,
    ``<output_path>/<scan>.nii.gz``.

    Args:
        channels: Number of channels; None: 1.
        classes: Number of classes, background included; None: by the structures.
        three_dim: Whether the images are volumes; None: like the majority of the images.
        pattern: Regular expression that a scan's whole name must match; None takes all.
        structure_dict: Label of each structure, ``{"liver": 1, "spleen": 2}``; None: all structures of the data set.
        part: "training" (scans with masks), "test" (the others) or "all".
        class_names: A name per class, background first; None: by the structures.
        file_ending: Ending of the files if no data are available; `initialize` detects it.

    Example:
        >>> interface = TotalSegmentator_interface(structure_dict={"liver": 1, "spleen": 2})
        >>> interface.initialize("Totalsegmentator_dataset")[0]  # doctest: +SKIP
        's0000'
        >>> interface.names_of_classes()  # doctest: +SKIP
        ('background', 'liver', 'spleen')
    """

    layout_description: ClassVar[str] = """\
a folder per scan with a mask per structure, as in TotalSegmentator
  s0000/ct.nii.gz                 or mri.nii.gz
  s0000/segmentations/liver.nii.gz"""
    recognition_order: ClassVar[int] = 15

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        structure_dict: Mapping[str, int] | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(channels, classes, three_dim, pattern, part, label_map, class_names, file_ending)
        self.structure_dict = None if structure_dict is None else _checked(structure_dict)
        self._structures_asked = self.structure_dict

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a scan's folder with an image and, if needed, masks."""
        for scan in first_folders(folder, settings.get("pattern")):
            image = _image(scan)
            if image is not None and (_masks(scan) or not needs_labels(settings)):
                return f"it holds {image.relative_to(folder).as_posix()} and a mask per structure"
        return None

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the image of a scan's folder."""
        image = _image(folder)
        return {} if image is None else {folder.name: (image,)}

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True if there are masks, whose names are those of the classes."""
        return any(_masks(scan) for scan in folders_in(folder))

    def find_files(self, root: Path) -> FoundFiles:
        """Find the scans and their structures.

        Raises:
            MissingDataError: If there are none.
            ConfigurationError: If `structure_dict` names a structure that no scan has.
        """
        scans = {scan.name: (image, _masks(scan)) for scan in folders_in(root) if (image := _image(scan)) is not None}
        if not scans:
            raise MissingDataError(
                f"{root} holds no scans, such as s0000/ct.nii.gz (found: {list_files(root)}); each scan is a folder"
            )
        known = sorted({name for _, masks in scans.values() for name in masks})
        structures = self._structures_asked
        if structures is None and known:
            structures = {name: label for label, name in enumerate(known, start=1)}
        unknown = [name for name in structures or () if known and name not in known]
        if unknown:
            raise ConfigurationError(
                f"structure_dict names {unknown[0]!r}, which no scan in {root} has.{did_you_mean(unknown[0], known)} "
                f"The structures are {some_of(known, 20)}"
            )
        self.structure_dict = structures
        samples = {
            name: SampleFiles((image,), masks=_mask_files(image.parent / _MASKS, masks, structures or {}))
            for name, (image, masks) in scans.items()
        }
        wanted = self.choose_part(root, samples, f"<scan>/{_MASKS}/<structure>.nii.gz")
        names = _class_names(structures or {})
        return FoundFiles(
            wanted, ENDINGS[0], 1, names, found_in=f"{plural(len(structures or {}), 'structure')}, a mask for each"
        )


def _checked(structures: Mapping[str, int]) -> dict[str, int]:
    labels = list(structures.values()) if isinstance(structures, Mapping) else []
    whole = all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    if not labels or not whole or {*labels} != set(range(1, max(labels) + 1)):
        raise ConfigurationError(
            f"structure_dict={structures!r} must give the labels 1, 2, … without gaps, such as "
            "{'liver': 1, 'spleen': 2}; several structures may have the same"
        )
    return {str(name): label for name, label in structures.items()}


def _class_names(structures: Mapping[str, int]) -> tuple[str, ...] | None:
    names: dict[int, list[str]] = {}
    for name, label in structures.items():
        names.setdefault(label, []).append(name)
    return ("background", *(" and ".join(names[label]) for label in sorted(names))) if names else None


def _image(scan: Path) -> Path | None:
    return next((path for name in _IMAGES if (path := find_nifti(scan / name)) is not None), None)


def _masks(scan: Path) -> dict[str, Path]:
    folder = scan / _MASKS
    return nifti_files(folder) if folder.is_dir() else {}


def _mask_files(folder: Path, masks: Mapping[str, Path], structures: Mapping[str, int]) -> tuple[MaskFile, ...]:
    """Return the masks of the structures, missing ones by their expected path; none if the scan has no masks."""
    if not masks:
        return ()
    return tuple(
        MaskFile(masks.get(name, folder / f"{name}{ENDINGS[0]}"), label, name) for name, label in structures.items()
    )
