"""Protocols that evaluation, groups and explanations know of a model."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import miscnn_tf
from miscnn_tf.multi_model import CrossValidationGroup, Model_Group
from miscnn_tf.processing.segmenter import PatchSegmenter, Segmenter

PACKAGE = Path(miscnn_tf.__file__).parent


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    from toy import ToyInterface

    from miscnn_tf import Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture

    folder = tmp_path_factory.mktemp("segmenter")
    io = Data_IO(ToyInterface(shape=(8, 8), cases=2), "toy", folder / "predictions", folder / "batches")
    preprocessor = Preprocessor(io, 1, patch_shape=(8, 8), data_aug=None, seed=0)
    return Neural_Network(preprocessor, Architecture(n_filters=2, depth=1), precision="float32")


def test_networks_and_groups_are_segmenters(network):
    group = Model_Group([network], network.preprocessor)
    folds = CrossValidationGroup(network, network.preprocessor, 2)
    assert all(isinstance(model, Segmenter) for model in (network, group, folds))
    assert [isinstance(model, PatchSegmenter) for model in (network, group, folds)] == [True, False, False]
    assert [model.kind for model in (network, group, folds)] == [
        type(model).__name__ for model in (network, group, folds)
    ]


def test_a_group_in_a_group_segments_what_the_outer_one_prepared(network):
    inner = Model_Group([network, network.copy()], network.preprocessor)
    outer = Model_Group([inner, network.copy()], network.preprocessor)
    asked = []

    def prepare(preprocessor):
        asked.append(preprocessor)
        return network.prepared("case_0")

    found = outer.segment(prepare, activation_output=True)
    assert found.shape == (8, 8, 2)
    assert asked == [network.preprocessor]


@pytest.mark.parametrize("part", ["multi_model", "xai"])
def test_models_are_known_by_the_protocol_alone(part):
    """Defect: members and networks were probed for the names of methods."""
    bad = []
    for path in (PACKAGE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "miscnn_tf.neural_network.model":
                bad.append(f"{path.name}:{node.lineno}: imports Neural_Network")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
                bad.append(f"{path.name}:{node.lineno}: hasattr")
    assert bad == []
