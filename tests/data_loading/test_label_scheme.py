"""Voxels without annotation and overlapping regions, from the files to the label maps in memory."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from small_data import write_volume

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.interfaces import (
    DatasetJSON_interface,
    Dictionary_interface,
    NIFTI_interface,
    miscnn_data_interfaces,
)
from miscnn_tf.data_loading.interfaces.description import build_interface, describe_interface
from miscnn_tf.data_loading.label_scheme import LabelScheme, Region, scheme_of
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import ConfigurationError, DataError, LabelError
from miscnn_tf.evaluation.scores import score_by_scheme
from miscnn_tf.experiment.build import make_data_io
from miscnn_tf.experiment.toml_file import check_experiment
from miscnn_tf.explore.data_exploration import explore

BRATS = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
ORDER = [1, 2, 3]


def write_data_set(root, labels, values, **more):
    """Two cases of nnU-Net's layout; `values` are the labels of a row of voxels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        array = np.broadcast_to(np.array(values, np.uint8)[:, None, None], (len(values), 5, 4)).copy()
        write_volume(root / "imagesTr" / f"{name}_0000.nii.gz", rng.normal(0, 1, array.shape).astype(np.float32))
        write_volume(root / "labelsTr" / f"{name}.nii.gz", array)
    content = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz", **more}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def partly_annotated(labels):
    data = {"a": (np.zeros((2, 2)), np.array(labels, np.uint8))}
    return Dictionary_interface(data, classes=3, three_dim=False, label_map={255: "ignore"})


# ---------------------------------------------------------------- reading


def test_ignored_values_become_the_label_after_the_classes():
    read = check_labels(np.array([0, 1, 255, 2]), 3, "x", {255: "ignore"})
    assert read.tolist() == [0, 1, 3, 2]
    assert read.dtype == np.uint8
    assert check_labels(np.array([0, 4]), 4, "x", {"4": "ignore"}).tolist() == [0, 4]
    assert check_labels(np.array([0, 100, 220]), 2, "x", {"50+": 1, "200+": "ignore"}).tolist() == [0, 1, 2]
    assert check_labels(np.array([0, 2**34]), 2, "x", {2**34: "ignore"}).tolist() == [0, 2]


def test_the_number_after_the_classes_is_no_ignored_value_unless_it_is_mapped():
    with pytest.raises(LabelError, match="holds 3"):
        check_labels(np.array([0, 3, 255]), 3, "x", {255: "ignore"})


def test_256_classes_and_ignored_voxels_need_two_bytes():
    assert check_labels(np.array([0, 999]), 256, "x", {999: "ignore"}).dtype == np.uint16


def test_ignored_values_come_through_data_io_and_are_not_written():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    interface = Dictionary_interface(
        {"a": (np.zeros((2, 2)), labels)}, classes=3, three_dim=False, label_map={255: "ignore"}
    )
    data_io = Data_IO(interface, "")
    sample = data_io.sample_loader("a")
    assert sample.seg_data[..., 0].tolist() == [[0, 1], [2, 3]]
    assert sample.scheme == LabelScheme(3, has_ignored=True)
    data_io.require_classes(sample)
    assert interface.values_of_classes() == (0, 1, 2)


def test_values_without_a_class_are_an_error_beside_ignored_ones():
    labels = np.array([[0, 3], [2, 255]], np.uint8)
    interface = Dictionary_interface(
        {"a": (np.zeros((2, 2)), labels)}, classes=3, three_dim=False, label_map={255: "ignore"}
    )
    with pytest.raises(LabelError, match="holds 3"):
        Data_IO(interface, "").sample_loader("a")


def test_an_interface_of_a_user_marks_ignored_voxels():
    class Own(Dictionary_interface):
        def load_segmentation(self, index):
            return np.array([[0, 3], [2, 1]], np.uint8)

    interface = Own({"a": (np.zeros((2, 2)), np.zeros((2, 2)))}, classes=3, three_dim=False)
    interface.label_map = {255: "ignore"}
    sample = Data_IO(interface, "").sample_loader("a")
    assert sample.seg_data.max() == 3
    assert sample.scheme == LabelScheme(3, has_ignored=True)


def test_predictions_that_hold_the_ignored_value_are_an_error(tmp_path):
    interface = NIFTI_interface(classes=3, three_dim=True, label_map={9: "ignore"})
    write_volume(tmp_path / "a.nii.gz", np.full((4, 4, 4), 9, np.uint8))
    with pytest.raises(LabelError, match="holds 9"):
        interface.load_prediction("a", str(tmp_path))


def test_an_interface_with_ignored_values_is_rebuilt_from_its_description():
    described = describe_interface(NIFTI_interface(classes=3, label_map={9: "ignore", 4: 2}))
    assert described["config"]["label_map"] == {"9": "ignore", "4": 2}
    rebuilt = build_interface(json.loads(json.dumps(described)))
    assert rebuilt.label_scheme() == LabelScheme(3, has_ignored=True)
    assert rebuilt.values_of_classes() == (0, 1, 4)


MAPPED = [name for name, cls in miscnn_data_interfaces.items() if "label_map" in inspect.signature(cls).parameters]


@pytest.mark.parametrize("name", sorted(set(MAPPED) - {"DICT"}))
def test_every_layout_with_a_label_map_keeps_ignored_values_in_model_files(name):
    described = describe_interface(miscnn_data_interfaces[name](classes=3, label_map={9: "ignore"}))
    rebuilt = build_interface(json.loads(json.dumps(described)))
    assert rebuilt.label_scheme() == LabelScheme(3, has_ignored=True)


# ---------------------------------------------------------------- dataset.json


def test_the_ignore_label_of_dataset_json(tmp_path):
    root = write_data_set(tmp_path, {"background": 0, "liver": 1, "ignore": 2}, [0, 1, 2, 2, 0, 1])
    interface = DatasetJSON_interface()
    data_io = Data_IO(interface, root)
    assert interface.names_of_classes() == ("background", "liver")
    assert interface.label_scheme() == LabelScheme(2, has_ignored=True)
    assert data_io.sample_loader("a").seg_data[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 0, 1]
    assert not [finding for finding in verify(data_io).findings if finding.kind != "duplicate"]
    voxels = [facts.voxels for facts in explore(data_io).cases[0].classes]
    assert voxels == [40, 40]


def test_the_ignore_label_can_still_be_counted_as_background(tmp_path):
    root = write_data_set(tmp_path, {"background": 0, "liver": 1, "ignore": 2}, [0, 1, 2])
    interface = DatasetJSON_interface(label_map={2: 0})
    assert Data_IO(interface, root).sample_loader("a").seg_data[:, 0, 0, 0].tolist() == [0, 1, 0]
    assert interface.label_scheme() == LabelScheme(2)


def test_the_regions_of_dataset_json(tmp_path):
    root = write_data_set(tmp_path, {**BRATS, "ignore": 4}, [0, 1, 2, 3, 4], regions_class_order=ORDER)
    interface = find_interface(root)
    assert len(interface.regions) == 3
    data_io = Data_IO(interface, root)
    regions = (Region("whole tumour", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    assert interface.label_scheme() == LabelScheme(4, has_ignored=True, regions=regions)
    assert interface.names_of_classes() == ("background", "label 1", "label 2", "enhancing")
    assert data_io.sample_loader("a").scheme == interface.label_scheme()


def test_regions_of_dataset_json_can_be_replaced_or_left_out(tmp_path):
    root = write_data_set(tmp_path, BRATS, [0, 1, 2, 3], regions_class_order=ORDER)
    interface = find_interface(root, regions={})
    assert scheme_of(Data_IO(interface, root).interface) == LabelScheme(4)
    other = find_interface(root, regions={"all": [1, 2, 3]}, regions_class_order=[1])
    assert scheme_of(Data_IO(other, root).interface).regions == (Region("all", (1, 2, 3), 1),)


def test_regions_that_were_found_in_one_folder_do_not_apply_to_the_next(tmp_path):
    first = write_data_set(tmp_path / "1", {**BRATS, "ignore": 4}, [0, 1, 2, 3, 4], regions_class_order=ORDER)
    second = write_data_set(tmp_path / "2", {"background": 0, "liver": 1}, [0, 1])
    interface = DatasetJSON_interface()
    interface.initialize(first)
    interface.initialize(second)
    assert interface.label_scheme() == LabelScheme(2)


@pytest.mark.parametrize("order", [None, [1, 2], [1, 2, "x"], 3])
def test_regions_without_an_order_are_an_error(tmp_path, order):
    more = {} if order is None else {"regions_class_order": order}
    root = write_data_set(tmp_path, BRATS, [0, 1, 2, 3], **more)
    with pytest.raises(DataError, match=r"dataset\.json: .regions_class_order. is .* each of the 3 regions"):
        find_interface(root)


def test_regions_with_values_that_are_not_numbers_are_an_error(tmp_path):
    root = write_data_set(tmp_path, {**BRATS, "odd": "x"}, [0, 1], regions_class_order=ORDER)
    with pytest.raises(DataError, match="the entry 'odd': 'x'"):
        find_interface(root)


# ---------------------------------------------------------------- configuration


def test_configuration(tmp_path):
    root = write_data_set(tmp_path / "data", {str(n): n for n in range(4)}, [0, 1, 2, 3, 7])
    regions = {"whole": [1, 2, 3], "core": [2, 3]}
    data = {"path": str(root), "ignore_label": 7, "regions": regions, "regions_class_order": [1, 2]}
    made = make_data_io(
        check_experiment({"data": data, "preprocessing": {"patch_shape": [2, 2, 2]}}, "x.toml"), tmp_path
    )
    expected = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2))
    assert made.interface.label_scheme() == LabelScheme(4, has_ignored=True, regions=expected)
    assert made.sample_loader("a").seg_data[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"regions": {"a": [1]}}, "regions_class_order"),
        ({"ignore_label": 0}, "ignore_label"),
        ({"label_map": {"9": "ignored"}}, "label_map"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path, wrong, reason):
    with pytest.raises(ConfigurationError, match=reason):
        check_experiment({"data": {"path": str(tmp_path), **wrong}}, "x.toml")


def test_an_ignored_value_with_a_class_is_an_error(tmp_path):
    root = write_data_set(tmp_path, {"background": 0, "liver": 1}, [0, 1, 2])
    with pytest.raises(ConfigurationError, match="ignore_label=2 has the class 1"):
        find_interface(root, label_map={2: 1}, ignore_label=2)


# ---------------------------------------------------------------- the scheme


@pytest.mark.parametrize(
    ("regions", "order", "reason"),
    [
        ({"a": [1, 4]}, [1], "the label 4, which is not one of the classes 1 to 3"),
        ({"a": [0, 1]}, [1], "the label 0"),
        ({"a": [1]}, [9], "the label 9"),
        ({"a": []}, [1], "has no labels"),
        ({"a": "12"}, [1], "must be a list of labels"),
        ({"a": [1], "b": [2]}, [1], "each of the 2 regions"),
        (None, [1], "without regions"),
        ([1, 2], [1, 2], "must be a dict"),
    ],
)
def test_regions_that_cannot_be(regions, order, reason):
    interface = NIFTI_interface(classes=4)
    interface.regions, interface.regions_class_order = regions, order
    with pytest.raises(ConfigurationError, match=reason):
        interface.label_scheme()


def test_the_target_of_ignored_voxels_is_zero_in_all_channels():
    scheme = LabelScheme(3, has_ignored=True)
    assert scheme.encode(np.array([0, 2, 3])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert LabelScheme(3).encode(np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_later_regions_cover_earlier_ones():
    regions = (Region("a", (1, 2), 1), Region("b", (2,), 2))
    scheme = LabelScheme(3, regions=regions)
    probabilities = np.array([[[0.6, 0.4], [0.6, 0.6], [0.4, 0.6], [0.5, 0.5]]], np.float32)
    assert scheme.decide(probabilities).tolist() == [[1, 2, 2, 0]]
    with pytest.raises(ConfigurationError, match="a channel for each of the 2 regions"):
        scheme.decide(probabilities[..., :1])


def test_plain_data_and_back():
    scheme = LabelScheme(4, has_ignored=True, regions=(Region("a", (1, 2), 1), Region("b", (3,), 3)))
    assert LabelScheme.from_plain(4, json.loads(json.dumps(scheme.to_plain()))) == scheme


# ---------------------------------------------------------------- nnU-Net

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "nnunet" / "labels.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES)
def test_targets_decisions_and_dice_equal_those_of_nnunet(tmp_path, example):
    """Written by ``benchmarks/parity/labels.py``."""
    more = {key: example[key] for key in ("regions_class_order",) if key in example}
    interface = find_interface(write_data_set(tmp_path, example["labels_of_data_set"], [0, 1], **more))
    scheme = interface.label_scheme()
    labels, logits = np.array(example["labels"]), np.moveaxis(np.array(example["logits"], np.float32), 0, -1)
    probabilities = 1 / (1 + np.exp(-logits)) if scheme.regions else np.exp(logits)
    decided = scheme.decide(probabilities)
    assert np.array_equal(decided, example["decided"])
    assert np.array_equal(np.moveaxis(scheme.encode(labels), -1, 0), example["target"])
    rows = score_by_scheme(labels, decided, scheme)[1:]
    assert [row["dice"] for row in rows] == pytest.approx(example["dice"], abs=1e-12)
