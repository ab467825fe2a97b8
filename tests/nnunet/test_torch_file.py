"""The reader of PyTorch's files: plain values and tensors, and nothing that could run code."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_writer import Raw, write_torch_file

from miscnn_tf.errors import MiscnnError, MissingDataError, ModelFileError
from miscnn_tf.nnunet.torch_file import StoredTensor, TorchFile

#: A Python with PyTorch, which writes the files that the reader is compared with.
TORCH = os.environ.get("MISCNN_TF_NNUNET_PYTHON")


def plain(value):
    """Return a value with arrays in place of tensors."""
    if isinstance(value, StoredTensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def read(path: Path):
    with TorchFile(path) as file:
        return plain(file.content)


def raw(path: Path, operations: bytes, **members: bytes) -> Path:
    """Write a file with these operations and members."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + operations)
        for name, data in members.items():
            archive.writestr(f"archive/data/{name}", data)
    return path


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 2)])
def test_tensors_of_all_types_are_read(tmp_path, rng, kind, shape):
    array = np.asarray(rng.random(shape) * 10).astype(kind)
    found = read(write_torch_file(tmp_path / "one.pth", {"weights": array}))["weights"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_values_of_a_checkpoint_are_read(tmp_path):
    value = {
        "plans": {"spacing": [1.0, 0.5, 0.5], "keys": (1, 2, (3, None)), "large": 2**70, "negative": -3},
        "best": np.float64(0.75),
        "number": np.int64(-4),
        "float": np.float32(0.5),
        "flag": True,
        "ü": "text",
        "empty": {},
    }
    assert read(write_torch_file(tmp_path / "one.pth", value)) == value


@pytest.mark.skipif(TORCH is None, reason="MISCNN_TF_NNUNET_PYTHON names no Python with PyTorch")
def test_files_of_pytorch_are_read_as_it_reads_them(tmp_path):
    program = """
import sys, numpy, torch
from torch import nn
network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True))
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
network(torch.randn(1, 1, 8, 8, 8)).sum().backward()
optimizer.step()
table = torch.arange(24.0).reshape(4, 6)
value = {
    "network_weights": network.state_dict(), "optimizer_state": optimizer.state_dict(), "grad_scaler_state": None,
    "logging": {"ema": [numpy.float64(0.5), numpy.float32(0.25)], "flag": numpy.bool_(True)},
    "init_args": {"device": torch.device("cuda", 1), "fold": "all"}, "axes": (0, 1, 2),
    "view": table[1:3, ::2], "turned": table.T, "bfloat16": torch.tensor([1.5, -2.0, 3e38]).bfloat16(),
    "parameter": nn.Parameter(torch.ones(2)), "scalar": torch.tensor(3.0),
}
torch.save(value, sys.argv[1])
numpy.savez(
    sys.argv[2], weight=network[0].weight.detach(), view=table[1:3, ::2], turned=table.T,
    bfloat16=value["bfloat16"].float(), buffer=optimizer.state_dict()["state"][0]["momentum_buffer"],
)
"""
    done = subprocess.run(
        [TORCH, "-c", program, tmp_path / "a.pth", tmp_path / "a.npz"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "a.pth")
    with np.load(tmp_path / "a.npz") as expected:
        np.testing.assert_array_equal(found["network_weights"]["0.weight"], expected["weight"])
        np.testing.assert_array_equal(found["optimizer_state"]["state"][0]["momentum_buffer"], expected["buffer"])
        for name in ("view", "turned", "bfloat16"):
            np.testing.assert_array_equal(found[name], expected[name])
    assert found["logging"] == {"ema": [0.5, 0.25], "flag": True}
    assert found["init_args"] == {"device": "cuda:1", "fold": "all"}
    assert (found["axes"], found["scalar"].item(), found["parameter"].tolist()) == ((0, 1, 2), 3.0, [1.0, 1.0])


class Attack:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (exec, "open({!r}, 'w')"), (os.mkdir, "{}"), (open, "{}")],
)
def test_code_does_not_run(tmp_path, protocol, function, argument):
    trace = tmp_path / "trace"
    attack = Attack(function, argument.format(str(trace)), *(["w"] if function is open else []))
    path = tmp_path / "attack.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"network_weights": {}, "evil": attack}, protocol))
    with pytest.raises(ModelFileError, match=r"attack.pth .*(could run code|damaged)"):
        TorchFile(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (b"cos\nsystem\n.", r"a reference to 'os.system'"),
        (b"cbuiltins\neval\n.", r"a reference to 'builtins.eval'"),
        (b"cnumpy\nload\n.", r"a reference to 'numpy.load'"),
        (b"ctorch.hub\nload\n.", r"a reference to 'torch.hub.load'"),
        (b"ctorch\nload\n.", r"a reference to 'torch.load'"),
        (b"\x8c\x02os\x8c\x06system\x93.", r"a reference to 'os.system'"),
        (b"ctorch\nFloatStorage\n)R.", r"a call of torch.FloatStorage"),
        (b"ccollections\nOrderedDict\n)\x81.", "the operation NEWOBJ"),
        (b"(ios\nsystem\n.", "the operation INST"),
        (b"\x82\x01.", "the operation EXT1"),
        (b"ccollections\nOrderedDict\n}b.", "a state of collections.OrderedDict"),
        (b"]}b.", "a state of list"),
        (b"ctorch\ndevice\n(ctorch\nFloatStorage\ntR.", "a device is not a name"),
        (b"ccollections\nOrderedDict\n(]K\x01atR.", "ordered dictionary is made of something else"),
        (b"}((K\x01tK\x02u.", "a key is a tuple"),
        (b"K\x01K\x02.", "data.pkl is damaged"),
        (b"K\x01", "data.pkl is damaged"),
        (b"h\x05.", "data.pkl is damaged"),
        (b"u.", "data.pkl is damaged"),
        (b".", "data.pkl is damaged"),
        (b"", "data.pkl is damaged"),
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.", None),
    ],
)
def test_what_weights_do_not_need_is_refused(tmp_path, operations, message):
    path = raw(tmp_path / "one.pth", operations)
    if message is None:  # a type alone is no object of it
        TorchFile(path).close()
        return
    with pytest.raises(ModelFileError, match=message):
        TorchFile(path)


def tensor(number=4, offset=0, shape=(4,), strides=(1,), key=b"0"):
    """Operations of a tensor of float32."""

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", one) for one in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key
    storage += b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", number) + b"tQ"
    sizes = b"J" + struct.pack("<i", offset) + numbers(shape) + numbers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + sizes + b"\x89ccollections\nOrderedDict\n)RtR."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (5,)}, "exceeds its storage of 4 numbers"),
        ({"offset": 1}, "exceeds its storage"),
        ({"strides": (2,)}, "exceeds its storage"),
        ({"shape": (1 << 30, 1 << 30), "strides": (0, 0)}, "exceeds its storage"),
        ({"shape": (2, 4), "strides": (0, 1)}, "exceeds its storage"),
        ({"offset": -1}, "-1 is not an offset, size or stride"),
        ({"shape": (-4,)}, "-4 is not an offset"),
        ({"strides": (-1,)}, "-1 is not an offset"),
        ({"strides": (1, 1)}, "has the sizes"),
        ({"number": -1}, "-1 numbers"),
        ({"shape": (1,) * 33, "strides": (1,) * 33}, "has the sizes"),
        ({"number": 5}, "'data/0' has 16 bytes, but 20 are described"),
        ({"number": 1 << 30}, "'data/0' has 16 bytes"),
        ({"key": b"1"}, "the archive has no 'data/1'"),
        ({"key": b"../../data.pkl"}, "the archive has no"),
    ],
)
def test_a_tensor_is_within_its_bytes(tmp_path, changes, message):
    path = raw(tmp_path / "one.pth", tensor(**changes), **{"0": np.arange(4, dtype="<f4").tobytes()})
    with pytest.raises(ModelFileError, match=message):
        read(path)
    good = raw(tmp_path / "two.pth", tensor(), **{"0": np.arange(4, dtype="<f4").tobytes()})
    assert read(good).tolist() == [0, 1, 2, 3]


def test_a_small_file_takes_no_large_memory_and_no_long_time(tmp_path):
    """Lists of lists of lists: printing or comparing them would never end."""
    bomb = b"}q\x00(K\x01t" + b"".join(b"q\x01h\x01\x86" for _ in range(200))
    for end in (b"K\x05u.", b"\x85R.", b"}b.", b"Q."):
        with pytest.raises(ModelFileError):
            TorchFile(raw(tmp_path / "one.pth", bomb + end))
    for call in (
        b"ctorch\ndevice\n",
        b"cnumpy\ndtype\n",
        b"c_codecs\nencode\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
    ):
        with pytest.raises(ModelFileError):
            TorchFile(raw(tmp_path / "one.pth", call + bomb[3:] + b"\x85R."))
    huge_place = b"K\x01r" + struct.pack("<I", 2**32 - 1) + b"."
    assert read(raw(tmp_path / "one.pth", huge_place)) == 1


def test_archives_that_pytorch_does_not_write_are_refused(tmp_path):
    path = tmp_path / "one.pth"
    with pytest.raises(MissingDataError, match="does not exist"):
        TorchFile(path)
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # the format before version 1.6
    with pytest.raises(ModelFileError, match=r"not a zip archive .*before 1.6 wrote another format"):
        TorchFile(path)
    write_torch_file(path, {"weights": np.zeros(10_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match=r"data.pkl' is compressed, which PyTorch does not do"):
        TorchFile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", "3")
    with pytest.raises(ModelFileError, match=r"has no data.pkl"):
        TorchFile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one/data.pkl", b"\x80\x02N.")
        archive.writestr("two/data.pkl", b"\x80\x02N.")
    with pytest.raises(ModelFileError, match=r"two members of the name 'data.pkl'"):
        TorchFile(path)


def test_random_damage_is_an_error_of_one_kind(tmp_path):
    """Each changed byte gives the same values, other values of the same kinds, or a `MiscnnError`."""
    path = write_torch_file(tmp_path / "one.pth", {"w": np.arange(6.0).reshape(2, 3), "p": [1, "a", np.float64(2)]})
    good, rng = path.read_bytes(), np.random.default_rng(0)
    failed = 0
    for _ in range(600):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged[: rng.integers(1, len(good))] if rng.random() < 0.2 else damaged))
        try:
            read(path)
        except MiscnnError:
            failed += 1
    assert failed > 300


def test_an_object_that_is_not_known_is_named_before_any_tensor_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(TorchFile, "read_storage", lambda *_: pytest.fail("read"))
    value = {"weights": np.zeros(3), "evil": Raw(b"cposix\nsystem\n(X\x02\x00\x00\x00lstR")}
    with pytest.raises(ModelFileError, match=r"contains a reference to 'posix.system', which .*could run code"):
        TorchFile(write_torch_file(tmp_path / "one.pth", value))
