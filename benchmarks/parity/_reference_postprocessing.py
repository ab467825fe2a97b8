"""nnU-Net's choice of the postprocessing, run in its environment: ``python _reference_postprocessing.py IN OUT``.

For each data set in ``dataset.json`` form: the lists of labels whose largest component is kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.postprocessing import remove_connected_components
from nnunetv2.utilities.label_handling.label_handling import LabelManager


class _Plans:
    """The two questions that the choice asks of a plan."""

    def __init__(self, plans: object) -> None:
        self.image_reader_writer_class = NibabelIO

    def get_label_manager(self, content: dict) -> LabelManager:
        return LabelManager(content["labels"], content.get("regions_class_order"))


if __name__ == "__main__":
    given = np.load(sys.argv[1])
    results = {}
    for name, content in json.loads(str(given["data_sets"])).items():
        with tempfile.TemporaryDirectory() as root:
            for kind in ("truth", "predictions"):
                folder = Path(root) / kind
                folder.mkdir()
                for number, array in enumerate(given[f"{name}.{kind}"]):
                    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"case_{number}.nii.gz")
            content["file_ending"] = ".nii.gz"
            with mock.patch.object(remove_connected_components, "PlansManager", _Plans):
                _, steps = remove_connected_components.determine_postprocessing(
                    f"{root}/predictions", f"{root}/truth", {}, content, 2, keep_postprocessed_files=False
                )
        found = [step["labels_or_regions"] for step in steps]
        results[name] = [[int(one) for one in np.ravel(labels)] for labels in found]
    Path(sys.argv[2]).write_text(json.dumps(results))
