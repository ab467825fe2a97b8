"""Report drivers, devices, precisions, libraries and memory of this machine, and problems with them.

Run a small computation on each device of TensorFlow, as a network does. If there is an NVIDIA driver but TensorFlow
does not use a GPU, the first line reports it. Paste the whole output into bug reports; it does not contain data, or
names of users.

Exit code: 0, or 1 if there is a problem.

Examples:
  miscnn-tf doctor
  miscnn-tf doctor --json > doctor.json
"""

from __future__ import annotations

import argparse
import json

from miscnn_tf.cli.terminal import forgive_encoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine, and return 1 if there is a problem."""
    from miscnn_tf.cli.doctor_report import examine, report_text

    forgive_encoding()
    report = examine()
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else report_text(report))
    return 1 if report["problems"] else 0
