"""A fold on machines that train together."""

import numpy as np
import pytest

from miscnn_tf._machine.tf_config import Cluster
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.fold_run import run_split
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.neural_network.cluster_nodes import Workers
from miscnn_tf.runs.fold import Fold


class OtherTells:
    """A strategy of two workers, of which the other tells a number."""

    def __init__(self, number):
        self.number = number

    def reduce(self, operation, values, axis):
        table = np.array(values)
        table[1, :2] = [0, self.number]
        return table


@pytest.mark.parametrize("finished_here", [True, False])
def test_a_fold_that_only_some_machines_find_finished_is_trained_by_none(fake_model, tmp_path, finished_here):
    model = fake_model()
    names = list(model.truth)
    fold, options = Fold(tuple(names[:4]), tuple(names[4:])), ValidationOptions(epochs=1)
    if finished_here:
        run_split(fold, model, tmp_path, options)
    trained = len(model.calls)

    def other_finds(finished):
        model.together = Workers(OtherTells(finished), Cluster(("a:1", "b:2"), 0)).together

    other_finds(not finished_here)
    with pytest.raises(ConfigurationError, match="finished on some of the machines that train together"):
        run_split(fold, model, tmp_path, options)
    assert len(model.calls) == trained
    other_finds(finished_here)
    run_split(fold, model, tmp_path, options)
    assert len(model.calls) == 1
