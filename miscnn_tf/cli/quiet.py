"""Suppression of start-up messages of native libraries."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start_tensorflow(verbose: int = 0) -> None:
    """Import TensorFlow and detect devices, which takes seconds, without its messages.

    Args:
        verbose: Show its messages if above 0.
    """
    if "tensorflow" not in sys.modules:
        print("Starting TensorFlow …", flush=True)
    with held_back_stderr(hold=not verbose):
        import tensorflow as tf

        tf.config.list_physical_devices()  # prints messages about GPUs


@contextmanager
def held_back_stderr(hold: bool = True) -> Iterator[None]:
    """Hide standard error of the block, also of C++ code. It is shown if the block fails.

    TensorFlow prints a dozen lines about CPU instructions and missing CUDA drivers during its import, before its
    settings take effect. New users may take them for errors.

    Args:
        hold: Hide it; False has no effect.
    """
    try:
        number = sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        hold = False  # not a file, for instance in notebooks and tests
    if not hold:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(number)
    with tempfile.TemporaryFile() as store:
        os.dup2(store.fileno(), number)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            store.seek(0)
            os.write(kept, store.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, number)
            os.close(kept)
