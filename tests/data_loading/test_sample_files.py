from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from miscnn_tf.data_loading.cache import sample_files
from miscnn_tf.data_loading.cache.sample_files import UnstorableError, encode_name, read_sample, write_sample
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError, MissingDataError, StorageError


def make_sample(index: Any = "case_0", shape: tuple[int, ...] = (4, 5, 6)) -> Sample:
    rng = np.random.default_rng(0)
    affine = np.array([[0.7, 0.1, 0, -3], [0, 2, 0, 1e-17], [0, 0, 3, 0], [0, 0, 0, 1]])
    sample = Sample(
        index,
        rng.normal(size=shape).astype(np.float32),
        channels=1,
        classes=3,
        extended={"type": "nifti", "affine": affine, "spacing": np.array([0.7, 2, 3], np.float32)},
        three_dim=len(shape) == 3,
    )
    sample.add_segmentation(rng.integers(0, 3, shape, np.uint8))
    return sample


def assert_same(first: Any, second: Any) -> None:
    """Equal in type, too, all the way down; NaN equals NaN."""
    assert type(first) is type(second), (first, second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second or first != first


@pytest.mark.parametrize("mmap", [True, False])
def test_everything_comes_back(tmp_path: Path, mmap: bool) -> None:
    sample = make_sample()
    sample.add_prediction(np.random.default_rng(1).random((4, 5, 6, 3)), activation_output=True)
    sample.img_data = sample.img_data[1:]  # a step cropped it: shape is that of the file
    sample.details = {
        "locations": {1: np.arange(300).reshape(100, 3), 2: None},
        "spacing": (1.0, 1.0, 2.5),
        "n": np.int64(3),
    }
    sample.history = [{"step": "Clipping", "position": 0}]
    again = read_sample(write_sample(tmp_path / "x", sample), mmap=mmap)

    for name in ("img_data", "seg_data", "pred_data"):
        first, second = getattr(sample, name), getattr(again, name)
        np.testing.assert_array_equal(first, second)
        assert first.dtype == second.dtype
        assert isinstance(second, np.memmap) is mmap
        assert second.flags.writeable is not mmap
    assert (again.index, again.channels, again.classes, again.three_dim) == ("case_0", 1, 3, True)
    assert again.shape == (4, 5, 6, 1)
    assert_same(again.extended, sample.extended)
    assert_same(again.history, sample.history)
    sample.details["n"] = 3
    assert_same(again.details, sample.details)


def test_what_is_missing_stays_missing(tmp_path: Path) -> None:
    sample = Sample(7, np.zeros((4, 5), np.int16), 1, 2)
    again = read_sample(write_sample(tmp_path / "x", sample))
    assert again.seg_data is None
    assert again.pred_data is None
    assert again.index == 7
    assert again.img_data.dtype == np.int16


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | hnp.arrays(
        hnp.integer_dtypes(endianness="?")
        | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
        | hnp.boolean_dtypes()
        | hnp.complex_number_dtypes(sizes=(64,)),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$array", "$tuple", "$dict", "$"]), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=6,
)
IMAGES = hnp.arrays(
    hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.boolean_dtypes(),
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=IMAGES, details=st.dictionaries(st.text(max_size=4), VALUES, max_size=3), index=st.text() | st.integers())
def test_round_trip_of_anything(tmp_path: Path, image: np.ndarray, details: dict[str, Any], index: str | int) -> None:
    sample = Sample(index, image, 1, 2, extended=details, three_dim=image.ndim == 3)
    sample.details = details
    sample.history = [details]
    try:
        folder = write_sample(tmp_path / encode_name(index), sample)
    except UnicodeEncodeError:
        pytest.fail("a name or text that is no valid Unicode must not matter")
    again = read_sample(folder)
    np.testing.assert_array_equal(again.img_data, sample.img_data)
    assert again.img_data.dtype == image.dtype
    assert_same(again.details, details)
    assert_same(again.extended, details)
    assert_same(again.history, [details])
    assert_same(again.index, index)
    assert_same(read_sample(folder, mmap=False).details, details)


@pytest.mark.parametrize("order", ["F", "strided"])
def test_arrays_are_written_in_c_order_block_by_block(
    tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_files, "_BLOCK_BYTES", 64)
    image = np.random.default_rng(0).normal(size=(7, 6, 10))
    image = np.asfortranarray(image) if order == "F" else image[::-1, ::2, 1:]
    again = read_sample(write_sample(tmp_path / "x", Sample("a", image, 1, 2, three_dim=True)))
    np.testing.assert_array_equal(again.img_data[..., 0], image)
    assert again.img_data.flags.c_contiguous


# ---------------------------------------------------------------- names


@settings(deadline=None)
@given(st.text() | st.integers() | st.tuples(st.text(max_size=2)), st.text() | st.integers())
def test_names_are_safe_and_different(first: Any, second: Any) -> None:
    names = [encode_name(first), encode_name(second)]
    assert (names[0] == names[1]) == (first == second)
    for name in names:
        assert name
        assert not name.startswith(".")
        assert not set(name) & set('/\\:*?"<>| \0\n')
        assert name.isascii()
        assert len(name) < 200


def test_names_of_usual_data_sets_can_be_read() -> None:
    assert encode_name("case_00000") == "case_00000"
    assert encode_name("sub-01.T1~w") == "sub-01.T1~w"
    assert encode_name("a" * 500) != encode_name("a" * 501)
    assert encode_name(np.int64(3)) == encode_name(3) != encode_name("3")


# ---------------------------------------------------------------- what must not be stored


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"details": {"a": [0, len]}}, r"details\['a'\]\[1\] is a builtin_function_or_method"),
        ({"extended": {"header": object()}}, r"extended\['header'\] is a object"),
        ({"details": {"a": np.full(3, None)}}, r"details\['a'\] is an array of Python objects"),
        ({"details": {"a": b"x"}}, "is a bytes"),
        ({"history": [{(len,): 1}]}, "is a builtin"),
        ({"img_data": np.full((2, 2, 1), None)}, "img_data is a array of object"),
        ({"pred_data": np.full((2, 2, 1), "a")}, "pred_data is a array of <U1"),
    ],
)
def test_python_objects_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    sample = make_sample()
    for name, value in change.items():
        setattr(sample, name, value)
    with pytest.raises(UnstorableError, match=rf"sample 'case_0': .*{named}"):
        write_sample(tmp_path / "x", sample)
    assert list(tmp_path.iterdir()) == []


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["image.npy", "array_0.npy"])
@pytest.mark.parametrize("form", ["pickle", "object array"])
def test_no_code_runs_from_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    sample = make_sample()
    sample.details = {"a": np.zeros(1000)}
    folder = write_sample(tmp_path / "x", sample)
    with (folder / name).open("wb") as file:
        if form == "pickle":
            pickle.dump(Bomb(), file)
        else:
            np.save(file, np.array([Bomb()], object), allow_pickle=True)
    for mmap in (True, False):
        with pytest.raises(DataError, match="is damaged"):
            read_sample(folder, mmap=mmap)
    assert not (tmp_path / "exploded").exists()


# ---------------------------------------------------------------- damage


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["image.npy", "segmentation.npy", "array_0.npy", "sample.json"])
@pytest.mark.parametrize(
    "damage", [_cut, Path.unlink, lambda path: path.write_bytes(b""), lambda p: p.write_bytes(b"\xff" * 99)]
)
def test_a_damaged_folder_says_so_and_what_to_do(tmp_path: Path, name: str, damage: Any) -> None:
    sample = make_sample()
    sample.details = {"a": np.zeros(1000)}
    folder = write_sample(tmp_path / "x", sample)
    damage(folder / name)
    for mmap in (True, False):
        with pytest.raises(DataError, match=rf"{folder} is damaged \(.*\); delete this folder") as caught:
            read_sample(folder, mmap=mmap)
        assert not isinstance(caught.value, MissingDataError)


def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "x", make_sample())
    with (folder / "image.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**5, 10**5, 10**3, 1)}
        np.lib.format.write_array_header_2_0(file, header)
    with pytest.raises(DataError, match="is damaged"):
        read_sample(folder, mmap=False)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"index": ["x"]},
        {"arrays": ["segmentation.npy"]},
        {"details": 3},
        {"extended": {"a": {"$array": {"dtype": "O", "shape": [1], "values": [1]}}}},
        {"extended": {"a": {"$array": "../../x"}}},
        {"extended": {"a": {"$array": {"dtype": "<f8", "shape": [3], "values": [1]}}}},
    ],
)
def test_a_file_that_somebody_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_sample(tmp_path / "x", make_sample())
    content = json.loads((folder / "sample.json").read_text())
    (folder / "sample.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(DataError, match="is damaged"):
        read_sample(folder)


def test_a_missing_folder_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="does not hold a stored sample"):
        read_sample(tmp_path / "x")


def test_too_many_open_files_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sample(tmp_path / "x", make_sample())

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(sample_files.np, "memmap", refuse)
    with pytest.raises(OSError, match="Too many open files") as caught:
        read_sample(folder)
    assert not isinstance(caught.value, DataError)


# ---------------------------------------------------------------- writing


def test_overwriting_replaces_the_whole_sample(tmp_path: Path) -> None:
    write_sample(tmp_path / "x", make_sample())
    write_sample(tmp_path / "x", make_sample("other", (3, 3)), overwrite=False)
    assert read_sample(tmp_path / "x").index == "case_0"
    second = Sample("other", np.zeros((3, 3)), 1, 2)
    write_sample(tmp_path / "x", second)
    assert read_sample(tmp_path / "x").seg_data is None
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="could not create the folder"):
        write_sample(tmp_path / "taken" / "x", make_sample())


def test_a_disk_without_room_is_noticed_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = sample_files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(sample_files.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StorageError, match=r"it needs 0\.0 MB, but only 0\.0 MB are free there; make room"):
        write_sample(tmp_path / "x", make_sample())
    assert list(tmp_path.iterdir()) == []


WRITER = """
    import resource, signal, sys
    import numpy as np
    from miscnn_tf.data_loading.cache import sample_files
    from miscnn_tf.data_loading.sample import Sample
    folder, what = sys.argv[1:]
    sample_files.write_sample(folder + "/before", Sample("before", np.ones((9, 9)), 1, 2))
    if what == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    else:
        write = sample_files._write_array
        def write_and_die(path, array):
            if path.name == "segmentation.npy":
                import os
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, array)
        sample_files._write_array = write_and_die
    sample = Sample("x", np.ones((99, 99, 99)), 1, 2, three_dim=True)
    sample.add_segmentation(np.ones((99, 99, 99), np.int64))
    sample_files.write_sample(folder + "/x", sample)
"""


def _run_writer(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), what]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits on file size")
def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    result = _run_writer(tmp_path, "full")
    assert result.returncode == 1
    assert (
        f"StorageError: could not write the sample 'x' to {tmp_path / 'x'}: File too large. It needs 14.8 MB"
        in result.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    assert read_sample(tmp_path / "before").img_data.sum() == 81


def test_a_killed_writer_leaves_no_half_sample(tmp_path: Path) -> None:
    result = _run_writer(tmp_path, "killed")
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / "before").is_dir()
    left = [path for path in tmp_path.iterdir() if path.name != "before"]
    assert len(left) == 1
    assert left[0].name.startswith(".")
    assert (left[0] / "image.npy").is_file()
    with pytest.raises(MissingDataError):
        read_sample(tmp_path / "x")
