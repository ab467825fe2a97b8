from __future__ import annotations

import inspect

import numpy as np
import pytest
from pydantic import ValidationError

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.cross_validation import cross_validation
from miscnn_tf.experiment.schema import (
    Augmentation,
    Data,
    Experiment,
    Network,
    Preprocessing,
    Split,
    Table,
    check_arguments,
    make_named,
)
from miscnn_tf.processing.data_augmentation import SETTINGS, SWITCHES, Data_Augmentation
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions import (
    Clipping,
    CropNonzero,
    Normalization,
    Orientation,
    Padding,
    Resampling,
    Resize,
    subfunctions,
)


def test_every_key_says_what_it_is() -> None:
    for name, field in Experiment.model_fields.items():
        table = field.annotation
        assert isinstance(table, type)
        assert issubclass(table, Table)
        assert table.__doc__, name
        for key, inner in table.model_fields.items():
            assert inner.description, f"[{name}] {key}"
            assert inner.description.endswith("."), f"[{name}] {key}"


def test_augmentation_has_a_key_for_each_attribute_and_no_default_of_its_own() -> None:
    keys = set(Augmentation.model_fields) - {"enabled", "recipe", "within_slices", "masked_channels"}  # of nnU-Net
    assert keys == {name.removeprefix("config_") for name in (*SWITCHES, *SETTINGS)}
    assert Augmentation().make().get_config() == Data_Augmentation().get_config()


def test_augmentation_takes_every_value_that_the_class_has() -> None:
    """Each attribute's own default, handed in through the file, changes nothing."""
    config = {name: value for name, value in Data_Augmentation().get_config().items() if value is not None}
    table = Augmentation.model_validate({name.removeprefix("config_"): value for name, value in config.items()})
    assert table.make().get_config() == Data_Augmentation().get_config()
    changed = Augmentation.model_validate({"mirror": True, "mirror_axes": [0], "gamma": False}).make()
    assert (changed.mirror, tuple(changed.config_mirror_axes), changed.gamma) == (True, (0,), False)
    assert Augmentation.model_validate({"enabled": False}).make() is None


def test_short_keys_are_done_in_the_order_of_the_table() -> None:
    table = Preprocessing.model_validate(
        {
            "normalization": "minmax",
            "clip": [-10, 90.5],
            "padding": [8, 8, 8],
            "crop": "nonzero",
            "orientation": "LPS",
            "spacing": [1, 2, 3.5],
            "patch_shape": [8, 8, 8],
        }
    )
    steps = table.make_steps()
    assert [type(step) for step in steps] == [Orientation, CropNonzero, Clipping, Normalization, Resampling, Padding]
    assert steps[0].axes == "LPS"
    assert (steps[2].min, steps[2].max) == (-10, 90.5)
    assert steps[4].new_spacing == (1, 2, 3.5)
    resized = Preprocessing.model_validate({"resize": [8, 9], "analysis": "fullimage"}).make_steps()
    assert [type(step) for step in resized] == [Resize]


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("grayscale", {"mode": "grayscale"}),
        (["rgb", "none"], {"mode": ("rgb", "none")}),
        ({"mode": "ct", "statistics": [-75, 300, 60, 40]}, {"statistics": ((-75, 300, 60, 40),)}),
        ({"nonzero": True}, {"mode": "z-score", "nonzero": True}),
    ],
)
def test_a_normalization_is_a_name_a_list_or_a_table(value, arguments) -> None:
    table = {"normalization": value, "analysis": "fullimage"}
    (step,) = Preprocessing.model_validate(table).make_steps()
    assert arguments.items() <= vars(step).items()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("zscore", "Did you mean 'z-score'"),
        (["rgb", "non"], "Did you mean 'none'"),
        (5, "5 is not the name of a normalization"),
        ({"mode": "ct"}, "'ct' needs statistics"),
        ({"mode": "z-score", "nonzer": True}, "nonzero"),
    ],
)
def test_a_mistake_in_a_normalization_is_named(value, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Preprocessing.model_validate({"normalization": value, "analysis": "fullimage"})


@pytest.mark.parametrize("name", subfunctions.names())
def test_every_subfunction_can_be_a_step(name: str) -> None:
    arguments = {"Clipping": {"min": 0, "max": 1}, "Padding": {"min_size": [4, 4]}}.get(name, {})
    (step,) = Preprocessing.model_validate(
        {"steps": [{"name": name, **arguments}], "analysis": "fullimage"}
    ).make_steps()
    assert type(step) is subfunctions[name]


def test_steps_do_what_they_say() -> None:
    table = Preprocessing.model_validate(
        {"steps": [{"name": "Clipping", "min": 2, "max": 3}, {"name": "Resize", "new_shape": [2, 2], "order_img": 0}],
         "analysis": "fullimage"}
    )  # fmt: skip
    sample = Sample("a", np.arange(16).reshape(4, 4), channels=1, classes=2)
    for step in table.make_steps():
        step.preprocessing(sample)
    assert sample.img_data.shape == (2, 2, 1)
    assert sample.img_data.min() >= 2
    assert sample.img_data.max() <= 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"clip": [0, 1], "steps": [], "analysis": "fullimage"}, "clip and steps are both given"),
        ({"spacing": [1, "kept"]}, "'kept' is neither a positive length in mm nor 'keep'"),
        ({"spacing": [1, 0.0]}, "0.0 is neither a positive length in mm nor 'keep'"),
        ({"spacing": [1, 1], "resize": [8, 8], "analysis": "fullimage"}, "spacing and resize are both given"),
        ({"patch_shape": [8, 8], "analysis": "fullimage"}, "patch_shape is not used with analysis = 'fullimage'"),
        ({}, "patch_shape is missing"),
        ({"clip": [5, 1], "analysis": "fullimage"}, "is above max"),
        ({"steps": [{"name": "Resampling", "new_spacing": [0, 1]}], "analysis": "fullimage"}, "positive lengths in mm"),
    ],
)
def test_keys_that_do_not_fit_together(table: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Preprocessing.model_validate(table)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"file": "a.json", "training": ["a"]}, "file and training are both given"),
        ({"validation": ["a"]}, "validation is given without training"),
        ({"groups": "patient"}, "exactly one group"),
        ({"groups": "(a"}, "not a valid regular expression"),
        ({"strata": "(a)(b)"}, "exactly one group"),
    ],
)
def test_splits_that_cannot_be_made(table: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Split.model_validate(table)


def test_a_name_alone_is_a_table_with_that_name() -> None:
    network = Network.model_validate({"architecture": "unet_plain", "loss": {"name": "combo_loss", "alpha": 0.3}})
    assert network.architecture is not None
    assert (network.architecture.name, network.architecture.arguments) == ("unet_plain", {})
    assert network.loss is not None
    assert network.loss.arguments == {"alpha": 0.3}


def test_no_default_stands_in_two_places() -> None:
    """Keys that the Python interface has a default for have none here: what is not given is not handed over."""
    owners = (Preprocessor.__init__, cross_validation)
    twice = []
    for field in Experiment.model_fields.values():
        for key, inner in field.annotation.model_fields.items():
            known = any(
                key in inspect.signature(owner).parameters
                and inspect.signature(owner).parameters[key].default is not inspect.Parameter.empty
                for owner in owners
            )
            if known and inner.default is not None and key != "backup_every":
                twice.append(key)
    assert twice == []


def test_named_things_are_made_with_hints() -> None:
    assert make_named({"clip": Clipping}, "clip", {"min": 0, "max": 1}, "step").max == 1
    with pytest.raises(ConfigurationError, match=r"the step 'clap' is unknown. Did you mean 'clip'\? Known: clip"):
        make_named({"clip": Clipping}, "clap", {}, "step")
    with pytest.raises(ConfigurationError, match="cannot be created"):
        make_named({"clip": Clipping}, "clip", {"min": 0}, "step")
    with pytest.raises(ConfigurationError, match=r"the clipping has no argument 'lowest'. Known: min, max"):
        check_arguments(Clipping, {"lowest": 1}, "the clipping")


def test_structures_may_have_more_labels_than_the_default_number_of_classes():
    structures = {"structure_dict": {"Lung_L": 1, "Lung_R": 2}}
    assert Data(path="data", layout="DICOM", settings=structures).settings == structures
    assert Data(path="data", layout="DICOM", classes=3, settings=structures).classes == 3
    with pytest.raises(ValidationError, match="'Lung_R' the label 2, which is not one of the 2 classes"):
        Data(path="data", layout="DICOM", classes=2, settings=structures)
