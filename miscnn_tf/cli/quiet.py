"""Keep what native libraries print while they start off the terminal, unless it matters."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start_tensorflow(verbose: int = 0) -> None:
    """Import TensorFlow and let it look for devices, which takes seconds; what it writes then is held back.

    Args:
        verbose: Above 0 lets its messages through.
    """
    if "tensorflow" not in sys.modules:
        print("Starting TensorFlow …", flush=True)
    with held_back_stderr(hold=not verbose):
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs, and says so


@contextmanager
def held_back_stderr(hold: bool = True) -> Iterator[None]:
    """Hold back all that is written to standard error, also by C++ code; it comes out if the block fails.

    TensorFlow writes a dozen lines about CPU instructions and missing CUDA drivers when it is imported, before any of
    its settings for that take effect. A newcomer takes them for errors.

    Args:
        hold: False lets everything through.
    """
    try:
        number = sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        hold = False  # no real file behind it: a notebook, a test
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
