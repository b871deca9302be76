"""Ctrl-C on a terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path


def interrupted(command: list[str], folder: Path, environment: dict[str, str], when: bytes) -> tuple[int, str]:
    """Runs a command on a terminal and interrupts it once ``when`` is on its screen: exit code, the screen."""
    terminal, screen = os.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=screen,
        # A test runner in the background of a shell ignores the signal, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(screen)
    seen, sent, deadline = b"", False, time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    piece = os.read(terminal, 4096)
                except OSError:  # the other end is closed
                    break
                seen += piece
                if not piece:
                    break
            if when in seen and not sent:
                process.send_signal(signal.SIGINT)
                sent = True
        return process.wait(timeout=60), seen.decode()
    finally:
        process.kill()
        os.close(terminal)
