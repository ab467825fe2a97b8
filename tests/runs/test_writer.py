from __future__ import annotations

import json

import numpy as np
import pytest

from miscnn_tf.errors import FolderInUseError
from miscnn_tf.runs.folder_lock import holder_of
from miscnn_tf.runs.writer import Writer


@pytest.fixture
def second_node(monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))


def connected(*found):
    """Returns the numbers of other nodes beside those of this one."""

    def together(act, numbers=tuple):
        result, own = act(), [*numbers()]
        return result, np.array([own, *([value] for value in found if own)], float)

    return together


def test_the_only_process_writes_and_locks(tmp_path):
    writer, done = Writer(), []
    assert writer.is_alone
    assert writer.is_chief
    assert writer.write(lambda: done.append(1) or "written") == "written"
    assert writer.write(lambda: len(done), wait=False) == 1
    with writer.locked(tmp_path / "run"):
        assert holder_of(tmp_path / "run") is not None
    assert done == [1]
    assert not (tmp_path / "run").exists()


def test_another_node_does_nothing(tmp_path, second_node):
    """Defect: each of 17 files asked the environment on its own."""
    waited = []

    def together(act, numbers=tuple):
        waited.append(True)
        return act(), np.array([numbers()])

    writer = Writer(together)
    assert not writer.is_alone
    assert not writer.is_chief
    assert writer.write(lambda: pytest.fail("wrote")) is None
    assert writer.write(lambda: pytest.fail("wrote"), wait=False) is None
    with writer.locked(tmp_path / "run"):
        assert not (tmp_path / "run").exists()
    assert waited == [True, True]


def test_a_file_is_written_by_the_first_node_and_the_others_log_it(tmp_path, second_node, monkeypatch, caplog):
    caplog.set_level("INFO", logger="miscnn_tf.runs.writer")
    Writer().write_file("model.keras", lambda: pytest.fail("wrote"))
    assert "worker 2 of 2: model.keras is written by the first worker" in caplog.text
    monkeypatch.delenv("TF_CONFIG")
    Writer().write_file("model.keras", (tmp_path / "model.keras").touch)
    assert (tmp_path / "model.keras").exists()


def test_a_failure_is_raised_and_nothing_is_locked(tmp_path):
    writer = Writer()
    with pytest.raises(ZeroDivisionError):
        writer.write(lambda: 1 / 0)
    with pytest.raises(FolderInUseError), writer.locked(tmp_path), other_thread(tmp_path):
        pass


def other_thread(folder):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: Writer().locked(folder).__enter__()).result()


@pytest.mark.parametrize(
    ("here", "there", "agreed"), [("x", 1, True), (None, 0, True), ("x", 0, False), (None, 1, False)]
)
def test_nodes_agree_on_what_they_find(here, there, agreed):
    assert Writer(connected(there)).agree(lambda: here) == (here, agreed)
