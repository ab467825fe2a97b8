"""What ``TF_CONFIG`` says, and what is said where it cannot be used."""

import json

import pytest

from miscnn_tf._machine.tf_config import read_cluster
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.writer import Writer

WORKERS = {"worker": ["10.0.0.1:1234", "10.0.0.2:1234"]}


def environment(cluster=None, task=None, **more):
    config = {"cluster": WORKERS if cluster is None else cluster, "task": task, **more}
    return {"TF_CONFIG": json.dumps(config)}


@pytest.mark.parametrize(("index", "chief"), [(0, True), (1, False), ("1", False)])
def test_a_worker_knows_its_place(index, chief, monkeypatch):
    told = environment(task={"type": "worker", "index": index})
    cluster = read_cluster(told)
    assert cluster.addresses == ("10.0.0.1:1234", "10.0.0.2:1234")
    assert (cluster.index, cluster.is_chief) == (int(index), chief)
    assert str(cluster) == f"worker {int(index) + 1} of 2"
    monkeypatch.setenv("TF_CONFIG", told["TF_CONFIG"])
    assert Writer().is_chief is chief


def test_addresses_of_ipv6_stand_in_brackets():
    addresses = ["[::1]:65535", "[fe80::1%eth0]:1"]
    told = environment({"worker": addresses}, {"type": "worker", "index": 1})
    assert read_cluster(told).addresses == tuple(addresses)


def test_a_chief_comes_first_as_in_tensorflow():
    told = environment({"worker": ["b:1"], "chief": ["a:1"]}, {"type": "worker", "index": 0})
    cluster = read_cluster(told)
    assert (cluster.addresses, cluster.index) == (("a:1", "b:1"), 1)


@pytest.mark.parametrize(
    "told",
    [{}, {"TF_CONFIG": " "}, {"TF_CONFIG": "{}"}, environment({"worker": ["a:1"]}, {"type": "worker", "index": 0})],
)
def test_one_worker_trains_alone(told, monkeypatch):
    assert read_cluster(told) is None
    monkeypatch.setenv("TF_CONFIG", told.get("TF_CONFIG", ""))
    assert Writer().is_chief


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"TF_CONFIG": "{worker"}, "is not valid JSON"),
        ({"TF_CONFIG": "[1]"}, 'needs "cluster"'),
        (environment({"worker": "a:1"}), 'needs "cluster"'),
        (environment({"worker": ["a", "b"]}), 'needs "cluster"'),
        (environment({"worker": ["a:1", "b:0"]}), 'needs "cluster"'),
        (environment({"worker": ["a:1", "b:65536"]}), 'needs "cluster"'),
        (environment({"worker": ["a:1", "grpc://b:2"]}), 'needs "cluster"'),
        (environment({"worker": ["::1:1", "::1:2"]}), '"\\[IPv6\\]:port"'),
        (environment({**WORKERS, "ps": ["c:1"]}), "has tasks of the kind ps"),
        (environment({"chief": ["a:1", "b:1"]}, {"type": "chief", "index": 0}), "more than one chief"),
        (environment({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}), "names an address twice"),
        (environment(), "has the task None"),
        (environment(task={"type": "worker", "index": 2}), "index counts from 0"),
        (environment(task={"type": "chief", "index": 0}), "none of its 2 workers"),
        (environment(task={"type": "worker", "index": -1}), "none of its 2 workers"),
    ],
)
def test_what_cannot_be_used_is_told(told, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_cluster(told)
    assert "the environment variable TF_CONFIG" in str(caught.value)
    assert '"index": 0' in str(caught.value)  # an example that works
