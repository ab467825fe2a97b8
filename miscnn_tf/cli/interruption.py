"""Ctrl-C and SIGTERM end the program within seconds, whatever its threads are doing."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

#: Exit codes from here on say that a signal ended the program: the signal's number is added, as a shell does.
INTERRUPTED: Final = 128
#: What the user sees of an interruption.
MESSAGE: Final = "\nmiscnn-tf: interrupted; what was finished is kept\n"
_INTERRUPT: Final = int(signal.SIGINT)
_ENDING: Final = tuple(int(getattr(signal, name)) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# From the signal to the end of the process. Interpreter and TensorFlow alone take 1 to 8 s to shut down in order, and
# each thread finishes the sample that it reads or resamples first, which takes up to a minute.
_GRACE = 1.5
_FLUSH = 0.3


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, or its terminal was closed.

    Attributes:
        signal_number: The signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return 130 for Ctrl-C, 143 for SIGTERM.

    Example:
        >>> exit_code(KeyboardInterrupt())
        130
    """
    number = interruption.signal_number if isinstance(interruption, Terminated) else _INTERRUPT
    return INTERRUPTED + number


@contextmanager
def quick_interruption() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM, and end the process soon after any interruption.

    Python hears of a signal only between two of its own instructions: not while TensorFlow compiles or a volume is
    resampled. Therefore a thread of its own waits, and ends the process when the main thread has not done so.
    Everything that the package writes is complete or not there under its name, so that this costs no finished work.
    Signals that are ignored, as under ``nohup``, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {}
    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            handlers[number] = signal.signal(number, _terminate)
    threading.Thread(target=_end_after, args=(ours,), name="interruption", daemon=True).start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        theirs.close()


def end_process(code: int) -> NoReturn:
    """End the process without waiting for its threads; in `quick_interruption`, which limits how long this takes."""
    with suppress(BaseException):
        atexit._run_exitfuncs()  # temporary folders are removed there
    _flush()
    os._exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def _end_after(ours: socket.socket) -> None:
    """Wait for a signal that ends the process; the second one ends it at once."""
    with ours:
        first = _next_signal(ours)
        if first is None:
            return
        ours.settimeout(_GRACE)
        with suppress(TimeoutError):
            if _next_signal(ours) is None:  # the block has ended, and its caller sees to the rest
                return
        _flush(MESSAGE)
        os._exit(INTERRUPTED + first)


def _next_signal(ours: socket.socket) -> int | None:
    """The next signal that ends the process; None when the other end is closed."""
    while number := ours.recv(1):
        if number[0] in (_INTERRUPT, *_ENDING):
            return number[0]
    return None


def _flush(last_words: str = "") -> None:
    def flush() -> None:
        for stream, text in ((sys.stdout, ""), (sys.stderr, last_words)):
            with suppress(Exception):
                stream.write(text)
                stream.flush()

    # A reader that does not read may block it for ever.
    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    thread.join(_FLUSH)
