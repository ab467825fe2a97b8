"""Keys of prepared samples, and what they keep apart."""

from __future__ import annotations

import subprocess
import sys
import uuid

import numpy as np
import pytest

from miscnn_tf.errors import DataError, GridError, LabelError
from miscnn_tf.processing import preparation
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.patch_plan import cut
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction


class Forgets(Abstract_Subfunction):
    """Does not keep its constructor argument, so that nothing tells what it does."""

    def __init__(self, factor):
        self._factor = factor

    def preprocessing(self, sample, training=True):
        sample.img_data = sample.img_data * self._factor


def test_a_step_that_cannot_be_described_equals_itself_within_a_run_only(monkeypatch):
    step = Forgets(2)
    before = preparation._identity(step)
    assert preparation._identity(step) == before
    assert preparation._identity(Forgets(2)) != before
    # Another process may have another instance at this very address.
    monkeypatch.setattr(preparation, "_RUN", uuid.uuid4().hex)
    assert preparation._identity(step) != before


def test_each_process_is_a_run_of_its_own():
    script = "from miscnn_tf.processing import preparation; print(preparation._RUN)"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert len(other) == 32
    assert other != preparation._RUN


CELLS = """
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

def window(image):
    return image.clip(-100, 300)

class Window(Abstract_Subfunction):
    def preprocessing(self, sample, training=True):
        sample.img_data = window(sample.img_data)
"""


def test_a_function_whose_cell_was_run_again_is_noticed():
    """Defect: the step's own cell was looked at, once."""
    notebook = {"__name__": "__main__"}
    exec(CELLS, notebook)
    step = notebook["Window"]()
    before = preparation._identity(step)
    assert preparation._identity(step) == before
    function, _, _ = CELLS.partition("class")
    exec(function.replace("-100", "-200"), notebook)
    assert preparation._identity(step) != before


def test_a_class_that_was_changed_in_place_is_noticed(monkeypatch):
    """Defect: IPython's autoreload gives an imported class its new code, and the old samples were taken for those."""
    step = Later()
    before = preparation._identity(step)
    assert preparation._identity(step) == before
    monkeypatch.setattr(Later.preprocessing, "__code__", Forgets.preprocessing.__code__)
    assert preparation._identity(step) != before


class Later(Abstract_Subfunction):
    """Has an attribute to be set later, as a `Preprocessor` has."""

    def __init__(self):
        self.factor = 1
        self._calls = 0

    def preprocessing(self, sample, training=True):
        self._calls += 1
        sample.img_data = sample.img_data * self.factor


def test_an_attribute_that_is_no_argument_is_noticed(toy_io):
    """Defect: prepared samples reused although an attribute of the subfunction had changed."""
    step = Later()
    preprocessor = Preprocessor(toy_io(cases=1), batch_size=1, subfunctions=[step], patch_shape=(8, 8, 8))
    before = preprocessor.prepare_sample_subfunctions("case_0").img_data
    step.factor = 3
    np.testing.assert_array_equal(preprocessor.prepare_sample_subfunctions("case_0").img_data, before * 3)
    preprocessor.prepare_sample_subfunctions("case_0")
    assert step._calls == 2


class Does(Abstract_Subfunction):
    """Whatever is done by a function of image and labels."""

    def __init__(self, change):
        self.change = change

    def preprocessing(self, sample, training=True):
        sample.img_data, sample.seg_data = self.change(sample.img_data, sample.seg_data)


def prepared(io, change):
    return preparation.prepare_sample(io, [Does(change)], "case_0", load_seg=True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda image, labels: (image[4:], labels), GridError, r"image has shape \(16, 22, 18, 1\), its label map"),
        (lambda image, labels: (image, labels[..., 0]), GridError, r"has to do the same to sample.seg_data"),
        (lambda image, labels: (image, labels * 7), LabelError, "the label map holds 7 "),
        (lambda image, labels: (image, labels.astype(np.int16) - 1), LabelError, "the label map holds -1 "),
        (lambda image, labels: (image, labels * 0.5), LabelError, "the label map holds 0.5 "),
        (lambda image, labels: (image[..., 0], labels), DataError, r"\(20, 22, 18\), not an image"),
        (lambda image, labels: (image.tolist(), labels), DataError, "a list, not an image"),
    ],
)
def test_what_a_step_of_the_users_spoils_is_told_with_the_samples_name(toy_io, change, error, message):
    """Defect: an image that was cropped without its labels was trained on, and so were labels that are no classes."""
    with pytest.raises(error, match=rf"sample 'case_0' after Does.*{message}"):
        prepared(toy_io(), change)


def test_labels_of_any_type_become_what_training_takes(toy_io):
    expected = prepared(toy_io(), lambda image, labels: (image, labels)).seg_data
    for kind in (np.float32, np.int64, bool, ">u2"):
        labels = prepared(toy_io(), lambda image, labels, kind=kind: (image, labels.astype(kind))).seg_data
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, expected)


def test_a_step_may_add_channels(toy_io):
    augmentation = Data_Augmentation(config_p_per_sample=1.0)
    twice = Does(lambda image, labels: (np.concatenate([image, -image], axis=-1), labels))
    preprocessor = Preprocessor(
        toy_io(), batch_size=2, subfunctions=[twice], data_aug=augmentation, patch_shape=(8, 8, 8), seed=1
    )
    ((images, _),) = preprocessor.run(["case_0", "case_1"])
    assert images.shape == (2, 8, 8, 8, 2)


def test_details_of_the_users_own_may_be_called_like_ours(toy_io):
    """Defect: they were taken for what cutting patches needs."""
    io = toy_io()
    io.interface.load_details = lambda index: {"fill": "saline", "locations": ["left"], "voxels": 7, "age": 61}
    preprocessor = Preprocessor(io, batch_size=2, patch_shape=(30, 8, 8), seed=1)
    preprocessor.run_subfunctions(["case_0", "case_1"])
    assert preprocessor.run(["case_0", "case_1"])[0][0].shape == (2, 30, 8, 8, 1)
    assert preprocessor.prepare_sample_subfunctions("case_0").details["age"] == 61


@pytest.mark.parametrize("value", [np.int32(2**31 - 1), np.uint32(2**32 - 1), np.int16(-1024), np.float32(-0.1)])
def test_outside_of_an_image_lies_its_least_value_exactly(toy_io, value):
    """Defect: the largest numbers of 32 bits were rounded up, and did not fit their own type."""
    sample = prepared(toy_io(), lambda image, labels: (np.full(image.shape, value), labels))
    np.testing.assert_array_equal(cut(sample, (-1, 0, 0), (2, 2, 2)).image, np.float32(value))


def test_floating_images_take_four_bytes_per_voxel(toy_io):
    for kind, kept in ((">f8", "f4"), ("f8", "f4"), (">f4", "f4"), ("f2", "f2")):
        image = prepared(toy_io(), lambda image, labels, kind=kind: (image.astype(kind), labels)).img_data
        assert image.dtype == np.dtype(kept)
