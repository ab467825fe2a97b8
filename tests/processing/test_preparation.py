"""Keys of prepared samples, and what they keep apart."""

from __future__ import annotations

import subprocess
import sys
import uuid

from miscnn_tf.processing import preparation
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
