from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miscnn_tf._base.files import temporary_beside
from miscnn_tf._base.holder import this_process
from miscnn_tf.data_loading.cache import prepared_store, sample_files
from miscnn_tf.data_loading.cache.prepared_store import VERSIONS_KEPT, PreparedStore
from miscnn_tf.data_loading.cache.sample_files import UnstorableError
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, StorageError

VOXELS = 16 * 16 * 16
BYTES = VOXELS * 4 + VOXELS + 16 * 8  # image, labels, affine


def make_sample(index: Any = "a", value: float = 1.0) -> Sample:
    image = np.full((16, 16, 16), value, np.float32)
    sample = Sample(index, image, 1, 2, extended={"affine": np.eye(4), "names": ["x"]}, three_dim=True)
    sample.add_segmentation(np.ones((16, 16, 16), np.uint8))
    sample.details = {"fill": [0.0]}
    sample.history = [{"step": "Clipping"}]
    return sample


class Maker:
    """Makes samples and counts how often."""

    def __init__(self, build: Callable[[], Sample] = make_sample) -> None:
        self.build = build
        self.calls = 0

    def __call__(self) -> Sample:
        self.calls += 1
        return self.build()


@pytest.fixture(params=["memory", "spilled", "persistent"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PreparedStore:
    budget = 2**30 if request.param == "memory" else 0
    return PreparedStore(tmp_path / "store", budget, persistent=request.param == "persistent")


def folders(store: PreparedStore) -> list[str]:
    return sorted(path.parent.name for path in store.root.rglob("sample.json"))


# ---------------------------------------------------------------- in every mode


def test_a_sample_is_made_once(store: PreparedStore) -> None:
    make = Maker()
    for _ in range(3):
        sample = store.get("k", "a", make)
        np.testing.assert_array_equal(sample.img_data, make_sample().img_data)
        np.testing.assert_array_equal(sample.seg_data, make_sample().seg_data)
        np.testing.assert_array_equal(sample.extended["affine"], np.eye(4))
        assert sample.index == "a"
    assert make.calls == 1
    info = store.info()
    assert (info["made"], info["hits"]) == (1, 2)
    assert (info["ram_bytes"] == 0) == (info["disk_bytes"] > 0)
    assert info["ram_bytes"] in (0, BYTES)


def test_changed_settings_are_noticed(store: PreparedStore) -> None:
    """Defect: prepared samples reused although the subfunctions changed."""
    assert store.get("old", "a", lambda: make_sample(value=1)).img_data.max() == 1
    assert store.get("new", "a", lambda: make_sample(value=2)).img_data.max() == 2
    assert store.get("old", "a", Maker()).img_data.max() == 1


def test_samples_that_print_alike_are_kept_apart(store: PreparedStore) -> None:
    values = {1: 1.0, "1": 2.0, "a.b": 3.0, "a": 4.0, "../a": 5.0, ("a",): 6.0}
    for _ in range(2):
        for index, value in values.items():
            sample = store.get("k", index, lambda index=index, value=value: make_sample(index, value))  # type: ignore[misc]
            assert sample.img_data.max() == value
            assert sample.index == index
    assert store.info()["made"] == len(values)


def test_callers_cannot_damage_the_store(store: PreparedStore) -> None:
    for _ in range(3):
        sample = store.get("k", "a", make_sample)
        assert sample.details == {"fill": [0.0]}
        assert sample.history == [{"step": "Clipping"}]
        assert sample.extended["names"] == ["x"]
        np.testing.assert_array_equal(sample.extended["affine"], np.eye(4))
        for array in (sample.img_data, sample.seg_data):
            assert array is not None
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 7
        sample.details["fill"].append(1)
        sample.history[0]["step"] = "x"
        sample.extended["names"].append("y")
        sample.extended["affine"][:] = 0
        sample.img_data = np.zeros((1, 1, 1, 1))


def test_the_arrays_that_make_returned_stay_writable(store: PreparedStore) -> None:
    sample = make_sample()
    own = sample.img_data
    assert not store.get("k", "a", lambda: sample).img_data.flags.writeable
    own[...] = 0


def test_an_error_is_not_kept(store: PreparedStore) -> None:
    with pytest.raises(ZeroDivisionError):
        store.get("k", "a", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert store.get("k", "a", make_sample).index == "a"
    assert store.info()["made"] == 1


def test_threads_that_ask_for_the_same_sample_make_it_once(store: PreparedStore) -> None:
    asking = threading.Semaphore(0)

    def make_when_all_ask() -> Sample:
        assert all(asking.acquire(timeout=30) for _ in range(8))
        return make_sample()

    def ask(_: int) -> Sample:
        asking.release()
        return store.get("k", "a", make)

    make = Maker(make_when_all_ask)
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(ask, range(8)))
    assert make.calls == 1
    assert all(sample.img_data.max() == 1 for sample in samples)
    assert len({id(sample.details) for sample in samples}) == 8
    assert store.info()["hits"] == 7


def test_an_error_reaches_every_waiter(store: PreparedStore) -> None:
    asking = threading.Semaphore(0)

    def fail() -> Sample:
        assert all(asking.acquire(timeout=30) for _ in range(4))
        time.sleep(0.05)  # those that are about to wait have to begin: one that comes later makes the sample itself
        raise ZeroDivisionError("the scan is broken")

    def ask() -> Sample:
        asking.release()
        return store.get("k", "a", make)

    make = Maker(fail)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask) for _ in range(4)]
        errors = [future.exception(30) for future in futures]
    assert [str(error) for error in errors] == ["the scan is broken"] * 4
    assert make.calls == 1


def test_different_samples_are_made_at_the_same_time(store: PreparedStore) -> None:
    together = threading.Barrier(2)

    def make() -> Sample:
        together.wait(5)  # breaks if one has to wait for the other
        return make_sample()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(store.get, "k", index, make) for index in ("a", "b")]:
            assert future.result(10).img_data.max() == 1


def test_what_is_no_sample_is_refused(store: PreparedStore) -> None:
    with pytest.raises(TypeError, match="a Sample is needed"):
        store.get("k", "a", lambda: None)  # type: ignore[arg-type, return-value]


def test_samples_with_something_that_no_file_can_hold(store: PreparedStore, caplog: pytest.LogCaptureFixture) -> None:
    """A user's own interface may hand on a header object; it works all the same."""

    def with_header() -> Sample:
        sample = make_sample()
        sample.extended["header"] = threading.Lock()
        return sample

    with caplog.at_level(logging.WARNING):
        for index in ("a", "b", "a"):
            assert store.get("k", index, with_header).extended["header"].locked() is False
    assert len(caplog.records) == (0 if store.budget else 1)
    assert folders(store) == []


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("budget", [-1, 1.5, "1 GB", None, True])
def test_a_budget_that_is_none(tmp_path: Path, budget: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"budget \(bytes\) must be a whole number"):
        PreparedStore(tmp_path, budget, persistent=False)


def test_the_budget_is_kept_and_the_rest_goes_to_disk(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path / "store", 2 * BYTES + 100, persistent=False)
    make = Maker()
    for _ in range(3):
        samples = [store.get("k", index, make) for index in range(5)]
    assert make.calls == 5
    assert [isinstance(sample.img_data, np.memmap) for sample in samples] == [False, False, True, True, True]
    assert store.info()["ram_bytes"] == 2 * BYTES
    assert 3 * BYTES - 500 < store.info()["disk_bytes"] < 3 * BYTES + 5000
    assert len(folders(store)) == 3


def test_a_cut_out_does_not_keep_the_whole_volume_in_memory(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path, 2**30, persistent=False)
    volume = np.zeros((64, 64, 64), np.float32)

    def crop() -> Sample:
        return Sample("a", volume[:8], 1, 2, three_dim=True)

    kept = store.get("k", "a", crop).img_data
    assert not np.shares_memory(kept, volume)
    whole = store.get("k", "b", lambda: Sample("b", volume, 1, 2, three_dim=True)).img_data
    assert np.shares_memory(whole, volume)  # no second copy of what is stored whole


def test_samples_in_fortran_order_are_turned_once(tmp_path: Path) -> None:
    image = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 6, 7)))
    store = PreparedStore(tmp_path, 2**30, persistent=False)
    kept = store.get("k", "a", lambda: Sample("a", image, 1, 2, three_dim=True)).img_data
    assert kept.flags.c_contiguous
    np.testing.assert_array_equal(kept[..., 0], image)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_what_an_interface_has_mapped_is_kept_without_its_file(tmp_path: Path) -> None:
    """Defect: with a thousand such samples the open files ran out, and a file that was written anew changed them."""
    file = tmp_path / "scan.npy"
    np.save(file, np.ones((16, 16, 16), np.float32))

    def mapped() -> Sample:
        return Sample("a", np.load(file, mmap_mode="r"), 1, 2, three_dim=True)

    store = PreparedStore(tmp_path / "store", 2**30, persistent=False)
    gc.collect()  # what earlier tests have left open
    before = len(os.listdir("/proc/self/fd"))
    for index in range(20):
        store.get("k", index, mapped)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    with file.open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"\0\0\0\0")
    assert store.get("k", 0, mapped).img_data.min() == 1
    assert store.info()["ram_bytes"] == 20 * VOXELS * 4


def test_what_does_not_fit_is_not_copied_to_find_that_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: a volume in Fortran order was turned before the budget was looked at."""

    def cannot(*arguments: Any, **options: Any) -> Path:
        raise UnstorableError("no file holds this")

    monkeypatch.setattr(prepared_store, "write_sample", cannot)
    sample = make_sample()
    sample.img_data = np.ones((1, 64, 64, 64), np.float32).T
    store = PreparedStore(tmp_path / "store", BYTES, persistent=False)
    tracemalloc.start()
    try:
        store.get("k", "a", lambda: sample)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert store.info()["ram_bytes"] == 0
    assert peak < sample.img_data.nbytes / 4


def test_new_settings_take_the_memory_of_old_ones(tmp_path: Path) -> None:
    """Defect: after a change of the subfunctions in a notebook, everything came from disk."""
    store = PreparedStore(tmp_path / "store", budget=3 * BYTES, persistent=False)
    for key in ("first", "second", "third"):
        for index in "abc":
            store.get(key, index, make_sample)
            assert store.peek(key, index) is not None
        assert store.info()["ram_bytes"] == 3 * BYTES
        assert store.info()["disk_bytes"] == 0
    assert store.peek("second", "a") is None


def test_memory_holds_the_two_versions_used_last(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path / "store", budget=2**30, persistent=False)
    store.get("a label map", "a", make_sample)
    store.get("none", "a", make_sample)
    store.get("a label map", "a", make_sample)
    store.get("of another", "b", make_sample)
    store.get("new", "a", make_sample)
    assert store.info()["ram_bytes"] == 3 * BYTES
    assert store.peek("none", "a") is None
    assert store.peek("a label map", "a") is not None
    assert store.peek("of another", "b") is not None


def test_two_versions_used_in_turn_are_not_made_over_and_over(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path / "store", budget=BYTES, persistent=False)
    for _ in range(5):
        for key in ("training", "prediction"):
            store.get(key, "a", make_sample)
    assert store.info()["made"] == 3
    assert store.info()["ram_bytes"] == BYTES


def test_a_version_that_would_not_fit_anyway_replaces_none(tmp_path: Path) -> None:
    def large() -> Sample:
        sample = make_sample()
        sample.img_data = np.ones((16, 16, 16, 4), np.float32)
        return sample

    store = PreparedStore(tmp_path / "store", budget=BYTES, persistent=False)
    store.get("small", "a", make_sample)
    store.get("large", "a", large)
    assert store.info()["ram_bytes"] == BYTES
    assert store.get("small", "a", Maker()).img_data.max() == 1
    assert store.info()["made"] == 2


def test_what_is_beyond_memory_does_not_fill_the_disk_with_old_versions(tmp_path: Path) -> None:
    """Defect: in a notebook in which settings change, each change left another copy of all samples on disk."""
    store = PreparedStore(tmp_path / "store", budget=0, persistent=False)
    for turn in range(2):
        for number in range(VERSIONS_KEPT + 3):
            for index in "ab":
                store.get(f"k{number}", index, make_sample)
        assert len(folders(store)) == 2 * VERSIONS_KEPT
        assert store.info()["disk_bytes"] < 2 * VERSIONS_KEPT * (BYTES + 2000)
        assert store.peek(f"k{VERSIONS_KEPT + 2}", "a") is not None
        assert store.peek("k0", "a") is None
        assert store.info()["made"] == (turn + 1) * 2 * (VERSIONS_KEPT + 3)
        store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_thousands_of_samples_do_not_use_up_the_file_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_store, "_OPEN_SAMPLES", 5)
    store = PreparedStore(tmp_path, 0, persistent=True)
    before = len(os.listdir("/proc/self/fd"))
    for index in range(30):
        store.get("k", index, lambda index=index: make_sample(index))  # type: ignore[misc]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 5 * 2


def test_the_samples_used_last_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_store, "_OPEN_SAMPLES", 2)
    store = PreparedStore(tmp_path, 0, persistent=True)
    first = store.get("k", "a", make_sample).img_data
    for index in "bac":
        latest = store.get("k", index, make_sample).img_data
    assert store.get("k", "a", make_sample).img_data is first
    assert store.get("k", "c", make_sample).img_data is latest


@pytest.mark.parametrize(
    ("descriptors", "samples"), [(1024, 128), (256, 32), (64, 32), (2**20, 1024), (-1, 1024)]
)  # -1: no limit
def test_samples_that_stay_open_take_a_quarter_of_the_descriptors(
    descriptors: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (descriptors, descriptors))
    assert prepared_store._open_samples() == samples


def test_files_go_when_the_store_does(tmp_path: Path) -> None:
    for end in ("close", "with", "collected"):
        store = PreparedStore(tmp_path / "store", 0, persistent=False)
        store.get("k", "a", make_sample)
        assert folders(store) == ["a.k"]
        if end == "close":
            store.close()
            assert store.get("k", "a", make_sample).img_data.max() == 1  # it may be used again
            store.close()
        elif end == "with":
            with store:
                pass
        else:
            del store
            gc.collect()
        assert list(tmp_path.iterdir()) == []


def test_files_are_let_go_before_they_are_removed_at_the_programs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that somebody has open."""
    store = PreparedStore(tmp_path / "store", 0, persistent=False)
    mapped = weakref.ref(store.get("k", "a", make_sample).img_data)
    let_go = []
    monkeypatch.setattr(sample_files.shutil, "rmtree", lambda *_, **__: let_go.append(mapped() is None))
    assert store._cleaner is not None
    store._cleaner()  # as `atexit` does, while the store is still there
    assert let_go == [True]


def test_closing_leaves_the_files_of_others(tmp_path: Path) -> None:
    first, second = (PreparedStore(tmp_path / "store", 0, persistent=False) for _ in range(2))
    for store in (first, second):
        store.get("k", "a", make_sample)
    (first.root / "notes.txt").write_text("mine")
    first.close()
    assert second.get("k", "a", Maker(lambda: 1 / 0)).img_data.max() == 1  # type: ignore[arg-type, return-value]
    second.close()
    assert [path.name for path in first.root.iterdir()] == ["notes.txt"]


def test_files_that_somebody_removed_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_store, "_OPEN_SAMPLES", 0)
    store = PreparedStore(tmp_path / "store", 0, persistent=False)
    store.get("k", "a", make_sample)
    sample_files.shutil.rmtree(store.root)
    make = Maker()
    assert store.get("k", "a", make).img_data.max() == 1
    assert make.calls == 1


EXITS = """
    import os, sys
    import numpy as np
    from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
    from miscnn_tf.data_loading.sample import Sample
    store = PreparedStore(sys.argv[1], 0, persistent=False)
    sample = store.get("k", "a", lambda: Sample("a", np.ones((9, 9)), 1, 2))
    child = os.fork()
    if child == 0:
        sys.exit(0)  # runs the child's exit handlers
    os.waitpid(child, 0)
    print(len(list(store.root.rglob("sample.json"))))
    if sys.argv[2] == "error":
        raise SystemExit(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["end", "error"])
def test_files_go_when_the_program_ends_but_not_when_a_forked_worker_does(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(EXITS), str(tmp_path / "store"), how]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "1", result.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- persistent


def test_another_run_finds_what_was_prepared(tmp_path: Path) -> None:
    with PreparedStore(tmp_path, 0, persistent=True) as store:
        store.get("k", "case_0", make_sample)
    assert [path.name for path in tmp_path.iterdir()] == ["case_0.k"]
    make = Maker()
    sample = PreparedStore(tmp_path, 0, persistent=True).get("k", "case_0", make)
    assert make.calls == 0
    assert isinstance(sample.img_data, np.memmap)


def test_a_damaged_sample_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PreparedStore(tmp_path, 0, persistent=True).get("k", "a", make_sample)
    image = tmp_path / "a.k" / "image.npy"
    image.write_bytes(image.read_bytes()[:-1])
    make, store = Maker(), PreparedStore(tmp_path, 0, persistent=True)
    assert store.get("k", "a", make).img_data.shape == (16, 16, 16, 1)
    assert make.calls == 1
    assert "damaged" in caplog.text


def test_the_versions_longest_unused_are_removed(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path, 0, persistent=True)
    for number in range(VERSIONS_KEPT):
        store.get(f"k{number}", "a", make_sample)
        os.utime(tmp_path / f"a.k{number}" / "sample.json", (number, number))
    store.get("k", "a.k0", make_sample)  # another sample, whatever its name looks like
    assert len(folders(store)) == VERSIONS_KEPT + 1

    # Another run uses the oldest, which notes the time; then a fifth version comes.
    later = PreparedStore(tmp_path, 0, persistent=True)
    later.get("k0", "a", Maker(lambda: 1 / 0))  # type: ignore[arg-type, return-value]
    later.get("k9", "a", make_sample)
    assert folders(later) == ["a.k0", "a.k0.k", "a.k2", "a.k3", "a.k9"]
    assert later.info()["disk_bytes"] > 2 * BYTES


def test_versions_with_a_dot_in_their_key(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path, 0, persistent=True)
    for number in range(VERSIONS_KEPT + 2):
        store.get(f"v1.{number}", "a", make_sample)
    later = PreparedStore(tmp_path, 0, persistent=True)
    later.get("v2.0", "a", make_sample)
    assert len(folders(later)) == VERSIONS_KEPT


def test_a_folder_that_another_process_replaces_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    PreparedStore(tmp_path, 0, persistent=True).get("k", "a", make_sample)
    read = prepared_store.read_sample
    calls = []

    def replaced_while_reading(folder: Path) -> Sample:
        calls.append(folder)
        if len(calls) == 1:
            (tmp_path / "a.k").rename(tmp_path / "gone")
            sample_files.write_sample(tmp_path / "a.k", make_sample(value=2))
            raise DataError("image.npy is missing")
        return read(folder)

    monkeypatch.setattr(prepared_store, "read_sample", replaced_while_reading)
    make = Maker()
    assert PreparedStore(tmp_path, 0, persistent=True).get("k", "a", make).img_data.max() == 2
    assert make.calls == 0
    assert caplog.text == ""


def test_of_two_processes_the_faster_ones_sample_stays(tmp_path: Path) -> None:
    def slower() -> Sample:
        PreparedStore(tmp_path, 0, persistent=True).get("k", "a", lambda: make_sample(value=1))
        return make_sample(value=2)

    assert PreparedStore(tmp_path, 0, persistent=True).get("k", "a", slower).img_data.max() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.k"]


def test_two_runs_with_different_settings_do_not_undo_each_others_work(tmp_path: Path) -> None:
    runs = {key: PreparedStore(tmp_path, 0, persistent=True) for key in ("one", "two")}
    makers = {key: Maker() for key in runs}
    for _ in range(4):
        for key, store in runs.items():
            for index in range(3):
                store.get(key, index, makers[key])
    assert [make.calls for make in makers.values()] == [3, 3]


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path: Path) -> None:
    fresh, old = (tmp_path / f".{name}{sample_files.TEMPORARY_ENDING}" for name in ("fresh", "old"))
    for folder in (fresh, old):
        folder.mkdir()
        (folder / "image.npy").write_bytes(b"half")
    (tmp_path / ".other").mkdir()
    os.utime(old, (0, 0))
    os.utime(tmp_path / ".other", (0, 0))
    PreparedStore(tmp_path, 0, persistent=True).get("k", "a", make_sample)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([fresh.name, ".other", "a.k"])


MAKES = """
    import sys
    import numpy as np
    from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
    from miscnn_tf.data_loading.sample import Sample
    store = PreparedStore(sys.argv[1], 0, persistent=True)
    for turn in range(3):
        for number in range(6):
            def make():
                return Sample(number, np.full((40, 40), number, np.float32), 1, 2)
            for key in range(6):
                sample = store.get(str((key + int(sys.argv[2])) % 6), number, make)
                assert sample.img_data.shape == (40, 40, 1)
                assert (sample.img_data == number).all()
"""


def test_processes_on_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(MAKES), str(tmp_path)]
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "damaged" not in errors
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# ---------------------------------------------------------------- disk full


@pytest.mark.parametrize("persistent", [True, False])
def test_a_full_disk_is_named_with_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, persistent: bool
) -> None:
    store = PreparedStore(tmp_path / "store", 0, persistent=persistent)
    store.get("k", "a", make_sample)
    usage = sample_files.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sample_files.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
        with pytest.raises(
            StorageError, match=rf"store in {store.root} cannot take .*'b', which needs 0\.0 MB: .*Make room"
        ):
            store.get("k", "b", make_sample)
    assert store.get("k", "a", Maker(lambda: 1 / 0)).img_data.max() == 1  # type: ignore[arg-type, return-value]
    assert store.get("k", "b", make_sample).img_data.max() == 1
    store.close()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_file_in_the_folders_place(tmp_path: Path, persistent: bool) -> None:
    (tmp_path / "taken").write_text("")
    store = PreparedStore(tmp_path / "taken" / "store", 0, persistent=persistent)
    with pytest.raises(StorageError, match="could not create the folder"):
        store.get("k", "a", make_sample)


def test_what_a_killed_run_left_is_removed_at_once_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    """Two runs share a prepared folder; a third one was killed in it."""
    own = this_process()
    dead = tmp_path / f".{replace(own, process=2**22 - 1).text}00000.unfinished"
    writing = temporary_beside(tmp_path / "b.k")
    for folder in (dead, writing):
        folder.mkdir()
        (folder / "image.npy").write_bytes(b"half")
    os.utime(writing, (0, 0))
    PreparedStore(tmp_path, 0, persistent=True)  # also where all is prepared, and nothing is written
    assert list(tmp_path.iterdir()) == [writing]
    PreparedStore(tmp_path, 0, persistent=True).get("k", "a", make_sample)
    assert sorted(tmp_path.iterdir()) == sorted([writing, tmp_path / "a.k"])
