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
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import miscnn_tf
from miscnn_tf._base.messages import size_text
from miscnn_tf._machine import processor as machine
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf._machine.tf_config import TF_CONFIG
from miscnn_tf.cli.terminal import forgive_encoding

Report = dict[str, Any]
# Environment variables that affect TensorFlow or this package.
_ENVIRONMENT = re.compile(
    r"CUDA_\w+|XLA_FLAGS|TF_(CONFIG|(CPP|XLA|FORCE|GPU|ENABLE|DISABLE|DETERMINISTIC|NUM|USE)_\w+)|KERAS_\w+"
    r"|OMP_NUM_THREADS|LD_LIBRARY_PATH"
)
_RELEVANT = re.compile(r"cuda|cudnn|dlopen|libdevice|GPU|ptxas|TensorRT", re.IGNORECASE)
_WIDTH = 80
_PROBE_SECONDS = 300
_LITTLE_ROOM = 2 * 2**30
_LITTLE_MEMORY = 2 * 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``miscnn-tf doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine, and return 1 if there is a problem."""
    forgive_encoding()
    report = examine()
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else report_text(report))
    return 1 if report["problems"] else 0


def examine() -> Report:
    """Examine the machine, which takes as long as the import of TensorFlow."""
    from miscnn_tf._machine import dependencies  # its imports take as long as those of all commands

    memory = system_memory()
    report: Report = {
        "miscnn_tf": miscnn_tf.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": machine.processor(),
        "memory": {"total_bytes": memory.total, "available_bytes": memory.available},
        "disk": machine.room([Path.cwd(), Path(tempfile.gettempdir())]),
        "graphics": machine.graphics(),
        "required": dependencies.required(),
        "extras": dependencies.extras(),
        "nvidia_packages": dependencies.nvidia_packages(),
        "environment": _environment(),
        "tensorflow": probe_devices(),
    }
    report = _without_home(report)
    report["problems"] = list(_problems(report))
    report["remarks"] = list(_remarks(report))
    return report


def probe_devices() -> Report:
    """Run `device_probe` in a separate process; return ``{"failed": …}`` if it fails."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-m", "miscnn_tf.neural_network.device_probe"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error), "said": []}
    messages = list(dict.fromkeys(_message(line) for line in done.stderr.splitlines() if _RELEVANT.search(line)))
    try:
        return {**json.loads(done.stdout.splitlines()[-1]), "said": messages}
    except (ValueError, IndexError):
        return {"failed": _ending(done.returncode, done.stderr), "said": messages}


def report_text(report: Mapping[str, Any]) -> str:
    """Format the report for users, problems first."""
    lines = []
    for problem in report["problems"]:
        lines += [*_wrapped(problem, "PROBLEM  "), ""]
    for remark in report["remarks"]:
        lines += [*_wrapped(remark, "note     "), ""]
    if not report["problems"]:
        lines += ["No problems found.", ""]
    for title, rows in _sections(report):
        lines.append(title)
        for name, value in rows:
            lines += _wrapped(str(value), f"  {name.ljust(22)} ")
        lines.append("")
    return "\n".join(lines).rstrip()


def _problems(report: Mapping[str, Any]) -> Iterable[str]:
    found = report["tensorflow"]
    # An unused GPU is reported first, because nothing else reports it.
    yield from (warning for warning in found.get("warnings", ()) if "RUNNING ON THE CPU" in warning)
    cards, gpus = report["graphics"]["cards"], [one for one in found.get("devices", ()) if one["kind"] == "GPU"]
    if cards and not gpus and "failed" not in found and not found.get("driver") and not _hidden():
        yield (
            f"RUNNING ON THE CPU although nvidia-smi shows {cards[0].get('name')}: TensorFlow finds no GPU. Install "
            "its CUDA libraries: pip install 'miscnn_tf[gpu]'"
        )
    if report["graphics"]["nvidia_smi"] == "fails":
        yield (
            f"nvidia-smi fails: {report['graphics']['message']}. The driver is not working: reinstall it, or restart "
            "the machine after an update"
        )
    for package in report["required"] or ():
        if not package["fits"]:
            have = "is missing" if package["installed"] is None else f"is {package['installed']}"
            yield f"{package['name']} {have}, but {package['wanted']} is required: pip install --upgrade miscnn_tf"
    if "failed" in found:
        yield f"TensorFlow cannot be imported: {found['failed']}"
    elif found["keras_backend"] != "tensorflow":
        yield (
            f"Keras uses {found['keras_backend']}; unset KERAS_BACKEND, or set it to tensorflow, and check "
            "~/.keras/keras.json"
        )
    for device in found.get("devices", ()):
        if device["error"]:
            yield f"{device['name']} fails: {device['error']}"


def _remarks(report: Mapping[str, Any]) -> Iterable[str]:
    if report["required"] is None:
        yield "miscnn_tf is only on the path, not installed: versions of its dependencies were not checked"
    if report["graphics"]["cards"] and _hidden():
        yield "the GPU is hidden by CUDA_VISIBLE_DEVICES"
    for place in report["disk"]:
        if place["free_bytes"] is not None and place["free_bytes"] < _LITTLE_ROOM:
            yield f"little free space in {place['folder']}: {size_text(place['free_bytes'])}"
    available = report["memory"]["available_bytes"]
    if available is not None and available < _LITTLE_MEMORY:
        yield f"little free memory: {size_text(available)}"


def _sections(report: Mapping[str, Any]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    from miscnn_tf._machine.dependencies import FEATURES

    found, processor, memory = report["tensorflow"], report["processor"], report["memory"]
    hardware = found.get("hardware")
    if hardware is not None:
        yield (
            "settings of networks",
            [
                ("summary", hardware["description"]),
                ("strategy", f"{hardware['strategy']}, {hardware['devices_used']} device(s)"),
                ("precision", hardware["precision"]),
                ("XLA", "on" if hardware["xla"] else "off"),
                *([(TF_CONFIG, hardware["cluster"])] if hardware.get("cluster") else []),
            ],
        )
    yield "devices", list(_device_rows(report))
    usable = processor["cores_usable"]
    rows = [
        ("processor", processor["model"]),
        ("cores", f"{processor['cores']}" + (f", usable {usable}" if usable != processor["cores"] else "")),
        ("instructions", ", ".join(processor["instructions"]) or "unknown"),
    ]
    if "bfloat16_instructions" in found:
        rows.append(("bfloat16 in hardware", "yes" if found["bfloat16_instructions"] else "no"))
    rows.append(("memory", f"{_size(memory['total_bytes'])}, free {_size(memory['available_bytes'])}"))
    for place in report["disk"]:
        room = f"{_size(place['free_bytes'])} of {_size(place['total_bytes'])} free"
        rows.append(("disk", f"{place['folder']}: {room}" + ("" if place["writable"] else ", NOT writable")))
    yield "machine", rows
    rows = [("miscnn_tf", report["miscnn_tf"]), ("Python", report["python"]), ("system", report["system"])]
    rows += [(package["name"], _package(package)) for package in report["required"] or ()]
    yield "versions", rows
    rows = []
    for name, packages in report["extras"].items():
        missing = [package["name"] for package in packages if not package["fits"]]
        purpose = FEATURES.get(name, "")
        state = f"not installed: {', '.join(missing)}" if missing else "installed"
        rows.append((f"miscnn_tf[{name}]", f"{purpose} – {state}" if purpose else state))
    yield "extras and their purposes", rows
    if report["environment"]:
        yield "environment", list(report["environment"].items())


def _device_rows(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    found, graphics = report["tensorflow"], report["graphics"]
    yield "nvidia-smi", graphics["nvidia_smi"]
    for card in graphics["cards"]:
        yield "card", ", ".join(f"{key} {value}" for key, value in card.items())
    if "failed" not in found:
        yield "driver file", found["driver"] or "none"
        built = found["built_with"]
        cuda = f"CUDA {built['cuda']}, cuDNN {built['cudnn']}" if built["cuda"] else "no CUDA"
        yield "TensorFlow", f"{found['tensorflow']}, built with {cuda}"
    nvidia = ", ".join(f"{name.removeprefix('nvidia-')} {text}" for name, text in report["nvidia_packages"].items())
    yield "CUDA packages", nvidia or "none installed by pip"
    for device in found.get("devices", ()):
        about = [text for text in (device["model"], device["compute_capability"]) if text]
        state = f"FAILS: {device['error']}" if device["error"] else f"works ({device['seconds']} s)"
        yield device["name"], ", ".join([*about, state])
    for line in found["said"]:
        yield "TensorFlow log", line


def _package(package: Mapping[str, Any]) -> str:
    if package["fits"]:
        return str(package["installed"])
    return f"{package['installed'] or 'MISSING'}, required: {package['wanted']}"


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in sorted(os.environ) if _ENVIRONMENT.fullmatch(name)}


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")


def _message(line: str) -> str:
    """Remove time, process and source location from a line of TensorFlow's log."""
    return re.sub(r"^.*?[\w/]+\.(cc|h|cpp):\d+\]\s*", "", line).strip()


def _ending(code: int, stderr: str) -> str:
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "no message")
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; TensorFlow may need instructions that the processor does not have" if name == "SIGILL" else ""
        return f"it was killed by {name}{hint} ({last})"
    return last


def _without_home(value: Any) -> Any:
    """Replace the home folder, because bug reports should not contain names of users."""
    if isinstance(value, dict):
        return {key: _without_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_home(item) for item in value]
    home = str(Path.home())
    return value.replace(home, "~") if isinstance(value, str) and len(home) > 1 else value


def _wrapped(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def _size(number: int | None) -> str:
    return "unknown" if number is None else size_text(number)
