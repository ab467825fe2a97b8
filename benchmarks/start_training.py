"""Program that ``start.py --training`` starts: ``miscnn-tf train`` for two steps."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

import rivals

from miscnn_tf.cli import main as cli


def main() -> None:
    """Run the command, and measure its parts."""
    settings = json.loads(sys.argv[1])
    times = [settings["begin"]]
    from miscnn_tf.cli import training_run

    times.append(time.time())
    import keras

    from miscnn_tf.processing.preprocessor import Preprocessor

    run_subfunctions = Preprocessor.run_subfunctions

    def prepare(*arguments: Any, **options: Any) -> Any:
        times.append(time.time())
        surveyed = run_subfunctions(*arguments, **options)
        times.append(time.time())
        return surveyed

    class Clock(keras.callbacks.Callback):
        """End the program after the second step."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Store the time, and print the result after the second step."""
            times.append(time.time())
            if batch == 0:
                self.cpu = time.process_time()
                return
            parts = ("imports", "building", "preparing", "first_step", "second_step")
            seconds = dict(zip(parts, (after - before for before, after in itertools.pairwise(times)), strict=True))
            whole = times[-2] - times[0]
            rivals.serve({"seconds": whole, "cpu_seconds": self.cpu, **seconds})
            os._exit(0)

    make_callbacks = training_run.make_callbacks
    training_run.make_callbacks = lambda *arguments: [Clock(), *make_callbacks(*arguments)]
    Preprocessor.run_subfunctions = prepare
    cli.main(["train", settings["config"]])


if __name__ == "__main__":
    main()
