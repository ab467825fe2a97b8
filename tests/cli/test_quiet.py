from __future__ import annotations

import os
import subprocess
import sys

# Each runs in a process of its own: pytest puts its own file behind standard error.
HEADER = "import os, sys\nfrom miscnn_tf.cli.quiet import held_back_stderr\n"


def stderr_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", HEADER + code], capture_output=True, text=True, check=False).stderr


def test_native_output_is_held_back_and_later_output_is_not() -> None:
    shown = stderr_of(
        "with held_back_stderr():\n    os.write(2, b'from C++')\n    print('from Python', file=sys.stderr)\n"
        "print('after', file=sys.stderr)"
    )
    assert shown.strip() == "after"


def test_it_comes_out_when_the_block_fails() -> None:
    shown = stderr_of(
        "with held_back_stderr():\n    os.write(2, b'cannot load libcuda\\n')\n    raise ImportError('x')"
    )
    assert shown.startswith("cannot load libcuda\n")
    assert "ImportError: x" in shown


def test_nothing_is_held_back_when_asked_not_to() -> None:
    assert stderr_of("with held_back_stderr(hold=False):\n    os.write(2, b'seen')") == "seen"


def test_without_a_file_behind_standard_error() -> None:
    assert stderr_of("sys.stderr = None\nwith held_back_stderr():\n    os.write(2, b'seen')") == "seen"


def test_no_file_descriptor_is_lost() -> None:
    code = (
        "def count():\n    return len(os.listdir('/proc/self/fd'))\n"
        "before = count()\nfor _ in range(3):\n    with held_back_stderr():\n        pass\n"
        "print(count() - before, file=sys.stderr)"
    )
    if os.path.isdir("/proc/self/fd"):
        assert stderr_of(code).strip() == "0"
