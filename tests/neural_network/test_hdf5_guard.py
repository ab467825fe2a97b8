from __future__ import annotations

import io

import h5py
import keras
import numpy as np
import pytest

from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.hdf5_guard import check_hdf5

SECRET = b"SECRET: what another file on this machine holds"


@pytest.fixture
def check(tmp_path):
    """Checks a file that `fill` fills, once by its path and once from memory; returns what is said."""

    def run(fill, path=tmp_path / "weights.h5"):
        with h5py.File(path, "w", libver="latest") as file:
            fill(file)
        said = []
        for source in (path, io.BytesIO(path.read_bytes())):
            with h5py.File(source, "r") as file:
                try:
                    check_hdf5(file, path.stat().st_size, "model.keras")
                    said.append("")
                except ModelFileError as error:
                    said.append(str(error))
        assert said[0] == said[1]
        return said[0]

    return run


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint32", "int64", "bool"])
def test_groups_and_numbers_pass(check, dtype):
    def fill(file):
        group = file.create_group("layers/conv/vars")
        group["0"] = np.ones((3, 3, 1, 8), dtype)
        group["1"] = np.ones((), dtype)
        group["2"] = np.ones((0, 4), dtype)
        group["chunked"] = np.ones(10, dtype)
        group.create_dataset("in chunks", data=np.ones((16, 16), dtype), chunks=(8, 8))
        group.attrs["dtype"] = "bfloat16"
        file.attrs["names"] = np.array([b"a", b"bc"])
        file.attrs["texts"] = ["a", "bc"]
        file.attrs["numbers"] = np.arange(4)

    assert check(fill) == ""


def test_what_keras_writes_passes(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.GroupNormalization(-1)])
    model.compile("adam", "mse")
    model.fit(np.zeros((1, 8, 8, 1)), np.zeros((1, 6, 6, 2)), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.h5")

    for name in ("model.weights.h5", "model.h5"):
        with h5py.File(tmp_path / name, "r") as file:
            check_hdf5(file, (tmp_path / name).stat().st_size, name)


def test_external_storage_that_reads_a_local_file_is_refused(check, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)

    said = check(
        lambda file: file.create_dataset(
            "optimizer/vars/0", (len(SECRET),), "u1", external=[(str(tmp_path / "secret"), 0, len(SECRET))]
        )
    )

    assert "model.keras: '/optimizer/vars/0' has its values in another file" in said
    assert str(tmp_path / "secret") in said
    assert "SECRET:" not in said


def test_virtual_datasets_are_refused(check, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))

    assert "'/x' is a virtual dataset" in check(lambda file: file.create_virtual_dataset("x", layout))


def test_links_out_of_the_tree_are_refused(check):
    def external(file):
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/x")

    def soft(file):
        file["a"] = np.ones(3)
        file["b"] = h5py.SoftLink("/a")

    def cycle(file):
        file.create_group("a")["again"] = file["/"]

    def twice(file):
        file["a"] = np.ones(3)
        file["b"] = file["a"]

    assert "/layers is a link to /etc/passwd:/x" in check(external)
    assert "/b is a link to /a" in check(soft)
    assert "occurs twice" in check(cycle)
    assert "occurs twice" in check(twice)


def test_values_that_the_file_does_not_hold_are_refused(check):
    def fill_value(file):
        file.create_dataset("x", (2**30,), "f4", fillvalue=1.0)

    def unwritten_chunks(file):
        file.create_dataset("x", (2**30,), "f4", chunks=(2**20,))[:4] = 1

    def compressed(file):
        file.create_dataset("x", data=np.zeros(2**22, "f4"), compression="gzip")

    assert f"'/x' claims {2**32} bytes of values that are not in the file" in check(fill_value)
    assert f"'/x' claims {2**32} bytes of values that are not in the file" in check(unwritten_chunks)
    assert "'/x' is compressed" in check(compressed)


def test_other_types_than_numbers_are_refused(check):
    def references(file):
        file["a"] = np.ones(2)
        file.create_dataset("x", data=np.array([file["a"].ref], dtype=h5py.ref_dtype))

    def compound(file):
        file["x"] = np.zeros(2, [("a", "f4"), ("b", "i4")])

    def texts(file):
        file["x"] = ["a", "b"]

    def committed(file):
        file["x"] = np.dtype("f4")

    def in_attribute(file):
        file.attrs["x"] = file.ref

    assert "'/x' holds object, not numbers" in check(references)
    assert "'/x' holds [('a'" in check(compound)
    assert "'/x' holds object, not numbers" in check(texts)
    assert "/x is a named type" in check(committed)
    assert "'/' has an attribute 'x' of object" in check(in_attribute)


def test_a_file_that_is_cut_off_or_changed_gives_one_error(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        for layer in range(20):
            file[f"layers/{layer}/vars/0"] = np.ones(30, "f4")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] ^= 1 << int(rng.integers(8))
        try:
            with h5py.File(io.BytesIO(data), "r") as file:
                check_hdf5(file, len(data), "x")
                outcomes.add("read")
        except ModelFileError:
            outcomes.add("refused")
        except OSError:  # h5py.File itself refuses it
            outcomes.add("not opened")
    assert {"read", "refused"} <= outcomes
