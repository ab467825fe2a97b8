import numpy as np
import pytest
from toy import ToyInterface

from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    Dictionary_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
)
from miscnn_tf.data_loading.interfaces.description import (
    build_interface,
    class_names_of,
    describe_interface,
    interface_for,
)
from miscnn_tf.errors import ConfigurationError


def test_an_interface_is_described_and_made_again():
    for interface in (
        NIFTIslicer_interface(slice_axis=2, classes=4, label_map={7: 1}),
        Image_interface(img_type="rgb"),
    ):
        made = build_interface(describe_interface(interface), class_names=["a", "b"])
        assert type(made) is type(interface)
        assert describe_interface(made) == describe_interface(interface)
        assert class_names_of(made) == ["a", "b"]


def test_data_in_memory_and_unknown_classes_cannot_be_made_again():
    memory = describe_interface(Dictionary_interface({"a": (np.zeros((2, 2, 2)), None)}))
    assert memory == {"class_name": "DICT", "config": None}
    assert build_interface(memory) is None
    own = describe_interface(ToyInterface(shape=(4, 5)))
    assert own["class_name"] == "ToyInterface"
    assert build_interface(own) is None
    assert build_interface(own, {"ToyInterface": ToyInterface}).shape == (4, 5)


def test_a_class_that_keeps_no_arguments_is_its_name():
    class Forgetful(ToyInterface):
        def __init__(self, place="x"):
            super().__init__()

    assert describe_interface(Forgetful()) == {"class_name": "Forgetful", "config": None}


def test_a_description_that_does_not_fit_is_an_error():
    with pytest.raises(ConfigurationError, match="NIFTI"):
        build_interface({"class_name": "NIFTI", "config": {"chanels": 1}})


def test_names_of_classes_of_any_object():
    assert class_names_of(object()) is None
    interface = ToyInterface()
    assert class_names_of(interface) is None
    interface.class_names = ("a", 2)
    assert class_names_of(interface) == ["a", "2"]


def test_an_interface_for_other_files_has_the_names_of_the_training(tmp_path):
    """Defect: segments of a SEG were called "class 1" if the model was trained on NIfTI files with names."""
    trained = NIFTI_interface(classes=3)
    trained.class_names = ("background", "kidney", "tumour")
    found = interface_for(trained, tmp_path / "slice.dcm")
    assert isinstance(found, DICOM_interface)
    assert found.names_of_classes() == ("background", "kidney", "tumour")
    trained.class_names = None
    assert interface_for(trained, tmp_path / "slice.dcm").class_names is None
