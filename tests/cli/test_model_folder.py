from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from miscnn_tf.cli.prediction_run import find_model
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.neural_network.model import Neural_Network


def test_what_a_path_may_be(trained: Path, cross_validated: Path, tmp_path: Path) -> None:
    file = find_model(trained / "model.keras")
    assert (file.kind, file.files) == ("network", (trained / "model.keras",))
    run = find_model(trained)
    assert (run.kind, run.files) == ("network", (trained / "model.keras",))
    assert run.interface().class_names == ("background", "kidney", "tumour")
    loaded = run.load()
    assert isinstance(loaded, Neural_Network)
    folds = find_model(cross_validated)
    assert (folds.kind, len(folds.files)) == ("folds", 2)
    assert "2 models, averaged" in folds.description
    assert len(folds.load().models) == 2
    Model_Group([loaded, loaded.copy()], loaded.preprocessor).dump(tmp_path)
    group = find_model(tmp_path)
    assert (group.kind, len(group.files)) == ("group", 2)
    assert isinstance(group.load(), Model_Group)


def test_the_digest_follows_the_files(trained: Path, tmp_path: Path) -> None:
    assert find_model(trained).digest() == find_model(trained / "model.keras").digest()
    shutil.copytree(trained, tmp_path / "run")
    other = find_model(tmp_path / "run").digest()
    assert other != find_model(trained).digest()
    (tmp_path / "run" / "model.keras").touch()
    assert find_model(tmp_path / "run").digest() != other


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="create one with 'miscnn-tf train'"):
        find_model(tmp_path / "none")
    with pytest.raises(MissingDataError, match=r"does not have a model: .* It has nothing"):
        find_model(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ConfigurationError, match=r"its name must end in \.keras"):
        find_model(tmp_path / "a.txt")
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(MissingDataError, match="no model of a finished fold"):
        find_model(tmp_path)
