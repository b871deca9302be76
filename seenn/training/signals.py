"""SIGTERM and Ctrl-C as a request: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from seenn.distributed import World


class StopRequest:
    """Whether, and by which signal, somebody asked this run to stop."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        self.name = signal.Signals(number).name

    def asked(self, here: World) -> bool:
        """Whether any of the processes was asked; then all of them leave after the same step."""
        if here.size == 1:
            return bool(self.name)
        asked = bool(here.max_(torch.tensor(int(bool(self.name)))))
        self.name = self.name or ("a signal to another process" if asked else "")
        return asked


@contextmanager
def stop_requests(wanted: object) -> Iterator[StopRequest]:
    """Inside, SIGTERM and the first Ctrl-C only mark the request, if there is anything to save (``wanted``)."""
    request = StopRequest()
    if wanted is None or threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
