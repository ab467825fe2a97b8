"""Say what this installation and this machine can do: driver, devices, precision, libraries, memory.

A small computation is run on each device that TensorFlow sees, as a network would run it. Where there is an NVIDIA
driver but no GPU is used, the first line says so loudly. Paste the whole output into a bug report; it holds no data and
no names but those of the machine's parts.

Exit code: 0 if all is well, 1 if something is broken or a GPU is not used.

Examples:
  miscnn-tf doctor
  miscnn-tf doctor --json > doctor.json
"""

from __future__ import annotations

import argparse
import json

from miscnn_tf.cli.output import forgive_encoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf doctor``."""
    parser.add_argument("--json", action="store_true", help="the same as JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Examine; returns 1 if there is a problem."""
    from miscnn_tf.cli.doctor_report import examine, report_text

    forgive_encoding()
    report = examine()
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else report_text(report))
    return 1 if report["problems"] else 0
