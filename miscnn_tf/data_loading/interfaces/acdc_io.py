"""Interface for data of the ACDC challenge: a folder per patient, with two annotated frames of a heart beat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from miscnn_tf.data_loading.file_names import ENDINGS, composed, first_folders, folders_in, list_files, nifti_files
from miscnn_tf.data_loading.interfaces.listed_files import FoundFiles, ListedFiles_interface, needs_labels
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.errors import MissingDataError

_FRAME = re.compile(r".+_frame\d+", re.ASCII)
_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")


class ACDC_interface(ListedFiles_interface):
    """Interface for unmodified data of the Automated Cardiac Diagnosis Challenge (ACDC).

    ::

        training/
          patient001/
            patient001_4d.nii.gz            not used: it has no annotation
            patient001_frame01.nii.gz
            patient001_frame01_gt.nii.gz
            patient001_frame12.nii.gz
            patient001_frame12_gt.nii.gz

    A sample is a frame: ``"patient001_frame01"``. Both frames of a patient must be on one side of a split; the
    configuration of ``miscnn-tf init`` keeps them together.

    The arguments are those of `DatasetJSON_interface`; the classes are those of the challenge unless they are given.

    Example:
        >>> interface = ACDC_interface()
        >>> interface.initialize("ACDC/database/training")[0]  # doctest: +SKIP
        'patient001_frame01'
        >>> interface.names_of_classes()  # doctest: +SKIP
        ('background', 'right ventricle', 'myocardium', 'left ventricle')
    """

    layout_description: ClassVar[str] = """\
a folder per patient with annotated frames, as in ACDC
  patient001/patient001_frame01.nii.gz
  patient001/patient001_frame01_gt.nii.gz"""
    recognition_order: ClassVar[int] = 15
    sample_groups: str | None = r"(.+)_frame\d+"

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a patient's folder with frames and, if needed, their label maps."""
        labelled = needs_labels(settings)
        for patient in first_folders(folder):
            frames = _frames(patient)
            if any(frame.labelled or not labelled for frame in frames.values()):
                return f"{patient.name} has files <patient>_frame<number>"
        return None

    def images_of_folder(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Return the frames of a patient."""
        return {name: files.images for name, files in _frames(folder).items()}

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return True: the classes are those of the challenge."""
        return True

    def find_files(self, root: Path) -> FoundFiles:
        """Find the frames.

        Raises:
            MissingDataError: If there are none.
        """
        frames = {name: files for patient in folders_in(root) for name, files in _frames(patient).items()}
        if not frames:
            raise MissingDataError(
                f"{root} holds no frames, such as patient001/patient001_frame01.nii.gz (found: {list_files(root)})"
            )
        wanted = self.choose_part(root, frames, "<frame>_gt.nii.gz")
        return FoundFiles(wanted, ENDINGS[0], class_names=_NAMES)


def _frames(patient: Path) -> dict[str, SampleFiles]:
    """Return the files of each frame in a patient's folder."""
    files = nifti_files(patient)
    frames = [name for name in files if _FRAME.fullmatch(name) and name.startswith(f"{composed(patient.name)}_")]
    return {name: SampleFiles((files[name],), files.get(f"{name}_gt")) for name in frames}
