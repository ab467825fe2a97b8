"""Ctrl-C while a network is trained."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from processes import all_gone, running

SCRIPT = """
import sys
from pathlib import Path
import keras
from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from toy import ToyInterface

class Sign(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        (Path(sys.argv[1]) / "step").touch()

data_io = Data_IO(ToyInterface((16, 16), cases=4), "", batch_path=sys.argv[1] + "/batches")
preprocessor = Preprocessor(data_io, 2, patch_shape=(8, 8), cache_bytes=0)
network = Neural_Network(preprocessor, Architecture(n_filters=4, depth=1), workers=2, batch_queue_size=4)
network.verbose = 0
network.train(data_io.get_indiceslist(), epochs=10**9, callbacks=[Sign()])
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_a_training_and_leaves_nothing(tmp_path):
    with running(SCRIPT, tmp_path, sign=tmp_path / "step") as program:
        # The prepared samples lie on disk.
        assert list((tmp_path / "batches").rglob("image.npy"))
        os.kill(program.pid, signal.SIGINT)
        _, error = program.communicate(timeout=60)
        assert program.returncode == -signal.SIGINT
        assert error.strip().endswith("KeyboardInterrupt")
        assert all_gone(program, seconds=30)
        assert not [found for found in (tmp_path / "batches").rglob("*") if found.is_file()]
