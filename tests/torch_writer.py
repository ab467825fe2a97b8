"""A writer of PyTorch's files for tests, which needs no PyTorch."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
    "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage",
}  # fmt: skip


@dataclass
class Raw:
    """Operations that are written as they are."""

    data: bytes


@dataclass
class Writer:
    """Operations of a pickle of protocol 2, as PyTorch writes them, and the bytes of the tensors.

    Arrays of numpy become tensors, its numbers stay numbers of numpy.
    """

    data: bytes = b"\x80\x02"
    storages: list[bytes] = field(default_factory=list)

    def write(self, value: Any) -> None:
        if isinstance(value, Raw):
            self.data += value.data
        elif value is None or isinstance(value, bool):
            self.data += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif isinstance(value, np.generic):
            self.data += b"cnumpy.core.multiarray\nscalar\n"
            self.data += b"cnumpy\ndtype\n" + self._of((value.dtype.str[1:], False, True)) + b"R"
            self.data += self._of((3, "<", None, None, None, -1, -1, 0)) + b"b"
            self.data += b"c_codecs\nencode\n" + self._of((value.tobytes().decode("latin1"), "latin1")) + b"R\x86R"
        elif isinstance(value, int):
            number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.data += b"\x8a" + bytes([len(number)]) + number
        elif isinstance(value, float):
            self.data += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            text = value.encode()
            self.data += b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(value, tuple | list | dict):
            parts = [part for pair in value.items() for part in pair] if isinstance(value, dict) else value
            start, end = {tuple: (b"(", b"t"), list: (b"](", b"e"), dict: (b"}(", b"u")}[type(value)]
            self.data += start + b"".join(map(self._of, parts)) + end
        else:
            self._tensor(np.asarray(value))

    def _of(self, value: Any) -> bytes:
        """Return the operations of a value, and keep its tensors."""
        other = Writer(b"", self.storages)
        other.write(value)
        return other.data

    def _tensor(self, array: np.ndarray) -> None:
        key, kind = str(len(self.storages)), STORAGES[array.dtype.str[1:]]
        self.storages.append(array.tobytes())
        storage = b"(" + self._of("storage") + f"ctorch\n{kind}\n".encode()
        storage += self._of(key) + self._of("cpu") + self._of(array.size) + b"tQ"
        strides = tuple(stride // array.itemsize for stride in np.array(array, order="C").strides)
        self.data += b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage
        self.data += b"".join(map(self._of, (0, array.shape, strides, False)))
        self.data += b"ccollections\nOrderedDict\n)R" + b"tR"


def write_torch_file(path: Path, value: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a file as ``torch.save`` does."""
    writer = Writer()
    writer.write(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", writer.data + b".")
        archive.writestr("archive/byteorder", "little")
        for key, data in enumerate(writer.storages):
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path
