"""Program that `growth.py` starts: the start of a training, followed by batches."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import rivals

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.processing.subfunctions import Normalization


def resident() -> int:
    """Return the private memory of this process in bytes, without memory-mapped files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["RssAnon"].split()[0])


def main() -> None:
    """Run the program."""
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"])
    seconds: dict[str, float] = {}
    before, begin = resident(), time.perf_counter()

    def done(part: str) -> None:
        seconds[part] = time.perf_counter() - begin - sum(seconds.values())

    interface = NIFTI_interface(channels=1, classes=2)
    io = miscnn_tf.Data_IO(interface, str(folder / "data"), batch_path=str(folder / "batches"))
    samples = io.get_indiceslist()
    done("list")
    io.check(samples)
    done("check")
    preprocessor = miscnn_tf.Preprocessor(
        io,
        batch_size=2,
        subfunctions=[Normalization(mode="z-score")],
        prepare_subfunctions=True,
        patch_shape=tuple(settings["patch"]),
        seed=0,
    )
    preprocessor.run_subfunctions(samples)
    done("prepare")
    batches = DataGenerator(samples, preprocessor, training=True, shuffle=True, iterations=1_000_000, labels=True)
    batches.batch(0, 0)
    done("first_batch")
    seconds["all"] = sum(seconds.values())
    memory = resident() - before
    step = 0

    def steps(count: int) -> dict[str, Any]:
        nonlocal step
        begin = time.perf_counter()
        for _ in range(count):
            step += 1
            batches.batch(0, step)
        return {"seconds": time.perf_counter() - begin}

    rivals.serve({"seconds": seconds, "bytes": memory}, steps=steps)


if __name__ == "__main__":
    main()
