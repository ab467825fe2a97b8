"""Interface for data of the BraTS challenges: a folder per case, with a file per MRI sequence."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.file_names import (
    ENDINGS,
    composed,
    first_folders,
    folders_in,
    list_files,
    nifti_files,
)
from miscnn_tf.data_loading.interfaces.listed_files import FoundFiles, ListedFiles_interface, needs_labels
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.data_loading.label_scan import FoundLabels
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

logger = logging.getLogger(__name__)

# The order of the channels, with the names of the challenges until 2021 (t1ce, flair) and from 2023 on (t1c, t2f).
_ORDER = (("t1", "t1n", "t1w"), ("t1ce", "t1c", "t1gd"), ("t2", "t2w"), ("flair", "t2f"))
_KNOWN = frozenset(word for words in _ORDER for word in words)
_SEQUENCE_FILE = re.compile(rf"(.+)[-_](?:{'|'.join(sorted(_KNOWN))})", re.IGNORECASE)
_SEGMENTATIONS = ("seg", "segmentation")
#: Folders of cases below the data folder, until 2019.
_GRADES = ("hgg", "lgg")

#: Meaning of the labels until 2021. Later challenges number other tumours in other ways.
_NAMES = ("background", "necrotic core", "oedema", "enhancing tumour")
_VALUES_UNTIL_2021 = frozenset((0, 1, 2, 4))


class BraTS_interface(ListedFiles_interface):
    """Interface for unmodified data of the BraTS challenges and other MRI with a file per sequence.

    ::

        BraTS2020_TrainingData/                  TrainingData/                        from 2023 on
          BraTS20_Training_001/                    BraTS-GLI-00000-000/
            BraTS20_Training_001_t1.nii.gz           BraTS-GLI-00000-000-t1n.nii.gz
            BraTS20_Training_001_t1ce.nii.gz         BraTS-GLI-00000-000-t1c.nii.gz
            BraTS20_Training_001_t2.nii.gz           BraTS-GLI-00000-000-t2w.nii.gz
            BraTS20_Training_001_flair.nii.gz        BraTS-GLI-00000-000-t2f.nii.gz
            BraTS20_Training_001_seg.nii.gz          BraTS-GLI-00000-000-seg.nii.gz

    The cases may be in folders ``HGG/`` and ``LGG/``. A sample is named like its folder. The channels are the sequences
    that most cases have, T1, contrast-enhanced T1, T2 and FLAIR first.

    The labels 0, 1, 2 and 4 of the challenges until 2021 are classes 0 to 3 (``label_map={4: 3}``), and predictions
    have the values of the challenge again.

    Args:
        channels: Number of channels; None: the number of sequences.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes; None: like the majority of the images.
        pattern: Regular expression that a case's whole name must match; None takes all.
        modalities: Endings of the files' names, in the order of the channels, ``("t1", "flair")``; None: detected.
        part: "training" (cases with a label map), "test" (the others) or "all".
        label_map: Labels for values in the segmentation files, ``{4: 3}``; other values are kept. Predictions are
            written in the same values.
        class_names: A name per class, background first.
        file_ending: Ending of the files if no data are available; `initialize` detects it.

    Example:
        >>> interface = BraTS_interface(classes=4, label_map={4: 3}, modalities=("t1ce", "flair"))
        >>> interface.initialize("BraTS2020_TrainingData")[0]  # doctest: +SKIP
        'BraTS20_Training_001'
    """

    layout_description: ClassVar[str] = """\
a folder per case with a file per MRI sequence, as in BraTS
  case_00/case_00_t1.nii.gz       or case_00-t1n.nii.gz; likewise t1ce, t2, flair, …
  case_00/case_00_seg.nii.gz"""
    recognition_order: ClassVar[int] = 15

    def __init__(
        self,
        channels: int | None = None,
        classes: int | None = None,
        three_dim: bool | None = None,
        pattern: str | None = None,
        *,
        modalities: Sequence[str] | None = None,
        part: str = "training",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        file_ending: str | None = None,
    ) -> None:
        super().__init__(channels, classes, three_dim, pattern, part, label_map, class_names, file_ending)
        if modalities is not None and (
            isinstance(modalities, str) or not modalities or len({*modalities}) < len([*modalities])
        ):
            raise ConfigurationError(
                f"modalities={modalities!r} must be a list of different endings of file names, such as ['t1', 'flair']"
            )
        self.modalities = None if modalities is None else tuple(str(word).lower() for word in modalities)
        self._modalities_asked = self.modalities

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a case's folder with the files of MRI sequences and, if needed, a label map."""
        labelled = needs_labels(settings)
        for place in _places(folder):
            for case in first_folders(place, settings.get("pattern")):
                files = _files_of(case)
                if files.keys() & _KNOWN and (not labelled or _segmentation(files) is not None):
                    return f"{case.relative_to(folder).as_posix()} has a file per MRI sequence"
        return None

    def find_files(self, root: Path) -> FoundFiles:
        """Find the cases.

        Raises:
            MissingDataError: If there are none.
        """
        held = {case.name: _files_of(case) for place in _places(root) for case in folders_in(place)}
        cases = {name: files for name, files in held.items() if files.keys() & _KNOWN}
        if not cases:
            raise MissingDataError(
                f"{root} holds no case with files such as <case>/<case>_t1.nii.gz or <case>/<case>-t1n.nii.gz (found: "
                f"{list_files(root)})"
            )
        samples = {name: SampleFiles((), _segmentation(files)) for name, files in cases.items()}
        wanted = self.choose_part(root, samples, "<case>_seg.nii.gz")
        self.modalities = self._modalities_asked or _usual(cases[name] for name in wanted)
        self.channel_names = self.modalities
        samples = {name: self._sample_of(cases[name]) for name in wanted}
        return FoundFiles(
            samples, ENDINGS[0], len(self.modalities), found_in=f"the channels are {', '.join(self.modalities)}"
        )

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the files of a case's sequences, also if the folder has another name than its files.

        Raises:
            DataError: If the sequences of the training are unknown, and their number is not that of the case.
        """
        files = _files_of(folder)
        if not files.keys() & _KNOWN:
            prefixes = {match[1] for stem in nifti_files(folder) if (match := _SEQUENCE_FILE.fullmatch(stem))}
            files = _files_named(folder, prefixes.pop()) if len(prefixes) == 1 else {}
        if not files.keys() & _KNOWN:
            return {}
        if self.modalities is not None:
            return {folder.name: self._sample_of(files).images}
        usual = _usual([files])
        if len(usual) != self.channels:
            raise DataError(
                f"{folder} has {plural(len(usual), 'sequence')} ({', '.join(usual)}), but the interface reads "
                f"{plural(self.channels, 'channel')}; list their files, in the order of the training"
            )
        logger.warning("%s: the channels are %s; check that the training had this order", folder, ", ".join(usual))
        return {folder.name: tuple(files[word] for word in usual)}

    def interpret_values(
        self, found: FoundLabels, folder: Path, label_map: Mapping[int, int] | None
    ) -> tuple[int, Mapping[int, int] | None, Sequence[str] | None]:
        """Return the classes of the challenges until 2021 for the values 0, 1, 2 and 4; otherwise by the values."""
        if label_map is None and found.values and 4 in found.values and _VALUES_UNTIL_2021.issuperset(found.values):
            # From 2023 on, 4 has other meanings.
            names = _NAMES if {"t1ce", "flair"} & {*(self.modalities or ())} else None
            return 4, {4: 3}, names
        return super().interpret_values(found, folder, label_map)

    def _sample_of(self, files: Mapping[str, Path]) -> SampleFiles:
        """Return the files of a case; missing sequences by their expected path."""
        known, one = next((word, path) for word, path in sorted(files.items()) if word in _KNOWN)
        prefix = one.name[: one.name.lower().rindex(known)]
        images = (files.get(word, one.with_name(f"{prefix}{word}{ENDINGS[0]}")) for word in self.modalities or ())
        return SampleFiles(tuple(images), _segmentation(files))


def _places(root: Path) -> list[Path]:
    """Return the folders of cases: the data folder, or ``HGG`` and ``LGG`` in it."""
    return [path for path in folders_in(root) if path.name.lower() in _GRADES] or [root]


def _files_of(case: Path) -> dict[str, Path]:
    """Return the NIfTI files ``<case>_<word>`` or ``<case>-<word>`` of a case by the word in small letters."""
    return _files_named(case, composed(case.name))


def _files_named(folder: Path, prefix: str) -> dict[str, Path]:
    named = re.compile(rf"{re.escape(prefix)}[-_]([^-_.]+)", re.IGNORECASE)
    matches = ((named.fullmatch(stem), path) for stem, path in nifti_files(folder).items())
    return {match[1].lower(): path for match, path in matches if match}


def _segmentation(files: Mapping[str, Path]) -> Path | None:
    return next((files[word] for word in _SEGMENTATIONS if word in files), None)


def _usual(cases: Iterable[Mapping[str, Path]]) -> tuple[str, ...]:
    """Return the sequences that at least half of the cases have, in the order of the channels."""
    held = [set(files) - {*_SEGMENTATIONS} for files in cases]
    often = Counter(word for words in held for word in words)
    usual = [word for word, number in often.items() if 2 * number >= len(held)]
    place = {word: position for position, words in enumerate(_ORDER) for word in words}
    return tuple(sorted(usual, key=lambda word: (place.get(word, len(_ORDER)), word)))
