"""What a terminal shows while TensorFlow starts: nothing of its known messages, and all that is not known."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from miscnn_tf._machine.tensorflow_messages import without_logged

STARTED = "E0000 00:00:1796094611.204767   31506 "
KNOWN = f"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1796094316.590128   27357 port.cc:153] oneDNN custom operations are on. You may see slightly different \
numerical results due to floating-point round-off errors from different computation orders.
I0000 00:00:1796094316.630874   27357 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available
To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow with the appropriate
{STARTED}util.cc:131] oneDNN supports DT_INT32 only on platforms with AVX-512. Falling back to the default
2025-05-01 10:11:12.123456: E external/local_xla/cuda/cuda_dnn.cc:9261] Unable to register cuDNN factory: Attempting
2025-05-01 10:11:12.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
W0000 00:00:1746094272.123456    4242 computation_placer.cc:177] computation placer already registered.
"""
WITHOUT_DRIVER = f"{STARTED}cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: UNKNOWN ERROR (303)\n"
FAULTS = """\
E0000 00:00:1796094611.204767   31506 cuda_executor.cc:1228] failed to allocate 1.00GiB from device
W0000 00:00:1796094611.204767   31506 gpu_device.cc:2431] Cannot dlopen some GPU libraries
2025-05-01 10:11:12.123456: F tensorflow/core/platform/cpu_feature_guard.cc:110] AVX is not available
ImportError: libcublas.so.12: I0000 cannot open shared object file

"""

HEADER = (
    "import os, signal, sys\nfrom miscnn_tf._machine import tensorflow_messages as messages\n"
    "from miscnn_tf._machine.tensorflow_messages import without_known_messages\n"
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, as descriptor 2 belongs to the whole process."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", HEADER + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**inherited, **environment},
        start_new_session=True,
    )


def write(text: str) -> str:
    return f"    os.write(2, {text.encode()!r})\n"


def test_known_lines_are_removed_and_the_others_come_in_order() -> None:
    lines = [*FAULTS.splitlines(keepends=True), *(KNOWN + WITHOUT_DRIVER).splitlines(keepends=True)]
    mixed = "".join(line for pair in zip(lines[::2], lines[1::2], strict=False) for line in pair)
    done = run(
        "messages.NVIDIA_TRACES = ()\nprint('before', file=sys.stderr)\nwith without_known_messages():\n"
        f"{write(mixed)}    print('from Python', file=sys.stderr)\n{write('no line end')}"
        "print(' after', file=sys.stderr)\n" + write(STARTED + KNOWN).strip()
    )
    faults = "".join(line for line in mixed.splitlines(keepends=True) if line in FAULTS)
    assert faults
    # Nothing is removed outside the block.
    assert done.stderr == f"before\n{faults}from Python\nno line end after\n{STARTED}{KNOWN}"
    assert done.returncode == 0


def test_a_failing_cuda_is_shown_on_a_machine_with_a_driver(tmp_path: Path) -> None:
    code = f"import pathlib\nmessages.NVIDIA_TRACES = (pathlib.Path({str(tmp_path)!r}),)\n"
    done = run(f"{code}with without_known_messages():\n{write(KNOWN + WITHOUT_DRIVER)}")
    assert done.stderr == WITHOUT_DRIVER


def test_the_last_words_of_a_crash_are_shown() -> None:
    done = run(f"with without_known_messages():\n{write(KNOWN + FAULTS)}    os.abort()")
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == FAULTS


def test_an_exception_leaves_the_block_and_standard_error_is_itself_again() -> None:
    done = run(f"with without_known_messages():\n{write(FAULTS)}    raise ImportError('x')")
    assert done.stderr.startswith(FAULTS + "Traceback")
    assert done.stderr.endswith("ImportError: x\n")


def test_an_interruption_does_not_end_the_filter_before_the_program() -> None:
    done = run(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwith without_known_messages():\n"
        f"    os.killpg(0, signal.SIGINT)\n{write(FAULTS)}"
    )
    assert (done.returncode, done.stderr) == (0, FAULTS)


def test_the_log_level_of_everything_shows_everything() -> None:
    done = run(f"with without_known_messages():\n{write(KNOWN)}", TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr == KNOWN


@pytest.mark.parametrize("change", ["sys.executable = None", "sys.executable = '/usr/bin/uwsgi'", "sys.stderr = None"])
def test_unusual_programs_lose_nothing(change: str) -> None:
    done = run(f"{change}\nwith without_known_messages():\n{write(FAULTS)}")
    assert (done.returncode, done.stderr) == (0, FAULTS)


def test_closed_standard_error() -> None:
    done = run("os.close(2)\nsys.stderr = None\nwith without_known_messages():\n    print('done')")
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_no_descriptor_is_lost() -> None:
    code = (
        "def count():\n    return len(os.listdir('/proc/self/fd'))\nbefore = count()\nfor _ in range(3):\n"
        "    with without_known_messages():\n        pass\nprint(count() - before)"
    )
    assert run(code).stdout.strip() == "0"


def test_the_package_and_its_network_start_without_a_word() -> None:
    """As in a notebook; limited to AVX2, where oneDNN lacks operations, as on many laptops."""
    code = """
import miscnn_tf
assert "tensorflow" not in sys.modules
from miscnn_tf import Neural_Network
import tensorflow as tf
from miscnn_tf.neural_network.hardware import choose_hardware
choose_hardware(deterministic=True)
tf.function(tf.transpose)(tf.zeros((3, 3), tf.int32))  # prints a line, otherwise
signature = tf.TensorSpec((), tf.int32)
list(tf.data.Dataset.from_generator(lambda: iter([1]), output_signature=signature))  # prints information, otherwise
assert tf.__spec__.loader is tf.__loader__
assert type(tf.__loader__).__module__ == "_frozen_importlib_external"
"""
    done = run(code, ONEDNN_MAX_CPU_ISA="AVX2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_tensorflow_is_a_plain_import_error() -> None:
    code = (
        "sys.path[:] = [path for path in sys.path if 'site-packages' not in path]\n"
        "messages.filter_import_of_tensorflow()\nmessages.filter_import_of_tensorflow()\n"
        "before = len(sys.meta_path)\ntry:\n    import tensorflow\nexcept ModuleNotFoundError as error:\n"
        "    print(error, before - len(sys.meta_path))"
    )
    assert run(code).stdout.strip() == "No module named 'tensorflow' 1"


def test_advice_of_a_library_is_removed_in_the_block_alone(caplog):
    logger = logging.getLogger("some library")
    with without_logged("some library", "retracing"):
        logger.warning("5 calls triggered %s", "retracing")
        logger.warning("something else")
    logger.warning("retracing again")
    assert [record.getMessage() for record in caplog.records] == ["something else", "retracing again"]
