from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from miscnn_tf.errors import MissingDataError
from miscnn_tf.multi_model.loading import fold_model_files, load_fold_models


def test_the_finished_folds_predict_as_one(tmp_path: Path, toy_io, rng: np.random.Generator, caplog) -> None:
    from miscnn_tf import Neural_Network, Preprocessor
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture

    data_io = toy_io(shape=(8, 8), cases=2)
    preprocessor = Preprocessor(data_io, batch_size=1, patch_shape=(8, 8), data_aug=None, seed=0)
    networks = [Neural_Network(preprocessor, Architecture(n_filters=1, depth=1), seed=seed) for seed in range(3)]
    for number, network in enumerate(networks):
        folder = tmp_path / f"fold_{number}"
        folder.mkdir()
        network.dump(folder / "model.keras")
        if number < 2:
            (folder / "completed.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert fold_model_files(tmp_path) == [tmp_path / f"fold_{number}" / "model.keras" for number in (0, 1)]
    assert "only 2 of 3 folds are finished" in caplog.text
    group = load_fold_models(tmp_path, data_io)
    assert group.models[0].preprocessor is group.models[1].preprocessor is group.preprocessor
    image = rng.normal(size=(8, 8)).astype(np.float32)
    expected = np.mean([network.predict_array(image, activation_output=True) for network in networks[:2]], axis=0)
    np.testing.assert_allclose(group.predict_array(image, activation_output=True), expected, atol=1e-3)
    (prediction,) = group.predict(["case_0"], return_output=True)
    assert prediction.shape == (8, 8)


def test_without_a_finished_fold_there_is_nothing(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(MissingDataError, match="no model of a finished fold"):
            fold_model_files(root)
