"""How long the package takes to be there, beside an empty Python and TensorFlow, timed in turn in one run.

    python benchmarks/start.py

Prints one line of JSON: the median seconds of each, and those of ``import miscnn_tf`` and ``miscnn-tf --help`` as
shares of importing TensorFlow.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import miscnn_tf": ["-c", "import miscnn_tf"],
    "miscnn-tf --help": ["-m", "miscnn_tf", "--help"],
    "import tensorflow": ["-c", "import tensorflow"],
}
ROUNDS = 5


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one run of Python."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Time in turn, and print."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    # The first round fills the disk's cache, and does not count.
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
            }
        )
    )


if __name__ == "__main__":
    main()
