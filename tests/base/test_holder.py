from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from miscnn_tf._base.holder import DIGITS, Holder, this_process

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_a_holder_as_text_is_the_same_holder() -> None:
    text = this_process().text
    assert len(text) == DIGITS == 27
    assert Holder.from_text(text) == this_process()
    assert this_process().process == os.getpid()
    for other in ("", text[:-1], text.upper().replace("0", "G"), "../" + text[3:]):
        assert Holder.from_text(other) is None


def test_the_running_process_and_its_parent_are_running() -> None:
    own = this_process()
    assert own.is_running is True
    assert replace(own, process=1, started=own.started).is_running is not Path("/proc/1/stat").exists()


@needs_proc
def test_a_killed_process_is_not_running_even_before_its_parent_has_waited() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", "from miscnn_tf._base.holder import *; print(this_process().text, flush=True);"
         "input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    holder = Holder.from_text(program.stdout.readline().strip())
    assert holder is not None
    assert holder.process == program.pid
    assert holder.is_running is True
    # The id is used again, by a process that was started at another time.
    assert replace(holder, started=(holder.started + 1) % 16**5).is_running is False
    program.kill()
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_running is False  # a zombie
    program.communicate()
    assert holder.is_running is False


def test_another_boot_has_ended_and_other_machines_and_containers_are_unknown() -> None:
    own = this_process()
    assert replace(own, boot="ffff" if own.boot != "ffff" else "eeee").is_running is False
    assert replace(own, machine="0" * 8).is_running is None
    assert replace(own, namespace="0001").is_running is None
    assert replace(own, machine="0" * 8, boot="1234").is_running is None
