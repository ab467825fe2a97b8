from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.cli.input_images import data_set_interface, find_images
from miscnn_tf.data_loading.interfaces import Image_interface, NIFTI_interface, Paired_interface
from miscnn_tf.errors import DataError, MissingDataError


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), path)
    return path


def png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    return path


def found(path: Path, channels: int = 1) -> dict[str, list[str]] | None:
    images = find_images(path, channels)
    return None if images is None else {image.name: [one.name for one in image.paths] for image in images}


def test_a_file_and_a_folder_of_files(tmp_path: Path) -> None:
    assert found(nifti(tmp_path / "one.nii.gz")) == {"one": ["one.nii.gz"]}
    png(tmp_path / "cells" / "b.png")
    png(tmp_path / "cells" / "a.png")
    (tmp_path / "cells" / "notes.txt").write_text("")
    assert found(tmp_path / "cells") == {"a": ["a.png"], "b": ["b.png"]}


def test_a_file_per_channel(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        nifti(tmp_path / f"{name}.nii.gz")
    assert found(tmp_path, 2) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"], "b": ["b_0000.nii.gz", "b_0001.nii.gz"]}
    (tmp_path / "b_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="b has 1 files, but the model needs 2"):
        find_images(tmp_path, 2)


def test_numbers_in_names_are_no_channels(tmp_path: Path) -> None:
    for name in ("case_0001", "case_0002"):
        nifti(tmp_path / "some" / f"{name}.nii.gz")
    assert found(tmp_path / "some") == {"case_0001": ["case_0001.nii.gz"], "case_0002": ["case_0002.nii.gz"]}
    nifti(tmp_path / "nnunet" / "case_0000.nii.gz")
    assert found(tmp_path / "nnunet") == {"case": ["case_0000.nii.gz"]}


def test_the_folder_of_a_sample_or_a_series_is_one_image(tmp_path: Path) -> None:
    nifti(tmp_path / "case" / "imaging_0000.nii.gz")
    nifti(tmp_path / "case" / "imaging_0001.nii.gz")
    assert found(tmp_path / "case", 2) == {"case": ["case"]}
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "IM0001").write_bytes(bytes(128) + b"DICM")
    images = find_images(tmp_path / "series", 1)
    assert images is not None
    assert images[0].is_dicom
    assert images[0].source == tmp_path / "series"


def test_other_folders_are_data_sets(tmp_path: Path) -> None:
    nifti(tmp_path / "data" / "case" / "imaging.nii.gz")
    assert found(tmp_path / "data") is None
    png(tmp_path / "flat" / "x.png")
    png(tmp_path / "flat" / "x_mask.png")
    assert found(tmp_path / "flat") is None  # else the masks would be segmented, too
    with pytest.raises(MissingDataError, match=r"the image .* does not exist"):
        find_images(tmp_path / "none", 1)


def test_the_interface_of_the_training_reads_new_samples_whatever_they_are_called(tmp_path: Path) -> None:
    nifti(tmp_path / "new_7" / "imaging.nii.gz")
    trained = NIFTI_interface(classes=3, pattern="case_.*")
    trained.class_names = ("a", "b", "c")
    interface = data_set_interface(tmp_path, trained)
    assert interface.initialize(str(tmp_path)) == ["new_7"]
    assert (interface.classes, interface.class_names) == (3, ("a", "b", "c"))


def test_another_layout_is_recognised(tmp_path: Path) -> None:
    png(tmp_path / "images" / "x.png")
    png(tmp_path / "images" / "y.png")
    png(tmp_path / "masks" / "x.png")
    interface = data_set_interface(tmp_path, Image_interface(classes=2))
    assert isinstance(interface, Paired_interface)
    assert interface.initialize(str(tmp_path)) == ["x", "y"]
    with pytest.raises(DataError):
        data_set_interface(tmp_path / "masks" / "..", NIFTI_interface()).initialize(str(tmp_path / "nothing"))


def test_a_data_set_of_another_layout_gets_predictions_in_the_values_of_the_training(tmp_path: Path) -> None:
    png(tmp_path / "images" / "a.png")
    png(tmp_path / "masks" / "a.png")
    interface = data_set_interface(tmp_path, Image_interface(classes=2, label_map={255: 1}))
    assert isinstance(interface, Paired_interface)
    assert interface.values_of_classes() == (0, 255)
