"""The registry of interfaces."""

from __future__ import annotations

import inspect

import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading import interfaces
from miscnn_tf.data_loading.interfaces import (
    Abstract_IO,
    DatasetJSON_interface,
    DICOM_interface,
    Dictionary_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
    get_data_interface_from_file_term,
    miscnn_data_interfaces,
)
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.registry import Registry

PUBLIC = {
    "NIFTI": (NIFTI_interface, {"channels": 1, "classes": 2, "three_dim": True, "pattern": None}),
    "NIFTI_S": (NIFTIslicer_interface, {"slice_axis": 0, "channels": 1, "classes": 2, "pattern": None}),
    "IMG": (Image_interface, {"classes": 2, "img_type": "grayscale", "img_format": "png", "pattern": None}),
    "DICOM": (
        DICOM_interface,
        {
            "channels": 1,
            "classes": 2,
            "three_dim": True,
            "mask_background": 0,
            "structure_dict": None,
            "annotation_tag": None,
        },
    ),
    "DICT": (
        Dictionary_interface,
        {"dictionary": inspect.Parameter.empty, "channels": 1, "classes": 2, "three_dim": True},
    ),
    "DATASET_JSON": (DatasetJSON_interface, dict.fromkeys(("channels", "classes", "three_dim", "pattern"))),
    "PAIRED": (Paired_interface, {"channels": None, "classes": 2, "three_dim": None, "pattern": None}),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_names_signatures_and_configuration(name):
    cls, arguments = PUBLIC[name]
    assert isinstance(miscnn_data_interfaces, Registry)
    assert miscnn_data_interfaces[name] is cls
    parameters = inspect.signature(cls).parameters.values()
    positional = {it.name: it.default for it in parameters if it.kind is it.POSITIONAL_OR_KEYWORD}
    assert positional == arguments
    assert list(positional) == list(arguments)
    instance = cls({}) if name == "DICT" else cls()
    assert isinstance(instance, Abstract_IO)
    assert get_config(type(instance)(**get_config(instance))) == get_config(instance)


@pytest.mark.parametrize(
    ("ending", "cls"),
    [
        (".nii.gz", NIFTI_interface),
        (".nii", NIFTI_interface),
        (".NII.GZ", NIFTI_interface),
        ("nii.gz", NIFTI_interface),
        (".png", Image_interface),
        (".jpg", Image_interface),
        (".tiff", Image_interface),
        (".bmp", Image_interface),
        (".dcm", DICOM_interface),
        (".txt", None),
        (".gz", None),
    ],
)
def test_by_file_ending(ending, cls):
    assert get_data_interface_from_file_term(ending) is cls


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ConfigurationError, match=r"the data interface 'NIFTY' is unknown.*Did you mean 'NIFTI'"):
        miscnn_data_interfaces.get("NIFTY")


def test_everything_exported_exists():
    assert all(hasattr(interfaces, name) for name in interfaces.__all__)
