"""miscnn_tf in `accuracy.py`: plan, train and predict with the public `plan`."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import miscnn_tf  # before TensorFlow, because it enables its fast kernels

# isort: split
import keras

from miscnn_tf.cli import training_run


class Counter(keras.callbacks.Callback):
    """Count steps and their seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.begin = self.end = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step."""
        self.steps += 1
        self.end = time.perf_counter()


def main() -> None:
    """Train and predict."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output, counter = Path(settings["output"]), Counter()
    # The planned run does not take callbacks; the counter changes nothing else.
    planned_callbacks = training_run.make_callbacks
    training_run.make_callbacks = lambda *given: [*planned_callbacks(*given), counter]
    begin = time.perf_counter()
    changes = [f"network.seed={settings['seed']}", *settings["changes"]]
    run = miscnn_tf.plan(settings["raw"], settings["minutes"], output / "run", settings=changes)
    run.train()
    trained = time.perf_counter()
    written = run.predict(settings["images"], output / "predictions", overlay=False)
    predicted = time.perf_counter()
    for file in written:  # the names of PNG files keep the number of the channel
        file.rename(file.with_name(re.sub(r"_0000(?=\.)", "", file.name)))
    facts = {
        "steps": counter.steps,
        "seconds": {
            "preparing": counter.begin - begin,
            "training": counter.end - counter.begin,
            "finishing": trained - counter.end,
            "predicting": predicted - trained,
        },
        "version": f"miscnn_tf {miscnn_tf.__version__}",
        "plan": str(run).splitlines(),
    }
    (output / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
