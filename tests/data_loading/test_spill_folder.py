from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from miscnn_tf.data_loading.cache import spill_folder
from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
from miscnn_tf.data_loading.cache.spill_folder import SpillFolder, remove_abandoned
from miscnn_tf.data_loading.sample import Sample

needs_locks = pytest.mark.skipif(
    spill_folder.fcntl is None or not spill_folder._BOOT.exists(), reason="needs locks, and the number of the boot"
)

SPILLS = """
    import os, sys, time
    import numpy as np
    from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
    from miscnn_tf.data_loading.sample import Sample
    store = PreparedStore(sys.argv[1], 0, persistent=False)
    store.get("k", "a", lambda: Sample("a", np.ones((9, 9)), 1, 2))
    print("ready", flush=True)
    time.sleep(600)
"""


def start(root: Path) -> subprocess.Popen[str]:
    """A program with a sample on disk."""
    command = [sys.executable, "-c", textwrap.dedent(SPILLS), str(root)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


@needs_locks
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_program_left_goes_with_the_next_one(tmp_path: Path, how: int, rng) -> None:
    """Defect: each time a training was killed and resumed, another copy of the samples stayed on disk."""
    killed, alive = start(tmp_path / "1.prepared"), start(tmp_path / "2.prepared")
    try:
        killed.send_signal(how)
        killed.wait(20)
        assert len(list(tmp_path.rglob("image.npy"))) == 2
        with PreparedStore(tmp_path / "3.prepared", 0, persistent=False) as store:
            store.get("k", "a", lambda: Sample("a", rng.normal(size=(9, 9)), 1, 2))
            assert sorted(path.name for path in tmp_path.iterdir()) == ["2.prepared", "3.prepared"]
            assert len(list(tmp_path.rglob("image.npy"))) == 2
    finally:
        for program in (killed, alive):
            program.kill()
            program.wait(20)


@needs_locks
def test_only_folders_of_programs_that_are_gone_are_removed(tmp_path: Path) -> None:
    mine = SpillFolder(tmp_path)
    gone, elsewhere, other = (tmp_path / f"run-{'0' * 16}{end}" for end in (spill_folder._boot(), "1" * 16, "notes"))
    for folder in (gone, elsewhere, other):
        folder.mkdir()
    remove_abandoned([mine.path, gone, elsewhere, other, tmp_path / f"run-{'2' * 16}{spill_folder._boot()}"])
    assert sorted(tmp_path.iterdir()) == sorted([mine.path, elsewhere, other])
    mine.remove()
    assert not mine.path.exists()


def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")  # as NFS does

    if spill_folder.fcntl is not None:
        monkeypatch.setattr(spill_folder.fcntl, "flock", unsupported)
    gc.collect()  # what earlier tests have left open
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    folder = SpillFolder(tmp_path)
    remove_abandoned([folder.path])
    assert folder.path.is_dir()
    folder.remove()
    assert before is None or len(os.listdir("/proc/self/fd")) <= before


@needs_locks
def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = spill_folder._lock, []

    def too_late(folder: Path) -> int | None:
        if not taken:
            taken.append(folder)
            remove_abandoned([folder])
        return lock(folder)

    monkeypatch.setattr(spill_folder, "_lock", too_late)
    folder = SpillFolder(tmp_path / "store")
    assert folder.path.is_dir()
    assert taken != [folder.path]
    monkeypatch.undo()
    remove_abandoned([folder.path])
    assert folder.path.is_dir()


@needs_locks
def test_a_folder_that_another_one_is_just_looking_at_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, held = spill_folder._lock, []

    def locked_by_another(folder: Path) -> int | None:
        if not held:
            held.append(lock(folder))
        return lock(folder)

    monkeypatch.setattr(spill_folder, "_lock", locked_by_another)
    folder = SpillFolder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    os.close(held[0])
    remove_abandoned(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == [folder.path]
