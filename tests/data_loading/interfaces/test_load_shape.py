"""The shape of an image is that of the array, whatever the format, and is read without the array."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.datasets import write_lctsc_phantoms


def nifti(folder: Path, shape: tuple[int, ...]) -> None:
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), folder / "imaging.nii.gz")


@pytest.mark.parametrize("kind", ["nifti", "channels", "flat", "slices", "image", "paired", "dicom", "own"])
def test_it_is_that_of_the_array(kind: str, tmp_path: Path, toy_io, monkeypatch: pytest.MonkeyPatch) -> None:
    interface: Abstract_IO
    if kind in ("nifti", "channels", "flat", "slices"):
        shape = {"channels": (4, 5, 6, 2), "flat": (4, 5, 1)}.get(kind, (4, 5, 6))
        nifti(tmp_path / "a", shape)
        interface = {
            "nifti": NIFTI_interface(),
            "channels": NIFTI_interface(channels=2),
            "flat": NIFTI_interface(three_dim=False),
            "slices": NIFTIslicer_interface(slice_axis=1),
        }[kind]
    elif kind == "dicom":
        write_lctsc_phantoms(tmp_path, cases=1, shape=(8, 12, 10), progress=False)
        interface = DICOM_interface()
    elif kind == "own":
        io = toy_io(shape=(5, 6))
        assert io.interface.load_shape("case_0") == (5, 6)
        return
    else:
        pixels = Image.fromarray(np.zeros((5, 7), np.uint8))
        name = "a/imaging.png" if kind == "image" else "images/a.png"
        (tmp_path / name).parent.mkdir()
        pixels.save(tmp_path / name)
        if kind == "paired":
            (tmp_path / "masks").mkdir()
            pixels.save(tmp_path / "masks" / "a.png")
        interface = Image_interface() if kind == "image" else Paired_interface(classes=2)
    name = Data_IO(interface, tmp_path).get_indiceslist()[0]
    image = interface.load_image(name)[0]
    monkeypatch.setattr(type(interface), "load_image", None)
    assert tuple(interface.load_shape(name)) == image.shape[: 3 if interface.three_dim else 2]
