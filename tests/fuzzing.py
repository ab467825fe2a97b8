"""Damaged inputs for a reader, and a process with limits in which it reads them.

A reader holds when each input gives a right result or one error of this package, within its limits of memory and time.
"""

from __future__ import annotations

import copy
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from miscnn_tf.errors import MiscnnError

#: ``number`` mutations: some in every run of the tests, many before an issue is resolved (``-m slow``).
how_many = pytest.mark.parametrize("number", [200, pytest.param(10_000, marks=pytest.mark.slow)])

#: One file's content, or the contents of several files by their path below the input's folder.
Input = bytes | Mapping[str, bytes]

_INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "0", "1.0", "\0", "../x", "/etc/passwd", "C:\\x", "é", "\ud800", "a" * 300, "nan"),
    *([], {}, [0], [None], [[]], {"": None}, {"a": {"b": []}}, [1, 2, 3, 4, 5]),
)


def mutations(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Copies of `data` with one to four random faults: flipped bits, other numbers, lost, repeated or foreign bytes."""
    draw = random.Random(seed)
    for _ in range(number):
        yield mutated(data, draw)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A copy of `data` with one to four random faults."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # Headers come first, and matter most.
        end = len(changed) if draw.random() < 0.5 else min(len(changed), 512)
        place = draw.randrange(max(1, end))
        fault = draw.randrange(7)
        if fault < 2 and changed:
            changed[min(place, len(changed) - 1)] ^= 1 << draw.randrange(8)
        elif fault == 2:
            size = draw.choice((1, 2, 4, 8))
            order = draw.choice(("little", "big"))
            changed[place : place + size] = (draw.choice(_INTERESTING) % 2 ** (8 * size)).to_bytes(size, order)
        elif fault == 3:
            changed[place : place + draw.choice((1, 4, 16, 200))] = b""
        elif fault == 4:
            changed[place:place] = changed[place : place + draw.choice((1, 8, 64))]
        elif fault == 5:
            changed[place : place + 8] = draw.randbytes(8)
        else:
            del changed[place:]
    return bytes(changed)


def truncations(data: bytes) -> Iterator[bytes]:
    """Every proper beginning of `data`, the empty one included."""
    return (data[:end] for end in range(len(data)))


def bit_flips(data: bytes) -> Iterator[bytes]:
    """Every copy of `data` in which one bit is another."""
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            yield bytes(changed)


def altered(document: Any, number: int, seed: int) -> Iterator[Any]:
    """Copies of a document of dicts and lists in which one to three values, keys or branches are others, or gone."""
    draw = random.Random(seed)
    for _ in range(number):
        changed = copy.deepcopy(document)
        for _ in range(draw.choice((1, 1, 2, 3))):
            changed = _altered_once(changed, draw)
        yield changed


def _altered_once(document: Any, draw: random.Random) -> Any:
    places = [(None, None), *_places(document)]
    parent, key = places[draw.randrange(len(places))] if draw.random() < 0.97 else (None, None)
    if parent is None:
        return copy.deepcopy(draw.choice(_VALUES)) if draw.random() < 0.1 else document
    fault = draw.randrange(4)
    if fault == 0:
        del parent[key]
    elif fault == 1 and isinstance(parent, dict):
        parent[draw.choice(("", "unknown", "0", str(key) + " "))] = parent.pop(key)
    else:
        parent[key] = copy.deepcopy(draw.choice(_VALUES))
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in list(items):
        yield document, key
        yield from _places(value)


@dataclass
class Fuzzed:
    """What became of the inputs.

    Attributes:
        results: How many were read.
        refused: How many gave an error of this package.
        failures: A line for each that gave something else.
    """

    results: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


def fuzz(
    read: Callable[[Path], Any],
    inputs: Iterable[Input],
    folder: Path,
    name: str,
    *,
    judge: Callable[[Path, Any], str | None] | None = None,
    memory: int = 2**29,
    seconds: float = 5.0,
) -> Fuzzed:
    """Let a reader read each input in a process of its own, with a limit on address space and on processor time.

    Args:
        read: The reader. It gets the path of the file, or of the folder where the inputs are several files.
        inputs: The inputs. Failing ones are kept in ``folder / "failures"``.
        folder: An empty folder for them.
        name: Name of the file or folder; an error has to contain it.
        judge: Returns what is wrong with the result for the file, or None. It runs without limits.
        memory: Bytes of address space that reading may take beyond what the process has.
        seconds: Processor time that reading may take.
    """
    fuzzed = Fuzzed()
    context = multiprocessing.get_context("fork")
    waiting = list(enumerate(inputs))
    while waiting:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_read_all, args=(theirs, read, waiting, folder, name, judge, memory, seconds))
        process.start()
        theirs.close()
        done = 0
        try:
            while done < len(waiting):
                outcome = ours.recv()
                done += 1
                if outcome is None:
                    fuzzed.results += 1
                elif outcome == "":
                    fuzzed.refused += 1
                else:
                    fuzzed.failures.append(outcome)
        except EOFError:  # the process was ended by a signal
            process.join()
            number, content = waiting[done]
            kept = folder / "failures" / str(number) / name
            _write(kept, content)
            died = signal.Signals(-process.exitcode).name if (process.exitcode or 0) < 0 else str(process.exitcode)
            limit = f"more than {seconds} s of processor time" if died == "SIGPROF" else f"the process ended ({died})"
            fuzzed.failures.append(f"input {number}: {limit}; see {kept}")
            done += 1
        process.join()
        waiting = waiting[done:]
    return fuzzed


def _read_all(
    answers: Connection,
    read: Callable[[Path], Any],
    inputs: list[tuple[int, Input]],
    folder: Path,
    name: str,
    judge: Callable[[Path, Any], str | None] | None,
    memory: int,
    seconds: float,
) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for number, content in inputs:
        path = folder / "input" / name
        shutil.rmtree(path.parent, ignore_errors=True)
        _write(path, content)
        complaint: str | None = None
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory, unlimited[1]))
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            result = read(path)
        except MiscnnError as error:
            complaint = "" if name in str(error) else f"the error does not name the input: {error}"
        except BaseException as error:  # the kind of failure that is looked for
            places = traceback.extract_tb(error.__traceback__)
            last = next((place for place in reversed(places) if "miscnn_tf" in place.filename), places[-1])
            complaint = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
        if complaint is None and judge is not None:
            try:
                complaint = judge(path, result)
            except Exception as error:
                complaint = f"the judge cannot tell: {type(error).__name__}: {str(error)[:200]}"
        if complaint:
            kept = folder / "failures" / str(number)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(path.parent, kept)
            complaint = f"input {number}: {complaint}; see {kept}"
        answers.send(complaint)
    answers.close()
    sys.stdout.flush()


def _write(path: Path, content: Input) -> None:
    if isinstance(content, bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return
    for below, part in content.items():
        _write(path / below, part)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
