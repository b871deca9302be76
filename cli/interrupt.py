"""Ctrl-C while libraries are being imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process by its signal instead of raising KeyboardInterrupt.

    torch, whose C code imports numpy, swallows the exception there and goes on with half of numpy. A handler of the
    caller's own stays, as does everything in threads, which cannot set one.
    """
    python = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not python:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, python)
