from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzzing import altered, bit_flips, fuzz, mutations, truncations

from miscnn_tf.errors import DataError


def reader(path: Path) -> bytes:
    content = path.read_bytes()
    if content.startswith(b"refuse"):
        raise DataError(f"{path}: refused")
    if content.startswith(b"nameless"):
        raise DataError("refused")
    if content.startswith(b"raw"):
        raise KeyError("raw")
    if content.startswith(b"memory"):
        np.ones(2**31, np.uint8)
    if content.startswith(b"time"):
        while True:
            pass
    return content


def judge(path: Path, result: bytes) -> str | None:
    if result == b"undecided":
        raise ValueError("no reading to compare with")
    return "wrong result" if result == b"wrong" else None


def test_each_kind_of_failure_is_found_and_what_follows_is_read_nevertheless(tmp_path):
    inputs = [b"fine", b"refuse", b"nameless", b"raw", b"memory", b"time", b"wrong", b"undecided", b"fine"]

    fuzzed = fuzz(
        *(reader, inputs, tmp_path, "file.bin"),
        judge=judge,
        seconds=0.2,
    )

    assert (fuzzed.results, fuzzed.refused) == (2, 1)
    said = "\n".join(fuzzed.failures)
    assert len(fuzzed.failures) == 6, said
    for number, word in enumerate(
        ["does not name", "KeyError", "MemoryError", "processor time", "wrong result", "cannot tell"]
    ):
        assert word in fuzzed.failures[number], said
    assert (tmp_path / "failures" / "5" / "file.bin").read_bytes() == b"time"


def test_mutations_are_repeatable_and_differ():
    data = bytes(range(256)) * 4

    first, second = list(mutations(data, 50, 1)), list(mutations(data, 50, 1))

    assert first == second
    assert sum(one != data for one in first) > 40
    assert len(list(truncations(data))) == len(data)
    assert len(set(bit_flips(data[:10]))) == 80


def test_altered_documents_differ_and_the_original_stays():
    document = {"labels": {"background": 0, "organ": [1, 2]}, "name": "x"}

    changed = list(altered(document, 50, 1))

    assert document == {"labels": {"background": 0, "organ": [1, 2]}, "name": "x"}
    assert sum(repr(one) != repr(document) for one in changed) > 40
