"""Files of ``torch.save`` without PyTorch: tensors and plain values, and nothing that could run code.

PyTorch writes a zip archive with a pickle, ``<name>/data.pkl``, beside the bytes of each tensor,
``<name>/data/<key>``. Reading a pickle as Python does calls whatever functions it names. Here its operations are listed
by `pickletools`, which calls nothing, and followed by a machine that knows containers, numbers and text, and only the
functions in `_CALLS`, each of which is our own. Others are refused by name.
"""

from __future__ import annotations

import math
import pickletools
import reprlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np

from miscnn_tf.errors import MissingDataError, ModelFileError

#: Largest pickle. That of a network with thousands of weights has about a megabyte; numbers are in other files.
_MOST_BYTES: Final = 64 * 2**20
#: Types of storages by their names in PyTorch.
_DTYPES: Final = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_ORDERS: Final[Mapping[bytes, Literal["<", ">"]]] = {b"little": "<", b"big": ">"}
#: Most axes of a tensor, those of an array of numpy.
_MOST_AXES: Final = 32
#: Types of keys. The hash of nested tuples could take forever.
_KEYS: Final = (str, int, float, bool, type(None))
_MARK: Final = object()


@dataclass(frozen=True)
class _Name:
    """A name of Python that the pickle refers to; nothing is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    number: int


@dataclass(frozen=True)
class _Dtype:
    """A type of numpy; its state, the order of the bytes, follows in the pickle."""

    name: str

    def ordered(self, order: Any) -> _Dtype:
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"{reprlib.repr(order)} is not an order of bytes")
        return _Dtype(f"{'' if order == '=' else order}{self.name.lstrip('<>|=')}")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is read when it is asked for.

    Attributes:
        shape: Its shape.
    """

    shape: tuple[int, ...]
    _file: TorchFile
    _storage: _Storage
    _offset: int
    _strides: tuple[int, ...]

    def numpy(self) -> np.ndarray:
        """Read it.

        Returns:
            A new array; bfloat16 becomes float32.

        Raises:
            ModelFileError: If its bytes are damaged.
        """
        values = self._file.read_storage(self._storage)
        steps = [values.itemsize * stride for stride in self._strides]
        return np.lib.stride_tricks.as_strided(values[self._offset :], self.shape, steps).copy()


class TorchFile:
    """An open file of ``torch.save``, in the zip format that PyTorch has written since version 1.6.

    Args:
        path: The file.

    Attributes:
        path: The file.
        content: Its value: plain Python containers, numbers, text, None, and a `StoredTensor` for each tensor. The name
            of a device (``torch.device``) is text.

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it has another format, is damaged, or contains anything else. The message names what.

    Example:
        >>> with TorchFile("checkpoint_final.pth") as file:  # doctest: +SKIP
        ...     weights = {name: one.numpy() for name, one in file.content["network_weights"].items()}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._size = self.path.stat().st_size
            self._archive = zipfile.ZipFile(self.path)
        except FileNotFoundError as error:
            raise MissingDataError(f"the file {self.path} does not exist") from error
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self._damaged(
                f"it is not a zip archive ({error}); PyTorch before 1.6 wrote another format: save it again with "
                "torch.save of a newer version"
            ) from error
        try:
            self._members = self._checked_members()
            self._order = self._read_order()
            self.content: Any = self._read_content()
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file; tensors can no longer be read."""
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def read_storage(self, storage: _Storage) -> np.ndarray:
        """Return the numbers of a storage as a flat array."""
        width = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
        data = self._read(f"data/{storage.key}", storage.number * width)
        if storage.dtype == "bfloat16":  # the upper half of a float32
            upper = np.frombuffer(data, f"{self._order}u2").astype(np.uint32)
            return (upper << 16).view(np.float32)
        return np.frombuffer(data, np.dtype(storage.dtype).newbyteorder(self._order))

    def _damaged(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path} cannot be read: {reason}")

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        """Return the members by their names without the archive's folder.

        PyTorch stores members uncompressed, so that their sizes together cannot exceed that of the file.
        """
        members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for member in self._archive.infolist():
            name = member.filename.partition("/")[2]
            if name in members:
                raise self._damaged(f"the archive has two members of the name {reprlib.repr(name)}")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise self._damaged(f"{reprlib.repr(member.filename)} is compressed, which PyTorch does not do")
            total += member.file_size
            members[name] = member
        if total > self._size:
            raise self._damaged(f"its members have {total} bytes, but the file has {self._size}")
        if "data.pkl" not in members:
            raise self._damaged("the archive has no data.pkl, as files of torch.save have")
        return members

    def _read(self, name: str, size: int | None = None) -> bytes:
        member = self._members.get(name)
        if member is None:
            raise self._damaged(f"the archive has no {reprlib.repr(name)}")
        if size is not None and member.file_size != size:
            raise self._damaged(f"{reprlib.repr(name)} has {member.file_size} bytes, but {size} are described")
        try:
            return self._archive.read(member)
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise self._damaged(f"{reprlib.repr(name)} is damaged ({error})") from error

    def _read_order(self) -> Literal["<", ">"]:
        # Files of PyTorch before 2.1 do not name the order.
        order = self._read("byteorder") if "byteorder" in self._members else b"little"
        if order not in _ORDERS:
            raise self._damaged(f"the order of the bytes is {reprlib.repr(order)}, not little or big")
        return _ORDERS[order]

    def _read_content(self) -> Any:
        if self._members["data.pkl"].file_size > _MOST_BYTES:
            raise self._damaged(f"its data.pkl has more than {_MOST_BYTES} bytes, which no network needs")
        machine = _Machine(self)
        try:
            return machine.run(self._read("data.pkl"))
        except ModelFileError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise self._damaged(f"its data.pkl is damaged ({error})") from error


class _Machine:
    """Follows the operations of a pickle."""

    def __init__(self, file: TorchFile) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                (result,) = self._stack
                return result
            step = _OPERATIONS.get(operation.name)
            if step is None:
                raise self._refused(f"the operation {operation.name}")
            step(self, argument)
        raise ValueError("it has no end")

    def _refused(self, what: str) -> ModelFileError:
        return ModelFileError(
            f"{self._file.path} is not read: it contains {what}, which files of network weights do not need and which "
            "could run code. Ask its author for a file with weights and plain values only"
        )

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def name(self, module: str, name: str) -> None:
        known = _Name(module, name)
        if (module, name) not in _CALLS and not (module == "torch" and name in _DTYPES):
            raise self._refused(f"a reference to {reprlib.repr(str(known))}")
        self.push(known)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or (function.module, function.name) not in _CALLS:
            raise self._refused(f"a call of {function if isinstance(function, _Name) else type(function).__name__}")
        if not isinstance(arguments, tuple):
            raise ValueError("the arguments of a call are not a tuple")
        self.push(_CALLS[function.module, function.name](self, *arguments))

    def build(self) -> None:
        state, value = self.pop(), self._stack[-1]
        if isinstance(value, _Dtype):
            if not isinstance(state, tuple) or len(state) < 2:
                raise ValueError(f"the state of a type of numpy is {reprlib.repr(state)}")
            self._stack[-1] = value.ordered(state[1])
            for place, known in self._memo.items():
                if known is value:
                    self._memo[place] = self._stack[-1]
        # The state of a dictionary of weights has versions of layers, which weights do not need.
        elif not (isinstance(value, dict) and isinstance(state, dict)):
            raise self._refused(f"a state of {value if isinstance(value, _Name) else type(value).__name__}")

    def storage(self) -> None:
        kind, typed, key, _, number = self.pop()
        if kind != "storage" or not isinstance(typed, _Name) or typed.name not in _DTYPES:
            raise ValueError("an external value is not a storage")
        if type(number) is not int or number < 0 or not isinstance(key, str):
            raise ValueError(f"a storage has the name {reprlib.repr(key)} and {reprlib.repr(number)} numbers")
        self.push(_Storage(key, _DTYPES[typed.name], number))

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor has no storage")
        if not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise ValueError("the sizes and strides of a tensor are not tuples")
        for one in (offset, *shape, *strides):
            if type(one) is not int or one < 0:
                raise ValueError(f"{reprlib.repr(one)} is not an offset, size or stride of a tensor")
        if len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise ValueError(f"a tensor has the sizes {reprlib.repr(shape)} and the strides {reprlib.repr(strides)}")
        size = math.prod(shape)
        last = offset + sum((one - 1) * stride for one, stride in zip(shape, strides, strict=True))
        if size and (last >= storage.number or size > storage.number):
            raise ValueError(
                f"a tensor of the shape {reprlib.repr(shape)} exceeds its storage of {storage.number} numbers"
            )
        return StoredTensor(tuple(shape), self._file, storage, offset if size else 0, tuple(strides))


def _scalar(machine: _Machine, dtype: Any, data: Any = b"") -> Any:
    """Return a number of numpy as one of Python."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise ValueError("a number of numpy has no type or no bytes")
    kind = np.dtype(dtype.name)
    if kind.kind not in "biuf" or len(data) != kind.itemsize:
        raise ValueError(f"a number of numpy has the type {reprlib.repr(dtype.name)} and {len(data)} bytes")
    return np.frombuffer(data, kind)[0].item()


def _dtype(machine: _Machine, name: Any, *_: Any) -> _Dtype:
    if not isinstance(name, str) or len(name) > 3:
        raise ValueError(f"{reprlib.repr(name)} is not a type of numpy")
    return _Dtype(name)


def _encoded(machine: _Machine, text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes, which protocol 2 writes as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are not written as Latin text")
    return text.encode("latin1")


def _ordered(machine: _Machine, *pairs: Any) -> dict[Any, Any]:
    if pairs and pairs != ((),) and pairs != ([],):
        raise ValueError("an ordered dictionary is made of something else than nothing")
    return {}


def _device(machine: _Machine, *parts: Any) -> str:
    if not 1 <= len(parts) <= 2 or not isinstance(parts[0], str) or not all(isinstance(one, int) for one in parts[1:]):
        raise ValueError("a device is not a name and a number")
    return ":".join(map(str, parts))


#: What a pickle may call, each with our own function.
_CALLS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _Machine.tensor,
    ("torch._utils", "_rebuild_parameter"): lambda machine, tensor, *_: tensor,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): _ordered,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encoded,
}


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine._stack[-1]
    if not isinstance(target, list):
        raise ValueError("something is appended to what is not a list")
    target.extend(items)


def _set(machine: _Machine, items: list[Any]) -> None:
    target = machine._stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("something is set in what is not a dictionary")
    _require_keys(items[::2])
    target.update(zip(items[::2], items[1::2], strict=True))


def _add(machine: _Machine, items: list[Any]) -> None:
    target = machine._stack[-1]
    if not isinstance(target, set):
        raise ValueError("something is added to what is not a set")
    _require_keys(items)
    target.update(items)


def _require_keys(keys: list[Any]) -> None:
    for key in keys:
        if not isinstance(key, _KEYS):
            raise ValueError(f"a key is a {type(key).__name__}")


def _remember(machine: _Machine, place: int) -> None:
    machine._memo[place] = machine._stack[-1]


def _last(machine: _Machine, number: int) -> tuple[Any, ...]:
    items = tuple(machine._stack[-number:])
    if len(items) < number:
        raise ValueError("the stack is empty")
    del machine._stack[-number:]
    return items


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.name(module, name)


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a reference is not text")
    machine.name(module, name)


def _plain(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


_PLAIN: Final = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"),
)
_OPERATIONS: Final[Mapping[str, Callable[[_Machine, Any], Any]]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(_PLAIN, _plain),
    "MARK": lambda machine, _: machine.push(_MARK),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(_last(machine, 1)),
    "TUPLE2": lambda machine, _: machine.push(_last(machine, 2)),
    "TUPLE3": lambda machine, _: machine.push(_last(machine, 3)),
    "APPEND": lambda machine, _: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.since_mark()),
    "SETITEM": lambda machine, _: _set(machine, list(_last(machine, 2))),
    "SETITEMS": lambda machine, _: _set(machine, machine.since_mark()),
    "ADDITEMS": lambda machine, _: _add(machine, machine.since_mark()),
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine._memo)),
    "BINGET": lambda machine, place: machine.push(machine._memo[place]),
    "LONG_BINGET": lambda machine, place: machine.push(machine._memo[place]),
    "GLOBAL": _global,
    "STACK_GLOBAL": lambda machine, _: _stack_global(machine),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage(),
}
