"""Handling of Ctrl-C and SIGTERM, so that they end the program within seconds."""

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

#: Exit code of a program that was ended by a signal, minus the number of the signal, as in shells.
INTERRUPTED: Final = 128
#: Message after an interruption.
MESSAGE: Final = "\nmiscnn-tf: interrupted; what was finished is kept\n"
_INTERRUPT: Final = int(signal.SIGINT)
_ENDING: Final = tuple(int(getattr(signal, name)) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Seconds from the signal to the end of the process. An orderly shutdown of interpreter and TensorFlow takes 1 to 8 s,
# and a thread may need up to a minute to finish reading or resampling a sample.
_GRACE = 1.5
_FLUSH = 0.3

_received: list[int] = []


class Terminated(KeyboardInterrupt):
    """Interruption by SIGTERM, or by SIGHUP when the terminal is closed.

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
def errors_after_a_signal_as_interruptions() -> Iterator[None]:
    """Raise `Terminated` for an error that follows a signal: TensorFlow's callbacks turn exceptions into others."""
    try:
        yield
    except Exception as error:
        if not _received:
            raise
        raise Terminated(_received[0]) from error


@contextmanager
def quick_interruption() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM, and end the process soon after any interruption.

    Python handles signals only between two instructions of the interpreter, not while TensorFlow compiles or a volume
    is resampled. A separate thread therefore waits for signals, and ends the process if the main thread does not.
    No finished work is lost, because the package writes files atomically. Ignored signals, as under ``nohup``, stay
    ignored. After the block Ctrl-C and SIGTERM end the process at once: the block must be the last step of a program.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    handlers = {}
    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            handlers[number] = signal.signal(number, _terminate)
    threading.Thread(target=_end_after, args=(receiver,), name="interruption", daemon=True).start()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # The program is over: during the shutdown of the interpreter a KeyboardInterrupt would print a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        sender.close()


def end_process(code: int) -> NoReturn:
    """End the process without waiting for its threads; call it in `quick_interruption`, which limits its duration."""
    with suppress(BaseException):
        atexit._run_exitfuncs()  # they remove temporary folders
    _flush()
    os._exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise Terminated(number)


def _end_after(receiver: socket.socket) -> None:
    """Wait for a signal, and end the process after the grace period or a second signal."""
    with receiver:
        first = _next_signal(receiver)
        if first is None:
            return
        _received.append(first)
        receiver.settimeout(_GRACE)
        with suppress(TimeoutError):
            if _next_signal(receiver) is None:  # the block has ended
                return
        _flush(MESSAGE)
        os._exit(INTERRUPTED + first)


def _next_signal(receiver: socket.socket) -> int | None:
    """Return the number of the next interrupting signal; None if the other end is closed."""
    while number := receiver.recv(1):
        if number[0] in (_INTERRUPT, *_ENDING):
            return number[0]
    return None


def _flush(message: str = "") -> None:
    def flush() -> None:
        for stream, text in ((sys.stdout, ""), (sys.stderr, message)):
            with suppress(Exception):
                stream.write(text)
                stream.flush()

    # In a thread, because a full pipe may block it forever.
    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    thread.join(_FLUSH)
