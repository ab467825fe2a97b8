"""Postprocessing in model files, and in predictions of networks and groups."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import miscnn_tf
from miscnn_tf import Neural_Network, Preprocessor
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.multi_model.loading import load_fold_models, load_group
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.keras_file import store_postprocessing
from miscnn_tf.neural_network.model_description import MEMBER
from miscnn_tf.processing.components import FILL_HOLES, KEEP_LARGEST, ComponentStep, postprocess
from miscnn_tf.runs.model_settings import weights_digest

STEPS = (ComponentStep(KEEP_LARGEST, "one", (1,), 1), ComponentStep(FILL_HOLES, "one", (1,), 1))


@pytest.fixture
def network(toy_io) -> Neural_Network:
    preprocessor = Preprocessor(toy_io(shape=(16, 16), cases=2), 1, patch_shape=(16, 16), data_aug=None, seed=0)
    return Neural_Network(preprocessor, Architecture(n_filters=1, depth=1), seed=0)


def changed_by_steps(network: Any, rng: np.random.Generator) -> np.ndarray:
    """Return an image whose prediction the steps change."""
    for _ in range(50):
        image = rng.normal(size=(16, 16)).astype(np.float32)
        labels = network.predict_array(image)
        if not np.array_equal(postprocess(labels, STEPS), labels):
            return image
    raise AssertionError("no prediction has islands")


def test_it_is_stored_and_the_rest_of_the_file_stays(network: Neural_Network, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    network.dump(path)
    assert miscnn_tf.load_model(path).postprocessing == ()
    with zipfile.ZipFile(path) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    assert b"postprocessing" not in before[MEMBER]
    store_postprocessing(path, STEPS)
    with zipfile.ZipFile(path) as archive:
        after = {name: archive.read(name) for name in archive.namelist()}
    loaded = miscnn_tf.load_model(path)
    assert loaded.postprocessing == STEPS
    for ours, theirs in zip(loaded.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    described = json.loads(after.pop(MEMBER))
    assert described.pop("postprocessing") == [step.to_plain() for step in STEPS]
    assert described == json.loads(before.pop(MEMBER))
    assert after == before
    unchanged = path.stat()
    store_postprocessing(path, STEPS)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (unchanged.st_ino, unchanged.st_mtime_ns)
    loaded.dump(tmp_path / "again.h5")
    assert miscnn_tf.load_model(tmp_path / "again.h5").postprocessing == STEPS
    store_postprocessing(path, ())
    assert miscnn_tf.load_model(path).postprocessing == ()
    with pytest.raises(ConfigurationError, match=r"stored in \.keras files"):
        store_postprocessing(tmp_path / "again.h5", ())


def test_it_is_applied_to_label_maps_only(network: Neural_Network, tmp_path: Path, rng: np.random.Generator) -> None:
    image = changed_by_steps(network, rng)
    labels, probabilities = network.predict_array(image), network.predict_array(image, activation_output=True)
    (sample,) = network.predict(["case_0"], return_output=True) or ()
    np.save(tmp_path / "image.npy", image)
    network.postprocessing = STEPS
    np.testing.assert_array_equal(network.predict_array(image), postprocess(labels, STEPS))
    np.testing.assert_array_equal(network.predict_array(image, postprocessing=False), labels)
    np.testing.assert_array_equal(network.predict_array(image, activation_output=True), probabilities)
    (processed,) = network.predict(["case_0"], return_output=True) or ()
    np.testing.assert_array_equal(processed, postprocess(sample, STEPS))
    (left,) = network.predict(["case_0"], return_output=True, postprocessing=False) or ()
    np.testing.assert_array_equal(left, sample)
    assert network.copy().postprocessing == STEPS


def test_other_weights_have_none(network: Neural_Network, tmp_path: Path) -> None:
    network.dump(tmp_path / "model.keras")
    for change in (
        lambda: network.train(["case_0"], epochs=1),
        network.reset,
        lambda: network.load(tmp_path / "model.keras"),
    ):
        network.postprocessing = STEPS
        change()
        assert network.postprocessing == ()
    digest, settings = weights_digest(network), network.snapshot().training_settings()
    network.postprocessing = STEPS
    assert weights_digest(network) != digest  # kept predictions are of the network with these steps
    assert network.snapshot().training_settings() == settings


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([{"operation": "smooth", "name": "one", "labels": [1], "written": 1}], "operation must be"),
        ([{"operation": KEEP_LARGEST, "name": "one", "labels": [7], "written": 1}], "labels must be classes"),
        ("all", "postprocessing"),
        ([1], "postprocessing"),
    ],
)
def test_a_damaged_one_is_an_error(stored: Any, said: str, network: Neural_Network, tmp_path: Path) -> None:
    path, damaged = tmp_path / "model.keras", tmp_path / "damaged.keras"
    network.dump(path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == MEMBER:
                data = json.dumps({**json.loads(data), "postprocessing": stored}).encode()
            target.writestr(name, data)
    with pytest.raises(ModelFileError, match=said) as error:
        miscnn_tf.load_model(damaged)
    assert "damaged.keras" in str(error.value)


def test_folds_and_groups(network: Neural_Network, tmp_path: Path, rng: np.random.Generator) -> None:
    image = changed_by_steps(network, rng)
    labels = network.predict_array(image)
    for number in (0, 1):
        (tmp_path / f"fold_{number}").mkdir()
        network.dump(tmp_path / f"fold_{number}" / "model.keras")
        (tmp_path / f"fold_{number}" / "completed.json").write_text("{}")
    store_postprocessing(tmp_path / "fold_0" / "model.keras", STEPS)
    with pytest.raises(ModelFileError, match=r"another postprocessing .* cross-validate' again"):
        load_fold_models(tmp_path)
    store_postprocessing(tmp_path / "fold_1" / "model.keras", STEPS)
    group = load_fold_models(tmp_path, network.preprocessor.data_io)
    group.dump(tmp_path / "group")
    for one in (group, load_group(tmp_path / "group")):
        assert one.postprocessing == STEPS
        np.testing.assert_array_equal(one.predict_array(image), postprocess(labels, STEPS))
        np.testing.assert_array_equal(one.predict_array(image, postprocessing=False), labels)
        np.testing.assert_array_equal(one.predict_array(image, aggregation_func="majority"), postprocess(labels, STEPS))
    list_file = next((tmp_path / "group").glob("group_*/metadata.json"))
    content = json.loads(list_file.read_text())
    list_file.write_text(json.dumps({**content, "postprocessing": [{"operation": "smooth"}]}))
    with pytest.raises(ModelFileError, match=r"metadata\.json cannot be used: postprocessing"):
        load_group(tmp_path / "group")
    group.reset()
    assert group.postprocessing == ()
