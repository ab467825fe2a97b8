"""How machines that train together agree, and learn that one has failed."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from distributed_training import free_ports
from processes import hear_interrupts, wait_until

from miscnn_tf._machine.tf_config import Cluster
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.neural_network import cluster_nodes as module
from miscnn_tf.neural_network.cluster_nodes import Workers

CLUSTER = Cluster(("a:1", "b:2"), 0)


class Strategy:
    """Adds what the other worker tells, or fails as TensorFlow does when it is gone."""

    def __init__(self, other=(), error=None):
        self.other = other
        self.error = error
        self.told = []

    def reduce(self, operation, values, axis):
        self.told.append(np.asarray(values)[0])
        if self.error is not None:
            raise self.error
        table = np.array(values)
        table[1, : len(self.other)] = self.other
        return tf.constant(table)


def test_alone_it_agrees_with_itself():
    alone = Workers(None, None)
    assert alone.from_chief(3.5) == 3.5
    result, table = alone.together(lambda: "done", lambda: [1.0, 2.0])
    assert (result, table.tolist()) == ("done", [[1.0, 2.0]])
    with pytest.raises(ZeroDivisionError):
        alone.together(lambda: 1 / 0)


def test_the_numbers_of_all_are_told_to_all():
    result, table = Workers(Strategy([0, 7.0]), CLUSTER).together(lambda: "done", lambda: [5.0])
    assert (result, table.tolist()) == ("done", [[5.0], [7.0]])
    assert Workers(Strategy([2.0]), CLUSTER).from_chief(4.0) == 4.0


def test_where_another_fails_it_is_named():
    with pytest.raises(TrainingError, match=r"worker 1 of 2: training stops, as worker 2 \(b:2\) failed"):
        Workers(Strategy([1.0]), CLUSTER).together(lambda: None)


@pytest.mark.parametrize("error", [None, tf.errors.UnavailableError(None, None, "gone")])
def test_where_it_fails_here_the_others_are_told_and_the_cause_is_raised(error):
    strategy = Strategy([0, 3.0], error)
    with pytest.raises(ZeroDivisionError):
        Workers(strategy, CLUSTER).together(lambda: 1 / 0, lambda: [5.0])
    (told,) = strategy.told
    assert (told[0], told[1]) == (1.0, 0.0)


def test_a_worker_that_is_gone_is_told_in_plain_words():
    text = "Graph execution error:\n\nCollective ops is aborted by: Socket closed\nAdditional GRPC error"
    for error in (tf.errors.UnavailableError(None, None, text), tf.errors.InternalError(None, None, text)):
        with pytest.raises(TrainingError, match=r"has ended or cannot be reached \(Socket closed\).*same command"):
            Workers(Strategy(error=error), CLUSTER).from_chief(1.0)
    other = tf.errors.InvalidArgumentError(None, None, "shapes")
    with pytest.raises(tf.errors.InvalidArgumentError), Workers(Strategy(), CLUSTER).watched():
        raise other


def test_tensorflow_that_was_in_use_before_is_told(monkeypatch):
    def too_late():
        raise RuntimeError("Collective ops must be configured at program startup")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", too_late)
    with pytest.raises(ConfigurationError, match="before anything else uses TensorFlow"):
        module.cluster_strategy(Cluster(("c:1", "d:2"), 0))


ALONE = """
import logging
logging.basicConfig(level=logging.INFO)
from miscnn_tf.neural_network.hardware import choose_hardware
choose_hardware()
"""


def listens(address):
    host, port = address.split(":")
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as a signal")
def test_ctrl_c_ends_the_wait_for_the_others():
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    told = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    program = subprocess.Popen(
        [sys.executable, "-c", ALONE],
        env={**os.environ, "TF_CONFIG": json.dumps(told), "CUDA_VISIBLE_DEVICES": "-1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    try:
        assert any("waiting until all" in line for line in program.stderr)
        # Its server answers, so that TensorFlow has begun to wait.
        assert wait_until(lambda: listens(addresses[0]) or program.poll() is not None)
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == -signal.SIGINT
    finally:
        program.kill()
        program.communicate()


def test_a_port_that_is_in_use_is_told(monkeypatch):
    def taken():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", taken)
    with pytest.raises(ConfigurationError, match="worker 2 of 2 cannot listen at f:6: its port is in use"):
        module.cluster_strategy(Cluster(("e:5", "f:6"), 1))
