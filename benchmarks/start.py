"""Start-up time compared with plain Python and TensorFlow, measured in alternation.

    python benchmarks/start.py
    python benchmarks/start.py --training

Print one line of JSON: the median seconds of each, and those of ``import miscnn_tf`` and ``miscnn-tf --help`` relative
to importing TensorFlow. With ``--training`` also the time from the start of ``miscnn-tf train CONFIG`` on the
hippocampus MRI (standard U-Net, 32 filters, depth 3, batch 2, patch 40x56x40) to the end of the first step, in seconds
and in CPU seconds of all threads, with its parts: imports, building the network and checking the files, preparing the
samples, and the first step, in which TensorFlow traces the graph; and the second step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rivals import Rival

COMMANDS = {
    "python": ["-c", "pass"],
    "import miscnn_tf": ["-c", "import miscnn_tf"],
    "miscnn-tf --help": ["-m", "miscnn_tf", "--help"],
    "import tensorflow": ["-c", "import tensorflow"],
}
ROUNDS = 5
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hippocampus"

CONFIG = """
[data]
path = {cases}
classes = 3

[preprocessing]
normalization = "z-score"
patch_shape = [40, 56, 40]

[network]
architecture = {{name = "unet_standard", n_filters = 32, depth = 3}}
batch_size = 2
epochs = 1
"""


def seconds(arguments: list[str]) -> float:
    """Measure the wall-clock time of one run of Python."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def first_steps(data: Path, rounds: int) -> dict[str, Any]:
    """Return the medians over several starts of a training."""
    starts = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "start.toml"
            config.write_text(CONFIG.format(cases=json.dumps(str((data / "cases").resolve()))), encoding="utf-8")
            program = Path(__file__).parent / "start_training.py"
            with Rival(program, sys.executable, {"config": str(config), "begin": time.time()}) as training:
                starts.append(training.ready)
    return {part: round(statistics.median(start[part] for start in starts), 2) for part in starts[0]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true", help="also measure the first step of a training")
    parser.add_argument("--data", type=Path, default=DATA, help="hippocampus data (default: %(default)s)")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    # The first round fills the page cache, and is not counted.
    for counts in [False] + [True] * ROUNDS:
        for name, arguments in COMMANDS.items():
            taken = seconds(arguments)
            if counts:
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    shares = {
        name: round(medians[name] / medians["import tensorflow"], 3)
        for name in ("import miscnn_tf", "miscnn-tf --help")
    }
    print(
        json.dumps(
            {
                "benchmark": "start",
                "seconds": {name: round(value, 3) for name, value in medians.items()},
                "share_of_importing_tensorflow": shares,
                **({"training": first_steps(options.data, rounds=3)} if options.training else {}),
            }
        )
    )


if __name__ == "__main__":
    main()
